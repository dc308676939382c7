//! The Flight SQL server: the lake to every client that speaks Arrow Flight SQL, each with what it may see.
//!
//! | file | what it knows |
//! |---|---|
//! | `listen`, `tls` | connections |
//! | `service` | the calls of gRPC: lets callers in (`call`, `credentials`) and hands on |
//! | `statements` | SQL: what an answer will look like, and the answer (`plans`, `ticket`, `edge`, `running`) |
//! | `ingest` | readings that are sent here |
//! | `received` | batches of clients, of parameters and of readings |
//! | `metadata`, `sql_info` | what there is (`like`) |
//! | `actions` | prepared statements, cancelling, sessions (`session_messages`, `session_options`) |
//! | `status` | how errors look |
//! | `tenants` | which assets each organisation may see |
//! | `server` | what all calls share |
//! | `remote` | the client's side: what `plantlake` asks of another server |

mod actions;
mod call;
mod credentials;
mod edge;
mod ingest;
mod like;
mod listen;
mod metadata;
mod metered;
mod plans;
mod received;
mod redeemed;
mod remote;
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
pub use server::{Server, ServerLimits};
pub use tls::{TlsError, TlsSource};
pub use validity::Validity;

use service::Service;
use tls::Tls;

/// Largest message that is sent, in bytes: what ADBC takes.
const LARGEST_SENT: usize = 16 << 20;
/// Largest message that is taken, in bytes: a million readings, which some clients send in one piece.
const LARGEST_TAKEN: usize = 64 << 20;
/// Calls at once on one connection.
const STREAMS: u32 = 256;
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

    /// Answers until `stop`, and then until the answers that have begun have ended.
    pub async fn run(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let service = FlightServiceServer::new(Service(Arc::clone(&self.server)))
            .max_decoding_message_size(LARGEST_TAKEN)
            .max_encoding_message_size(LARGEST_SENT);
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<FlightServiceServer<Service>>().await;
        let connections = listen::connections(listener, self.tls.clone());
        let (stopping, mut stopped) = watch::channel(false);
        let patience = self.server.limits.shutdown;
        let serve = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(ASKED))
            .http2_keepalive_timeout(Some(ANSWERED))
            .max_concurrent_streams(Some(STREAMS))
            .add_service(health)
            .add_service(service)
            .serve_with_incoming_shutdown(connections, async move {
                stop.await;
                // Load balancers look elsewhere from now on.
                reporter
                    .set_not_serving::<FlightServiceServer<Service>>()
                    .await;
                stopping.send_replace(true);
            });
        let too_late = async {
            if stopped.wait_for(|stopped| *stopped).await.is_err() {
                // All answers were sent, and what is above has ended.
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(patience).await;
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
        watching.shutdown().await;
        self.server.settle().await;
        Ok(outcome?)
    }
}
