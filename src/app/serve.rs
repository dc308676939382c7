//! Creates the server from settings.

use std::path::PathBuf;
use std::time::Duration;

use chrono::TimeDelta;

use super::job_kinds::job_kinds;
use super::search::{index_folder, search};
use super::shared_writing::no_write_grant_warning;
use crate::auth::{AuthError, Authenticator};
use crate::catalog::{CatalogError, LiveCatalog};
use crate::config::{ConnectionSettings, Settings};
use crate::descriptors;
use crate::engine::{
    Limits, LocalSources, MemoryLimits, QueryEngine, QueryError, QuerySession, RawFiles,
    SchedulerLimits, THREAD_STACK_BYTES,
};
use crate::jobs::spec::{ResampleSpec, SpecError};
use crate::lake::raw::{ColumnNames, RawFormat};
use crate::lake::{Store, StoreError as LakeError};
use crate::metering::{JournalError, Meter, MeterSettings};
use crate::model::Window;
use crate::search::index::IndexError;
use crate::server::{ConnectionLimits, IngestLimits, Server, ServerLimits};
use crate::store::{OrganisationStore, StoreError};

/// An error of creating the server, or a local session.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The lake or the raw folder cannot be opened.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The catalog is missing or wrong.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The published tables cannot be opened.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The organisation database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signing keys cannot be used.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The search index cannot be opened.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The journal of requests cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The mapping of the columns of raw files is invalid.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

/// Creates the server that answers queries on the lake of `settings`.
pub async fn server(settings: &Settings) -> Result<Server, AppError> {
    let lake = Store::open(&settings.lake, settings.storage.options())?;
    let raw = Store::open(&settings.raw, settings.storage.options())?;
    let catalog = LiveCatalog::open(&settings.catalog).await?;
    let (store, _) = OrganisationStore::open(&settings.organisation_url).await?;
    let store = store.with_account_limits((&settings.auth).into());
    for organisation in store.senders_without_write_grant().await? {
        tracing::warn!("{}", no_write_grant_warning(&organisation));
    }
    let auth = Authenticator::open(store.clone(), &settings.auth)?;
    let search = search(settings, false)?;
    let requests = settings
        .qdrant
        .url
        .is_none()
        .then(|| index_folder(settings));
    let views = view_folder(settings);
    let limits = query_limits(settings);
    let raw = raw_files(settings, raw)?;
    let engine = QueryEngine::open(&lake, raw, catalog, search, requests, &views, &limits).await?;
    let serve = &settings.serve;
    let limits = ServerLimits {
        connections: connection_limits(&serve.connections),
        ingest: IngestLimits {
            max_bytes: serve.largest_ingest,
            idle_timeout: to_duration(serve.unread_timeout),
        },
        shutdown_timeout: to_duration(serve.shutdown_timeout),
    };
    let meter = Meter::start(meter_settings(settings), store.clone())?;
    Ok(Server::new(
        auth,
        engine,
        store,
        limits,
        settings.log.sql,
        meter,
    ))
}

/// Opens what the operator at this machine may query: everything, with the same tables and views as on a server.
pub async fn local_session(settings: &Settings, lake: &Store) -> Result<QuerySession, AppError> {
    let raw = match Store::open_existing(&settings.raw, settings.storage.options()) {
        Ok(raw) => Some(raw_files(settings, raw)?),
        Err(LakeError::Missing { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let sources = LocalSources {
        catalog: &settings.catalog,
        views: &view_folder(settings),
        raw,
        search: search(settings, true)?,
    };
    Ok(QuerySession::open_local(lake, sources).await?)
}

/// Returns the raw files in the folder `raw`, with their columns as `settings` name them.
fn raw_files(settings: &Settings, raw: Store) -> Result<RawFiles, SpecError> {
    let columns = ResampleSpec::read(&settings.jobs, &job_kinds())?.columns;
    let format = RawFormat {
        columns: ColumnNames {
            id: columns.id,
            timestamp: columns.timestamp,
            value: columns.value,
        },
        timezone: settings.resample.timezone,
        plausible: Window::ALL,
        marks_ambiguous: false,
    };
    Ok(RawFiles::new(raw, format))
}

fn view_folder(settings: &Settings) -> PathBuf {
    settings.catalog.join("views")
}

fn connection_limits(settings: &ConnectionSettings) -> ConnectionLimits {
    let total = descriptors::available_for_connections(settings.total);
    if total < settings.total {
        tracing::warn!(
            "at most {total} connections instead of {} (serve.connections): the limit of open files allows no more; raise it \
             (ulimit -n, LimitNOFILE=)",
            settings.total
        );
    }
    ConnectionLimits {
        total,
        per_address: settings.per_address,
        handshake_timeout: to_duration(settings.handshake_timeout),
        unauthenticated_timeout: to_duration(settings.unauthenticated_timeout),
        message_timeout: to_duration(settings.message_timeout),
        message_memory_bytes: settings.message_memory,
        trusted_proxies: settings.trusted_proxies.clone(),
        proxy_protocol: settings.proxy_protocol,
    }
}

/// Returns the folder that contains the journals of this machine's servers.
pub(super) fn journal_folder(settings: &Settings) -> PathBuf {
    settings.state.join("journal")
}

fn meter_settings(settings: &Settings) -> MeterSettings {
    let metering = &settings.metering;
    MeterSettings {
        folder: journal_folder(settings),
        limit: metering.journal_size,
        when_full: metering.journal_full,
        sync: metering.journal_sync,
        sql: metering.sql,
    }
}

fn to_duration(setting: TimeDelta) -> Duration {
    setting.to_std().unwrap_or(Duration::MAX)
}

/// Returns the resource limits of queries.
fn query_limits(settings: &Settings) -> Limits {
    let serve = &settings.serve;
    let bytes = |setting| usize::try_from(setting).unwrap_or(usize::MAX);
    Limits {
        memory: MemoryLimits {
            query_memory_bytes: bytes(serve.query_memory),
            total_memory_bytes: bytes(serve.total_memory),
            spill_folder: settings.state.join("spill"),
            spill_bytes: serve.spill,
        },
        scheduler: SchedulerLimits {
            permits: serve.queries,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            stack_bytes: THREAD_STACK_BYTES,
            query_timeout: to_duration(serve.query_timeout),
            queue_timeout: to_duration(serve.queue_timeout),
            unread_timeout: to_duration(serve.unread_timeout),
        },
        readings: settings.resample.clone(),
        oldest_ingest: serve.oldest_ingest,
    }
}
