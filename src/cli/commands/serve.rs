//! `plantlake serve`: serves the lake to Flight SQL clients.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::app::{AppError, MonitoringError, Ports, ScheduleError, Service, ServiceError};
use crate::cli::exit::Exit;
use crate::cli::run_command::{Context, RunCommand};
use crate::config::Override;
use crate::lake::storage::failpoint;
use crate::server::TlsSource;

const EXAMPLES: &str = "\
Examples:
  plantlake serve
      Listens on this machine only, without TLS. In Python:
          import adbc_driver_flightsql.dbapi as dbapi
          dbapi.connect(\"grpc://127.0.0.1:50051\", db_kwargs={\"username\": \"ada@northfield.example\", \"password\": \"…\"})
  plantlake serve --listen 0.0.0.0:50051 --tls-cert server.pem --tls-key server.key
      Accepts clients from other machines; the files are reloaded when they change.
  plantlake serve --listen 0.0.0.0:50051 --dev-tls
      Tries TLS with a self-signed certificate, which is written to the state folder.
  plantlake serve --with-jobs
      Also runs jobs when they are due, as `plantlake schedule` does. Requests have priority over jobs.

Metrics for Prometheus are at http://127.0.0.1:9464/metrics (the setting `metrics.listen`).

Ctrl-C lets responses in progress end, and then stops the server; a second Ctrl-C stops it immediately.";

/// Serve the lake to Flight SQL clients, with authentication
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// The address to listen on; port 0 picks a free one [default: 127.0.0.1:50051]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// The certificate and its intermediate certificates, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<String>,
    /// The certificate's private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<String>,
    /// Create a self-signed certificate for this run, for development
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    dev_tls: bool,
    /// Listen on an address that other machines can reach without TLS: passwords and data can be read in transit
    #[arg(long)]
    allow_plaintext: bool,
    /// Also run jobs when they are due
    #[arg(long)]
    with_jobs: bool,
    /// Print the addresses as JSON
    #[arg(long)]
    json: bool,
}

/// The error that other machines can reach the server without TLS.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {listen} without TLS: other machines can reach it, and passwords and data could be read in transit. \
     Give --tls-cert and --tls-key (or --dev-tls to try it), or --allow-plaintext if a proxy terminates TLS"
)]
struct PlaintextRefused {
    listen: std::net::SocketAddr,
}

impl RunCommand for ServeArgs {
    const HANDLES_INTERRUPT: bool = true;

    fn overrides(&self) -> Vec<Override> {
        let plaintext = self.allow_plaintext.then_some("true");
        [
            Override::from_flag("serve.listen", "--listen", self.listen.clone()),
            Override::from_flag("serve.tls_cert", "--tls-cert", self.tls_cert.clone()),
            Override::from_flag("serve.tls_key", "--tls-key", self.tls_key.clone()),
            Override::from_flag("serve.allow_plaintext", "--allow-plaintext", plaintext),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn is_machine_output(&self) -> bool {
        self.json
    }

    async fn run(self, context: Context) -> anyhow::Result<Exit> {
        crate::memory::reduce_footprint();
        let settings = &context.settings;
        let serve = &settings.serve;
        let to_end = match self.with_jobs {
            true => serve
                .shutdown_timeout
                .max(settings.schedule.shutdown_timeout),
            false => serve.shutdown_timeout,
        };
        let to_end = to_end.to_std()?;
        context.interrupt.exit_after(to_end, Exit::Success);
        let tls = self.tls_source(&serve.tls_cert, &serve.tls_key, serve.listen.ip())?;
        if tls.is_none() && !serve.listen.ip().is_loopback() && !serve.allow_plaintext {
            let listen = serve.listen;
            return Err(Exit::Usage.wrap(PlaintextRefused { listen }));
        }
        let ports = Ports::open(settings).await.map_err(service_error)?;
        let service = Service::open(settings, ports, tls, self.with_jobs).await;
        let service = service.map_err(service_error)?;
        let (metrics, jobs) = (service.metrics(), service.jobs());
        let certificate = match service.generated_certificate() {
            Some(pem) => {
                let path = settings.state.join("dev-tls.pem");
                std::fs::create_dir_all(&settings.state)?;
                std::fs::write(&path, pem)?;
                Some(path)
            }
            None => None,
        };
        let uri = service.uri();
        if self.json {
            let printed = json!({
                "listening": uri, "certificate": certificate, "metrics": metrics, "jobs": jobs,
            });
            context.terminal.line(&printed.to_string())?;
        } else {
            context.terminal.line(&format!("listening on {uri}"))?;
            if let Some(path) = &certificate {
                let path = path.display();
                context
                    .terminal
                    .line(&format!("certificate  {path}, self-signed for this run"))?;
            }
            if let Some(url) = &metrics {
                context.terminal.line(&format!("metrics      {url}"))?;
            }
            if let Some(jobs) = &jobs {
                let jobs = if jobs.is_empty() {
                    "none declared".to_owned()
                } else {
                    jobs.join(", ")
                };
                context.terminal.line(&format!("jobs         {jobs}"))?;
            }
        }
        let interrupt = context.interrupt.clone();
        failpoint::block_threads();
        let ended = service.run(interrupt.wait(), interrupt.wait_until_overdue());
        let ended = ended.await;
        ended.map_err(service_error)?;
        Ok(Exit::Success)
    }
}

/// Adds the exit code to an error of the metrics: an address that is not allowed is an error in the settings.
pub(super) fn monitoring_error(error: MonitoringError) -> anyhow::Error {
    match error {
        MonitoringError::RemoteRefused { .. } => Exit::Usage.wrap(error),
        error => error.into(),
    }
}

/// Adds the exit code to an error of the schedule: an invalid declaration of a job is an error in the settings.
pub(super) fn schedule_error(error: ScheduleError) -> anyhow::Error {
    match error {
        ScheduleError::Spec(_) => Exit::Usage.wrap(error),
        error => error.into(),
    }
}

/// Adds the exit code to an error of the server.
pub(super) fn service_error(error: ServiceError) -> anyhow::Error {
    match error {
        ServiceError::Monitoring(error) => monitoring_error(error),
        ServiceError::Schedule(error) => schedule_error(error),
        error @ ServiceError::Server(AppError::Spec(_)) => Exit::Usage.wrap(error),
        error => error.into(),
    }
}

impl ServeArgs {
    fn tls_source(
        &self,
        certificate: &Option<PathBuf>,
        key: &Option<PathBuf>,
        listen: std::net::IpAddr,
    ) -> anyhow::Result<Option<TlsSource>> {
        if self.dev_tls {
            let mut names = vec![
                "localhost".to_owned(),
                "127.0.0.1".to_owned(),
                "::1".to_owned(),
            ];
            if !listen.is_loopback() && !listen.is_unspecified() {
                names.push(listen.to_string());
            }
            return Ok(Some(TlsSource::SelfSigned(names)));
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(TlsSource::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            })),
            (None, None) => Ok(None),
            _ => Err(Exit::Usage.wrap(anyhow::anyhow!(
                "only one of `serve.tls_cert` and `serve.tls_key` is set; TLS requires both"
            ))),
        }
    }
}
