//! The Arrow Flight SQL server. It serves the lake to Flight SQL clients, to each the part that its organisation may see.
//!
//! | file | content |
//! |---|---|
//! | `listener`, `tls`, `proxies`, `connections` | connections: accepting them, TLS, client addresses, limits |
//! | `gate`, `middleware` | the entrance of all calls; the layers around every RPC (`credentials`, `request_body`) |
//! | `service`, `queries`, `put` | the RPCs: what they do with commands (`commands`) |
//! | `statements` | SQL: the description of a result, and the result (`planning`, `plan_cache`, `ticket`) |
//! | `wire_types`, `running_queries` | results while they are sent (`redeemed_tickets`, `panics`) |
//! | `ingest`, `ingest_permits` | readings that clients send |
//! | `parameters` | bound parameters |
//! | `batch_decoder`, `body_check` | batches of clients, of parameters and of readings: checked, then decoded |
//! | `metadata`, `sql_info` | catalogs, schemas, tables, types, and information about the server (`like_pattern`) |
//! | `actions/` | one file an action: prepared statements, cancellation, sessions (`session_messages`, `session_options`) |
//! | `status`, `error_text` | error statuses and their texts |
//! | `tenants` | the assets that each organisation may see |
//! | `server`, `limits` | the state that all calls share, and limits |
//! | `remote` | the client with which `plantlake` calls another server |

mod action_names;
mod connection;
mod errors;
mod flightsql;
mod gate;
mod limits;
mod middleware;
mod remote;
mod rpc;
mod state;
mod wire;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use connection::tls::{TlsError, TlsSource};
pub use connection::validity::Validity;
pub use limits::{ConnectionLimits, IngestLimits, ServerLimits};
pub use remote::{Credential, RemoteError, RemoteServer};
pub use state::server::Server;

use connection::listener::ListenerConfig;
use connection::registry::{Registry, RegistryLimits};
use connection::tls::Tls;
use gate::Gate;
use rpc::service::Service;

/// The maximum number of concurrent calls on one connection.
const MAX_CONCURRENT_STREAMS: u32 = 256;
/// The HTTP/2 flow-control windows, in bytes: the data that a client may send before the server has read it, on one call
/// and on one connection. The window of a connection is larger, so that messages that wait for memory do not block other
/// calls on the same connection. For connections without a credential, `connections` has far lower limits.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The maximum size of the headers of a call, in bytes, as HTTP/2 counts it. A credential has up to 8 KiB.
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
/// The maximum number of calls that are cancelled before the server has accepted them; beyond it, the connection is closed.
const MAX_PENDING_RESETS: usize = 20;
/// The maximum number of calls with malformed frames; beyond it, the connection is closed.
const MAX_MALFORMED_RESETS: usize = 256;
/// The interval of HTTP/2 keepalive pings.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// The time limit for the response to a keepalive ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Checks that a certificate and its key can be read and used together. Returns the validity of the certificate; none if it
/// cannot be determined.
pub fn check_tls(certificate: &Path, key: &Path) -> Result<Option<Validity>, TlsError> {
    connection::tls::read_files(certificate, key).map(|(_, validity)| validity)
}

/// The error that ended the server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The gRPC transport failed.
    #[error("the server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// A server that is ready to listen.
pub struct FlightServer {
    server: Arc<Server>,
    tls: Option<Tls>,
    /// The generated certificate as PEM, if one was generated.
    pub generated_certificate: Option<String>,
}

impl FlightServer {
    /// Creates a server with TLS from `tls`, or without TLS.
    pub fn new(server: Server, tls: Option<TlsSource>) -> Result<Self, ServeError> {
        let (tls, made_certificate) = match tls.map(Tls::open).transpose()? {
            Some((tls, made)) => (Some(tls), made),
            None => (None, None),
        };
        Ok(Self {
            server: Arc::new(server),
            tls,
            generated_certificate: made_certificate,
        })
    }

    /// Serves calls until `stop`, then waits for the results in progress: at most for the shutdown time limit, and at
    /// most until `shutdown_deadline`. The deadline is measured on another thread, so it ends the results even if the
    /// timers of this runtime are blocked.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
        shutdown_deadline: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let limits = self.server.limits.clone();
        let registry = Registry::new(RegistryLimits {
            total: limits.connections.total,
            per_address: limits.connections.per_address,
            first_call_timeout: limits.connections.handshake_timeout,
            unauthenticated_timeout: limits.connections.unauthenticated_timeout,
        });
        let listening = ListenerConfig {
            tls: self.tls.clone(),
            registry: registry.clone(),
            handshake_timeout: limits.connections.handshake_timeout,
            trusted_proxies: limits.connections.trusted_proxies.clone(),
            proxy_protocol: limits.connections.proxy_protocol,
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<FlightServiceServer<Service>>().await;
        let gate = Gate::new(&self.server, health);
        let connections = connection::listener::connections(listener, listening);
        let (stopping, mut stopped) = watch::channel(false);
        let serve = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(Some(MAX_CONCURRENT_STREAMS))
            .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
            .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
            .http2_max_local_error_reset_streams(Some(MAX_MALFORMED_RESETS))
            .serve_with_incoming_shutdown(gate, connections, async move {
                stop.await;
                // From now on, load balancers send calls to other servers.
                reporter
                    .set_not_serving::<FlightServiceServer<Service>>()
                    .await;
                registry.stop();
                stopping.send_replace(true);
            });
        let too_late = async {
            let deadline_after_stop = async {
                if stopped.wait_for(|stopped| *stopped).await.is_err() {
                    // The sender was dropped: all results were sent, and `serve` has ended.
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(limits.shutdown_timeout).await;
            };
            tokio::select! {
                () = deadline_after_stop => {}
                () = shutdown_deadline => {}
            }
        };
        // A task of its own: the watchers wake up often, and would poll everything in this task each time.
        let mut watching = JoinSet::new();
        let (server, tls) = (Arc::clone(&self.server), self.tls.clone());
        watching.spawn(async move {
            match &tls {
                Some(tls) => tokio::join!(server.run_background_tasks(), tls.watch_files()).0,
                None => server.run_background_tasks().await,
            }
        });
        let outcome = tokio::select! {
            outcome = serve => outcome,
            Some(Err(error)) = watching.join_next() => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Ok(()),
            },
            () = too_late => {
                tracing::warn!("results that were still being sent were cut off");
                Ok(())
            }
        };
        // Not awaited: if a thread is blocked, the task would not end.
        watching.abort_all();
        self.server.drain().await;
        Ok(outcome?)
    }
}
