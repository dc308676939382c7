//! A server process: the port for clients, the metrics and the jobs, which start together and end together.

use std::future::Future;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::monitoring::{Monitoring, MonitoringError};
use super::schedule::{ScheduleError, ScheduleRunner};
use super::serve::{AppError, server};
use crate::config::Settings;
use crate::scheduler::StopSender;
use crate::server::{FlightServer, ServeError, TlsSource};

/// An error of starting or running a server.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The address for clients cannot be bound.
    #[error("{}", bind_error_text(*listen, source))]
    CannotListen {
        /// The address.
        listen: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The metrics endpoint cannot be opened.
    #[error(transparent)]
    Monitoring(#[from] MonitoringError),
    /// The data to be served cannot be opened.
    #[error(transparent)]
    Server(#[from] AppError),
    /// The schedule cannot be created.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// TLS or gRPC failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The task of the schedule ended unexpectedly.
    #[error("the schedule ended unexpectedly; see the log")]
    ScheduleEnded(#[from] tokio::task::JoinError),
}

fn bind_error_text(listen: SocketAddr, source: &std::io::Error) -> String {
    let why = match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            "port in use, possibly by another plantlake. Stop that program, or set another port"
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "the address does not belong to this machine. Set another"
        }
        std::io::ErrorKind::PermissionDenied => {
            "this user has no permission, because ports below 1024 are privileged. Set another port"
        }
        _ => "the operating system refuses. Set another address",
    };
    format!(
        "cannot listen on {listen}: {why} (`serve.listen`, or `--port` of a demo; port 0 selects a free port)"
    )
}

/// The bound ports of a server.
pub struct Ports {
    listener: TcpListener,
    address: SocketAddr,
    monitoring: Monitoring,
}

impl Ports {
    /// Binds the addresses of the settings.
    pub async fn open(settings: &Settings) -> Result<Self, ServiceError> {
        let listen = settings.serve.listen;
        let refused = |source| ServiceError::CannotListen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        Ok(Self {
            address: listener.local_addr().map_err(refused)?,
            listener,
            monitoring: Monitoring::open(settings).await?,
        })
    }
}

/// A server that is bound to its ports, and answers once it is [run](Self::run).
pub struct Service {
    ports: Ports,
    flight_server: FlightServer,
    schedule: Option<ScheduleRunner>,
    has_tls: bool,
}

impl Service {
    /// Opens everything that is served and, if `with_jobs` is set, the declared jobs.
    pub async fn open(
        settings: &Settings,
        ports: Ports,
        tls: Option<TlsSource>,
        with_jobs: bool,
    ) -> Result<Self, ServiceError> {
        let server = server(settings).await?;
        let has_tls = tls.is_some();
        let serving = FlightServer::new(server, tls)?;
        let scheduling = match with_jobs {
            true => Some(ScheduleRunner::open(settings, true).await?),
            false => None,
        };
        Ok(Self {
            ports,
            flight_server: serving,
            schedule: scheduling,
            has_tls,
        })
    }

    /// Returns the URI that clients connect to.
    pub fn uri(&self) -> String {
        let scheme = if self.has_tls { "grpc+tls" } else { "grpc" };
        format!("{scheme}://{}", self.ports.address)
    }

    /// Returns the URL of the metrics, if they are served.
    pub fn metrics(&self) -> Option<String> {
        self.ports.monitoring.url()
    }

    /// Returns the names of the jobs that have a schedule; `None` if the server runs no jobs.
    pub fn jobs(&self) -> Option<Vec<String>> {
        self.schedule.as_ref().map(ScheduleRunner::names)
    }

    /// Returns the certificate that was created for this run, as PEM.
    pub fn generated_certificate(&self) -> Option<&str> {
        self.flight_server.generated_certificate.as_deref()
    }

    /// Answers clients and runs jobs until `stop` completes, and then until the started results and jobs have ended.
    /// Results are cut off once `shutdown_deadline` completes.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        shutdown_deadline: impl Future<Output = ()>,
    ) -> Result<(), ServiceError> {
        let stopper = StopSender::default();
        let stop_jobs = stopper.subscribe();
        Monitoring::mark_started();
        let scheduled = self
            .schedule
            .map(|scheduling| tokio::spawn(scheduling.run(stop_jobs)));
        let stop = async move {
            stop.await;
            Monitoring::mark_stopping();
            // The server and the jobs are stopped at the same time.
            stopper.stop();
        };
        let serve = self
            .flight_server
            .run(self.ports.listener, stop, shutdown_deadline);
        let work = async {
            serve.await?;
            if let Some(scheduled) = scheduled {
                scheduled.await?;
            }
            Ok(())
        };
        tokio::select! {
            outcome = work => outcome,
            () = self.ports.monitoring.run() => Ok(()),
        }
    }
}
