//! The state that all calls share.

use std::sync::Arc;

use tonic::Status;

use super::ingest_permits::IngestPermits;
use super::plan_cache::PlanCache;
use super::redeemed_tickets::RedeemedTickets;
use super::running_queries::RunningQueries;
use super::session_options::Sessions;
use super::tenants::TenantAssets;
use crate::auth::Authenticator;
use crate::engine::{
    ACCOUNT, ARCHIVE, FingerprintCache, INFORMATION_SCHEMA, PUBLIC, QueryEngine, SessionOption,
};
use crate::metering::Meter;
use crate::model::printable;
use crate::server::limits::ServerLimits;
use crate::store::OrganisationStore;

/// The state behind all calls.
pub struct Server {
    pub(in crate::server) auth: Authenticator,
    pub(in crate::server) engine: QueryEngine,
    pub(in crate::server) store: OrganisationStore,
    pub(in crate::server) sessions: Sessions,
    pub(in crate::server) running: RunningQueries,
    pub(in crate::server) tenants: TenantAssets,
    pub(in crate::server) plan_cache: PlanCache,
    pub(in crate::server) limits: ServerLimits,
    /// The ingests in progress.
    pub(in crate::server) ingest_permits: Arc<IngestPermits>,
    pub(in crate::server) log_sql: bool,
    pub(in crate::server) meter: Meter,
    pub(in crate::server) redeemed_tickets: RedeemedTickets,
    pub(in crate::server) fingerprints: FingerprintCache,
}

impl Server {
    /// Creates a server that runs queries on `engine` for the users of `store`.
    pub fn new(
        auth: Authenticator,
        engine: QueryEngine,
        store: OrganisationStore,
        limits: ServerLimits,
        log_sql: bool,
        meter: Meter,
    ) -> Self {
        Self {
            auth,
            engine,
            store,
            sessions: Sessions::default(),
            running: RunningQueries::default(),
            tenants: TenantAssets::default(),
            plan_cache: PlanCache::default(),
            limits,
            ingest_permits: Arc::default(),
            log_sql,
            meter,
            redeemed_tickets: RedeemedTickets::default(),
            fingerprints: FingerprintCache::default(),
        }
    }

    /// Applies changes of access, tables and views, moves usage records into the ledger, and removes idle plans, for as long
    /// as the future is polled.
    pub async fn run_background_tasks(&self) {
        tokio::join!(
            self.auth.run_background_tasks(),
            self.engine.watch(),
            self.meter.run_background_tasks(),
            self.plan_cache.remove_idle_plans()
        );
    }

    /// Completes pending writes; called at shutdown.
    pub async fn drain(&self) {
        self.auth.flush().await;
        self.meter.drain().await;
    }

    /// Checks that a session may have this option.
    pub(in crate::server) fn check_option(&self, option: &SessionOption) -> Result<(), Status> {
        match option {
            SessionOption::Schema(schema)
                if ![PUBLIC, ACCOUNT, ARCHIVE, INFORMATION_SCHEMA].contains(&schema.as_str()) =>
            {
                Err(Status::not_found(format!(
                    "no schema {:?}; the schemas are {PUBLIC}, {ACCOUNT}, {ARCHIVE} and {INFORMATION_SCHEMA}",
                    printable(schema, 60)
                )))
            }
            SessionOption::TimeZone(zone) if !is_time_zone(zone) => {
                Err(Status::invalid_argument(format!(
                    "invalid time zone {:?}; use an IANA name such as UTC or Europe/Berlin, or an offset such as +01:00",
                    printable(zone, 60)
                )))
            }
            _ => Ok(()),
        }
    }
}

fn is_time_zone(zone: &str) -> bool {
    zone.parse::<arrow::array::timezone::Tz>().is_ok()
}
