//! The query engine of a server: it follows changes of the lake, the catalog and the views, and opens sessions on them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arrow::datatypes::Schema;
use chrono::TimeDelta;
use datafusion::execution::SessionState;

use super::base_state::base_state;
use super::public_schema::PublicSchema;
use super::query_session::QuerySession;
use super::session_cache::{SessionCache, SessionKey};
use super::views::{FileStamps, ViewFolder, Views};
use crate::catalog::{LiveCatalog, Snapshot, VisibleAssets};
use crate::config::ResampleSettings;
use crate::engine::limits::resource_limits::{MemoryLimits, RuntimeEnvFactory};
use crate::engine::limits::task_memory;
use crate::engine::query_error::QueryError;
use crate::engine::raw::ingest::{Ingest, IngestAssets, IngestError, IngestTimes};
use crate::engine::raw::raw_files::RawFiles;
use crate::engine::scheduler::{QueryScheduler, SchedulerLimits};
use crate::engine::sql::statement::SessionOption;
use crate::engine::tables::account::Account;
use crate::engine::tables::catalog_tables::CatalogSource;
use crate::engine::tables::published::{Publications, PublishedTables};
use crate::engine::tables::table_names::public_table_names;
use crate::lake::Store;
use crate::search::Search;
use crate::{clock, memory};

/// The interval at which the lake and the views are checked for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The lake, the catalog and the views, on which sessions are opened.
pub struct QueryEngine {
    base_state: Arc<SessionState>,
    sessions: SessionCache,
    budget: Arc<RuntimeEnvFactory>,
    scheduler: Arc<QueryScheduler>,
    publications: Publications,
    raw: Arc<RawFiles>,
    readings: ResampleSettings,
    oldest_ingest: Option<TimeDelta>,
    catalog: LiveCatalog,
    search: Search,
    /// The folder in which other processes place search requests.
    search_requests: Option<PathBuf>,
    views: ViewFolder,
    views_in_force: RwLock<(FileStamps, Arc<Views>)>,
    /// Increases when the views in force change.
    views_version: AtomicU64,
}

/// The limits of queries and ingests.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory and disk.
    pub memory: MemoryLimits,
    /// Threads and times.
    pub scheduler: SchedulerLimits,
    /// The settings that define plausible times of ingested readings.
    pub readings: ResampleSettings,
    /// The maximum age of ingested readings; `None` for no limit.
    pub oldest_ingest: Option<TimeDelta>,
}

/// The scope of a session.
pub struct Scope {
    /// The assets that the session sees.
    pub visible: Arc<VisibleAssets>,
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
        task_memory::install_task_tracer();
        memory::start_watchdog().map_err(QueryError::Threads)?;
        let budget = Arc::new(RuntimeEnvFactory::new(&limits.memory)?);
        let engine = Self {
            base_state: Arc::new(base_state(lake, budget.shared_env())?),
            sessions: SessionCache::default(),
            budget,
            scheduler: QueryScheduler::start(limits.scheduler).map_err(QueryError::Threads)?,
            publications: Publications::open(lake).await?,
            raw: Arc::new(raw),
            readings: limits.readings.clone(),
            oldest_ingest: limits.oldest_ingest,
            catalog,
            search,
            search_requests,
            views: ViewFolder::new(views.to_owned(), public_table_names()),
            views_in_force: RwLock::default(),
            views_version: AtomicU64::default(),
        };
        engine.refresh_views().await;
        Ok(engine)
    }

    /// Checks for new tables and views each second, and keeps the search index up to date, while the future is polled.
    /// The catalog is updated independently.
    pub async fn watch(&self) {
        tokio::join!(
            self.poll_for_changes(),
            self.raw.watch(&self.scheduler),
            self.search
                .follow(self.catalog.changes(), self.search_requests.as_deref())
        );
    }

    async fn poll_for_changes(&self) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut has_failed = false;
        loop {
            ticks.tick().await;
            match self.publications.refresh().await {
                Ok(()) => has_failed = false,
                Err(error) if !has_failed => {
                    has_failed = true;
                    tracing::warn!("cannot check for new tables: {error}");
                }
                Err(_) => {}
            }
            self.refresh_views().await;
            self.sessions.remove_idle();
        }
    }

    /// Returns the catalog in force.
    pub fn catalog(&self) -> Arc<Snapshot> {
        self.catalog.snapshot()
    }

    /// Returns the query scheduler.
    pub fn scheduler(&self) -> &Arc<QueryScheduler> {
        &self.scheduler
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
        self.publications.get(run).await
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
            plausible: self.readings.plausible_times(now),
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
        let key = SessionKey {
            published: scope.published.unwrap_or_else(|| self.newest()),
            catalog: self.catalog(),
            views,
            visible: scope.visible,
            account: scope.account,
            options: scope.options,
        };
        self.sessions.get(key, |ground| {
            let public = self.public_schema(
                Arc::clone(&ground.published),
                Arc::clone(&ground.catalog),
                Arc::clone(&ground.views),
                Arc::clone(&ground.visible),
            );
            QuerySession::new(
                public,
                Some(ground.account.clone()),
                &ground.options,
                Some(Arc::clone(&self.budget)),
            )
        })
    }

    fn public_schema(
        &self,
        published: Arc<PublishedTables>,
        catalog: Arc<Snapshot>,
        views: Arc<Views>,
        visible: Arc<VisibleAssets>,
    ) -> PublicSchema {
        PublicSchema {
            published,
            raw: Some(Arc::clone(&self.raw)),
            catalog: Arc::new(CatalogSource::Active(catalog)),
            views,
            search: Some(self.search.clone()),
            visible,
            base_state: Arc::clone(&self.base_state),
            view_stack: Vec::new(),
        }
    }

    /// Activates changed views. Views that cannot be planned are left out, because they would break listings of all
    /// views.
    async fn refresh_views(&self) {
        let known = {
            let in_force = self.views_in_force.read();
            in_force.unwrap_or_else(PoisonError::into_inner).0.clone()
        };
        let Some((stamps, views)) = self.views.read_if_changed(&known) else {
            return;
        };
        let nothing = Arc::new(VisibleAssets::Only(Vec::new()));
        let mut public =
            self.public_schema(self.newest(), self.catalog(), Arc::new(views), nothing);
        public.remove_invalid_views().await;
        let mut in_force = self
            .views_in_force
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *in_force = (stamps, public.views);
        self.views_version.fetch_add(1, Ordering::Release);
    }
}
