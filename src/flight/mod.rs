//! The Flight SQL server: the lake to every client that speaks Arrow Flight SQL, each with what it may see.
//!
//! | file | what it knows |
//! |---|---|
//! | `listen`, `tls`, `proxies`, `connections` | connections: how they begin, where from, how many |
//! | `gate` | lets callers in by the headers of their calls (`call`, `credentials`), before a body is read (`request_body`) |
//! | `service` | the calls of gRPC: hands them on |
//! | `statements` | SQL: what an answer will look like, and the answer (`planning`, `plans`, `ticket`, `edge`, `running`) |
//! | `ingest` | readings that are sent here |
//! | `parameters` | parameters that are bound |
//! | `batch_decoder`, `body_check` | batches of clients, of parameters and of readings: checked, then decoded |
//! | `metadata`, `sql_info` | what there is (`like`) |
//! | `actions` | prepared statements, cancelling, sessions (`session_messages`, `session_options`) |
//! | `status`, `error_text` | how errors look |
//! | `tenants` | which assets each organisation may see |
//! | `server` | what all calls share |
//! | `remote` | the client's side: what `plantlake` asks of another server |

mod actions;
mod batch_decoder;
mod body_check;
mod call;
mod computed;
mod connections;
mod credentials;
mod edge;
mod error_text;
mod gate;
mod ingest;
mod ingest_places;
mod like;
mod listen;
mod metadata;
mod metered;
mod parameters;
mod planning;
mod plans;
mod proxies;
mod redeemed;
mod remote;
mod request_body;
mod running;
mod server;
mod service;
mod session_messages;
mod session_options;
mod sql_info;
mod statements;
mod status;
mod tenants;
mod ticket;
mod tls;
mod validity;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use ingest::IngestLimits;
pub use remote::{Credential, RemoteError, RemoteServer};
pub use server::{ConnectionLimits, Server, ServerLimits};
pub use tls::{TlsError, TlsSource};
pub use validity::Validity;

use connections::{Registry, RegistryLimits};
use gate::Gate;
use listen::Listening;
use service::Service;
use tls::Tls;

/// The maximum size of a message that is sent, in bytes: what ADBC takes.
const MAX_SENT_MESSAGE_BYTES: usize = 16 << 20;
/// The maximum size of a message of a DoPut, in bytes: a million readings, which some clients send in one piece.
const MAX_PUT_MESSAGE_BYTES: usize = 64 << 20;
/// The maximum size of any other message that is taken, in bytes: twice the longest statement handle.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Calls at once on one connection.
const STREAMS: u32 = 256;
/// What a client may send before the server has read it, in bytes: on one call, and on one connection. While messages wait
/// for memory, others on the same connection must go on. Before there is a credential, `connections` allows far less.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The maximum size of the headers of a call, in bytes, as HTTP/2 counts it. A credential has up to 8 KiB.
const MAX_HEADER_LIST_BYTES: u32 = 16 << 10;
/// Calls that were cancelled before the server has seen them, after which a connection is closed.
const MAX_RESET_UNSEEN: usize = 20;
/// Calls with malformed frames, after which a connection is closed.
const MAX_RESET_MALFORMED: usize = 256;
/// A connection is asked so often whether there is still someone,
const ASKED: Duration = Duration::from_secs(30);
/// and has so long to answer.
const ANSWERED: Duration = Duration::from_secs(20);

/// Whether a certificate and its key can be read, and used together; and when the certificate is good, if it says so.
pub fn check_tls(certificate: &Path, key: &Path) -> Result<Option<Validity>, TlsError> {
    tls::read(certificate, key).map(|(_, validity)| validity)
}

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// gRPC failed.
    #[error("the server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// A server that is ready to listen.
pub struct Serving {
    server: Arc<Server>,
    tls: Option<Tls>,
    /// The certificate that was made, as PEM, where that was asked for.
    pub made_certificate: Option<String>,
}

impl Serving {
    /// With TLS from `tls`, or without any.
    pub fn new(server: Server, tls: Option<TlsSource>) -> Result<Self, ServeError> {
        let (tls, made_certificate) = match tls.map(Tls::open).transpose()? {
            Some((tls, made)) => (Some(tls), made),
            None => (None, None),
        };
        Ok(Self {
            server: Arc::new(server),
            tls,
            made_certificate,
        })
    }

    /// Answers until `stop`, and then until the answers that have begun have ended; but not after `too_late`, which comes
    /// from a thread of its own and ends the answers even if no timer of this runtime goes off any more.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
        too_late: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let limits = self.server.limits.clone();
        let registry = Registry::new(RegistryLimits {
            total: limits.connections.total,
            per_address: limits.connections.per_address,
            first_call: limits.connections.handshake_timeout,
            unauthenticated: limits.connections.unauthenticated_timeout,
        });
        let listening = Listening {
            tls: self.tls.clone(),
            registry: registry.clone(),
            handshake_timeout: limits.connections.handshake_timeout,
            trusted_proxies: limits.connections.trusted_proxies.clone(),
            proxy_protocol: limits.connections.proxy_protocol,
        };
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<FlightServiceServer<Service>>().await;
        let gate = Gate::new(Arc::clone(&self.server), health);
        let connections = listen::connections(listener, listening);
        let (stopping, mut stopped) = watch::channel(false);
        let serve = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(ASKED))
            .http2_keepalive_timeout(Some(ANSWERED))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(Some(STREAMS))
            .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
            .http2_max_pending_accept_reset_streams(Some(MAX_RESET_UNSEEN))
            .http2_max_local_error_reset_streams(Some(MAX_RESET_MALFORMED))
            .serve_with_incoming_shutdown(gate, connections, async move {
                stop.await;
                // Load balancers look elsewhere from now on.
                reporter
                    .set_not_serving::<FlightServiceServer<Service>>()
                    .await;
                registry.close_pending();
                stopping.send_replace(true);
            });
        let too_late = async {
            let asked = async {
                if stopped.wait_for(|stopped| *stopped).await.is_err() {
                    // All answers were sent, and what is above has ended.
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(limits.shutdown).await;
            };
            tokio::select! {
                () = asked => {}
                () = too_late => {}
            }
        };
        // Of its own: what watches wakes up often, and would have all that is done here looked at each time.
        let mut watching = JoinSet::new();
        let (server, tls) = (Arc::clone(&self.server), self.tls.clone());
        watching.spawn(async move {
            match &tls {
                Some(tls) => tokio::join!(server.keep_watch(), tls.keep_watch()).0,
                None => server.keep_watch().await,
            }
        });
        let outcome = tokio::select! {
            outcome = serve => outcome,
            Some(Err(error)) = watching.join_next() => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Ok(()),
            },
            () = too_late => {
                tracing::warn!("answers that were still being sent were cut off");
                Ok(())
            }
        };
        // Not waited for: where a thread is blocked, it would not end.
        watching.abort_all();
        self.server.settle().await;
        Ok(outcome?)
    }
}
