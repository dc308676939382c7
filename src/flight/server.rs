//! What all calls share.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use super::call::Call;
use super::ingest::IngestLimits;
use super::ingest_places::IngestPlaces;
use super::metered::over_limit;
use super::plans::Plans;
use super::redeemed::Redeemed;
use super::running::Running;
use super::session_options::Sessions;
use super::tenants::Tenants;
use crate::auth::Authenticator;
use crate::config::Networks;
use crate::engine::{
    ACCOUNT, ARCHIVE, Fingerprints, INFORMATION_SCHEMA, PUBLIC, QueryEngine, SessionOption,
};
use crate::metering::{Meter, Work};
use crate::model::printable;
use crate::store::OrganisationStore;

/// The server behind the calls.
pub struct Server {
    pub(super) auth: Authenticator,
    pub(super) engine: QueryEngine,
    pub(super) store: OrganisationStore,
    pub(super) sessions: Sessions,
    pub(super) running: Running,
    pub(super) tenants: Tenants,
    pub(super) plans: Plans,
    pub(super) limits: ServerLimits,
    /// Clients that send readings now.
    pub(super) ingests: Arc<IngestPlaces>,
    pub(super) log_sql: bool,
    pub(super) meter: Meter,
    pub(super) redeemed: Redeemed,
    pub(super) fingerprints: Fingerprints,
}

/// What calls may take, beside what queries may.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Of connections, and of what comes by them.
    pub connections: ConnectionLimits,
    /// Of readings that are sent here.
    pub ingest: IngestLimits,
    /// How long answers that have begun may go on when the server is to end.
    pub shutdown: Duration,
}

/// Limits on connections, and on the requests that come by them.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The maximum number of connections.
    pub total: usize,
    /// The maximum number of connections from one address.
    pub per_address: usize,
    /// How long a handshake may take, and again the headers of the first call.
    pub handshake_timeout: Duration,
    /// How long a connection may go without a valid credential.
    pub unauthenticated_timeout: Duration,
    /// How long a message may take to arrive.
    pub message_timeout: Duration,
    /// The maximum memory for messages that arrive, in bytes.
    pub message_memory: u64,
    /// Proxies whose word for a client's address is taken.
    pub trusted_proxies: Networks,
    /// Whether they begin connections with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

impl Server {
    /// Answers queries on `engine` for the users of `store`.
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
            running: Running::default(),
            tenants: Tenants::default(),
            plans: Plans::default(),
            limits,
            ingests: Arc::default(),
            log_sql,
            meter,
            redeemed: Redeemed::default(),
            fingerprints: Fingerprints::default(),
        }
    }

    /// Takes up what changes: access, tables, views; for as long as the future is polled.
    pub async fn keep_watch(&self) {
        tokio::join!(
            self.auth.keep_watch(),
            self.engine.keep_watch(),
            self.meter.keep_watch()
        );
    }

    /// Finishes what is still to be written.
    pub async fn settle(&self) {
        self.auth.settle().await;
        self.meter.settle().await;
    }

    /// Lets work that a call asks for through, if its organisation's rate allows.
    pub(super) fn admit(&self, call: &Call, work: Work) -> Result<(), Status> {
        let organisation = call.principal().organisation_id;
        let admitted = self.meter.admit(organisation, work);
        admitted.map_err(|over| over_limit(&over))
    }

    /// Whether a session may have this option.
    pub(super) fn check_option(&self, option: &SessionOption) -> Result<(), Status> {
        match option {
            SessionOption::Schema(schema)
                if ![PUBLIC, ACCOUNT, ARCHIVE, INFORMATION_SCHEMA].contains(&schema.as_str()) =>
            {
                Err(Status::invalid_argument(format!(
                    "there is no schema {:?}; there are {PUBLIC}, {ACCOUNT}, {ARCHIVE} and {INFORMATION_SCHEMA}",
                    printable(schema, 60)
                )))
            }
            SessionOption::TimeZone(zone) if !is_zone(zone) => {
                Err(Status::invalid_argument(format!(
                    "{:?} is no time zone; write its IANA name, such as UTC or Europe/Berlin, or an offset such as +01:00",
                    printable(zone, 60)
                )))
            }
            _ => Ok(()),
        }
    }
}

fn is_zone(zone: &str) -> bool {
    zone.parse::<arrow::array::timezone::Tz>().is_ok()
}
