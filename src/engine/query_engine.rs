//! The query engine of a server: it follows changes of the lake, the catalog and the views, and opens sessions on them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arrow::datatypes::Schema;
use chrono::TimeDelta;
use datafusion::execution::SessionState;

use super::QueryError;
use super::account_tables::Account;
use super::budget::{Budget, MemoryLimits};
use super::catalog_tables::CatalogSource;
use super::ingest::{Ingest, IngestAssets, IngestError, IngestTimes};
use super::lanes::{LaneLimits, Lanes};
use super::public_schema::PublicSchema;
use super::published::{Publications, PublishedTables};
use super::raw_files::RawFiles;
use super::session::{QuerySession, bare_state};
use super::sessions::{Ground, Sessions};
use super::sql::SessionOption;
use super::task_memory;
use super::views::{Stamps, ViewFolder, Views};
use crate::catalog::{LiveCatalog, Snapshot, Visible};
use crate::clock;
use crate::config::ResampleSettings;
use crate::lake::Store;
use crate::memory;
use crate::search::Search;

/// The interval at which the lake and the views are checked for changes.
const POLL: Duration = Duration::from_secs(1);

/// The lake, the catalog and the views, on which sessions are opened.
pub struct QueryEngine {
    bare: Arc<SessionState>,
    sessions: Sessions,
    budget: Arc<Budget>,
    lanes: Arc<Lanes>,
    publications: Publications,
    raw: Arc<RawFiles>,
    readings: ResampleSettings,
    oldest_ingest: Option<TimeDelta>,
    catalog: LiveCatalog,
    search: Search,
    /// The folder in which other processes place search requests.
    search_requests: Option<PathBuf>,
    views: ViewFolder,
    views_in_force: RwLock<(Stamps, Arc<Views>)>,
    /// Increases when the views in force change.
    views_version: AtomicU64,
}

/// The limits of queries and ingests.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory and disk.
    pub memory: MemoryLimits,
    /// Threads and times.
    pub lanes: LaneLimits,
    /// The settings that define plausible times of ingested readings.
    pub readings: ResampleSettings,
    /// The maximum age of ingested readings; `None` for no limit.
    pub oldest_ingest: Option<TimeDelta>,
}

/// The scope of a session.
pub struct Scope {
    /// The assets that the session sees.
    pub visible: Arc<Visible>,
    /// The organisation's account and the user.
    pub account: Account,
    /// The options that the client has set.
    pub options: Vec<SessionOption>,
    /// The published tables; `None` for the newest.
    pub published: Option<Arc<PublishedTables>>,
}

impl QueryEngine {
    /// Opens the engine on the latest publication of `lake`, with the views in the folder `views`. Assets are found by
    /// `search`, which also serves requests of other processes in the folder `search_requests`.
    pub async fn open(
        lake: &Store,
        raw: RawFiles,
        catalog: LiveCatalog,
        search: Search,
        search_requests: Option<PathBuf>,
        views: &Path,
        limits: &Limits,
    ) -> Result<Self, QueryError> {
        task_memory::follow_tasks();
        memory::start_watchdog().map_err(QueryError::Threads)?;
        let budget = Arc::new(Budget::new(&limits.memory)?);
        let engine = Self {
            bare: Arc::new(bare_state(lake, budget.shared())?),
            sessions: Sessions::default(),
            budget,
            lanes: Lanes::start(limits.lanes).map_err(QueryError::Threads)?,
            publications: Publications::open(lake).await?,
            raw: Arc::new(raw),
            readings: limits.readings.clone(),
            oldest_ingest: limits.oldest_ingest,
            catalog,
            search,
            search_requests,
            views: ViewFolder::new(views.to_owned(), PublicSchema::table_names()),
            views_in_force: RwLock::default(),
            views_version: AtomicU64::default(),
        };
        engine.look_at_views().await;
        Ok(engine)
    }

    /// Checks for new tables and views each second, and keeps the search index up to date, while the future is polled.
    /// The catalog is updated independently.
    pub async fn keep_watch(&self) {
        tokio::join!(
            self.keep_looking(),
            self.raw.keep_watch(&self.lanes),
            self.search
                .follow(self.catalog.changes(), self.search_requests.as_deref())
        );
    }

