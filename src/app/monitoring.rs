//! The metrics of a process that stays: where they are answered, and what is looked at for them.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::config::Settings;
use crate::jobs::LagWatch;
use crate::lake::{Store, StoreError};
use crate::metrics::METRICS;
use crate::metrics::http::HttpServer;

/// How often raw files on this machine are listed,
const EVERY: Duration = Duration::from_secs(5);
/// and those in an object store, where listing is slow and costs money.
const REMOTE_EVERY: Duration = Duration::from_secs(60);

/// Why there can be no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MonitoringError {
    /// The address is taken, or is not this machine's.
    #[error(
        "{listen} cannot be listened on for metrics (`metrics.listen`); perhaps another program does, or the address is not this machine's. Name another, or \"off\""
    )]
    CannotListen {
        /// The address.
        listen: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Everyone could read them.
    #[error(
        "{listen} can be reached from other machines, and metrics would be there for everyone; set `metrics.allow_remote` if that is meant"
    )]
    RemoteRefused {
        /// The address.
        listen: SocketAddr,
    },
    /// The lake or the raw folder cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Metrics that are ready to be asked for.
pub struct Monitoring {
    listener: Option<TcpListener>,
    lag: LagWatch,
    every: Duration,
}

impl Monitoring {
    /// Listens where the settings say.
    pub async fn open(settings: &Settings) -> Result<Self, MonitoringError> {
        let lake = Store::open(&settings.lake, settings.storage.options())?;
        let raw = Store::open(&settings.raw, settings.storage.options())?;
        let every = if raw.local_path().is_some() {
            EVERY
        } else {
            REMOTE_EVERY
        };
        Ok(Self {
            listener: listen(settings)?,
            lag: LagWatch::new(lake, raw),
            every,
        })
    }

    /// Where they are answered, if they are.
    pub fn url(&self) -> Option<String> {
        let address = self.listener.as_ref()?.local_addr().ok()?;
        Some(format!("http://{address}/metrics"))
    }

    /// Answers, on a thread of their own, for as long as the future is polled.
    pub async fn run(self) {
        let Self {
            listener,
            mut lag,
            every,
        } = self;
        let watch = async {
            let mut is_away = false;
            loop {
                match lag.look().await {
                    Ok(_) => is_away = false,
                    Err(error) if !is_away => {
                        is_away = true;
                        tracing::warn!("how far the tables are behind cannot be told: {error}");
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(every).await;
            }
        };
        match listener.map(HttpServer::start) {
            Some(Ok(_server)) => watch.await,
            Some(Err(error)) => {
                tracing::error!("cannot answer requests for metrics: {error}");
                std::future::pending().await
            }
            // Nobody can ask.
            None => std::future::pending().await,
        }
    }

    /// The process has started.
    pub fn started() {
        METRICS.health.started();
    }

    /// The process is about to end.
    pub fn stopping() {
        METRICS.health.stopping();
    }
}

fn listen(settings: &Settings) -> Result<Option<TcpListener>, MonitoringError> {
    let metrics = &settings.metrics;
    let Some(listen) = metrics.listen else {
        return Ok(None);
    };
    if !listen.ip().is_loopback() && !metrics.allow_remote {
        return Err(MonitoringError::RemoteRefused { listen });
    }
    match TcpListener::bind(listen) {
        Ok(listener) => Ok(Some(listener)),
        Err(source) if metrics.is_chosen => Err(MonitoringError::CannotListen { listen, source }),
        // Two servers on one machine, and nobody has said which has the metrics.
        Err(error) => {
            tracing::warn!(
                "there are no metrics: {listen} cannot be listened on: {error}; `metrics.listen` names another address"
            );
            Ok(None)
        }
    }
}