    async fn keep_looking(&self) {
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            ticks.tick().await;
            match self.publications.look().await {
                Ok(()) => is_away = false,
                Err(error) if !is_away => {
                    is_away = true;
                    tracing::warn!("cannot check for new tables: {error}");
                }
                Err(_) => {}
            }
            self.look_at_views().await;
        }
    }

    /// Returns the catalog in force.
    pub fn catalog(&self) -> Arc<Snapshot> {
        self.catalog.snapshot()
    }

    /// Returns the query scheduler.
    pub fn lanes(&self) -> &Arc<Lanes> {
        &self.lanes
    }

    /// Returns the version of the views in force, which increases when they change.
    pub fn views_version(&self) -> u64 {
        self.views_version.load(Ordering::Acquire)
    }

    /// Returns the newest published tables.
    pub fn newest(&self) -> Arc<PublishedTables> {
        self.publications.newest()
    }

    /// Returns the tables that `run` published; `None` if they are gone.
    pub async fn published(&self, run: u64) -> Result<Option<Arc<PublishedTables>>, QueryError> {
        self.publications.of(run).await
    }

    /// Begins an ingest of readings for the `allowed` assets; they become the raw file `path`.
    pub fn ingest(
        &self,
        path: &str,
        schema: &Schema,
        allowed: IngestAssets,
    ) -> Result<Ingest, IngestError> {
        let now = clock::now();
        let oldest = self.oldest_ingest.map(|age| {
            let oldest = now.checked_sub_signed(age);
            oldest.map_or(i64::MIN, |oldest| oldest.timestamp_micros())
        });
        let times = IngestTimes {
            plausible: self.readings.plausible(now),
            oldest,
        };
        self.raw.ingest(path, schema, allowed, times)
    }

    /// Returns a session with the given scope.
    pub fn session(&self, scope: Scope) -> Result<QuerySession, QueryError> {
        let views = {
            let in_force = self.views_in_force.read();
            Arc::clone(&in_force.unwrap_or_else(PoisonError::into_inner).1)
        };
        let ground = Ground {
            published: scope.published.unwrap_or_else(|| self.newest()),
            catalog: self.catalog(),
            views,
            visible: scope.visible,
            account: scope.account,
            options: scope.options,
        };
        self.sessions.get(ground, |ground| {
            let public = self.public(
                Arc::clone(&ground.published),
                Arc::clone(&ground.catalog),
                Arc::clone(&ground.views),
                Arc::clone(&ground.visible),
            );
            QuerySession::new(
                &self.bare,
                public,
                Some(ground.account.clone()),
                &ground.options,
                Some(Arc::clone(&self.budget)),
            )
        })
    }

    fn public(
        &self,
        published: Arc<PublishedTables>,
        catalog: Arc<Snapshot>,
        views: Arc<Views>,
        visible: Arc<Visible>,
    ) -> PublicSchema {
        PublicSchema {
            published,
            raw: Some(Arc::clone(&self.raw)),
            catalog: Arc::new(CatalogSource::InForce(catalog)),
            views,
            search: Some(self.search.clone()),
            visible,
            bare: Arc::clone(&self.bare),
            within: Vec::new(),
        }
    }

    /// Puts changed views in force. Views that cannot be planned are left out, because they would break listings of all
    /// views.
    async fn look_at_views(&self) {
        let known = {
            let in_force = self.views_in_force.read();
            in_force.unwrap_or_else(PoisonError::into_inner).0.clone()
        };
        let Some((stamps, mut views)) = self.views.changed(&known) else {
            return;
        };
        // Views that depend on a view that was left out are removed by the next iterations.
        while let Some((name, problem)) = self.wrong_view(&views).await {
            tracing::warn!("ignored the view {name}: {problem}");
            views.remove(&name);
        }
        let mut in_force = self
            .views_in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *in_force = (stamps, Arc::new(views));
        self.views_version.fetch_add(1, Ordering::Release);
    }

    async fn wrong_view(&self, views: &Views) -> Option<(String, String)> {
        use datafusion::catalog::SchemaProvider;
        let shared = Arc::new(views.clone());
        let nothing = Arc::new(Visible::Only(Vec::new()));
        let public = self.public(self.newest(), self.catalog(), shared, nothing);
        for name in views.names() {
            if let Err(problem) = public.table(name).await {
                return Some((name.to_owned(), problem.strip_backtrace()));
            }
        }
        None
    }
}
