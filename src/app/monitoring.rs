//! The metrics of a long-running process: the endpoint that serves them, and the measurement of the lag of the tables.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::config::Settings;
use crate::jobs::LagMonitor;
use crate::lake::{Store, StoreError};
use crate::metrics::METRICS;
use crate::metrics::http::HttpServer;

/// The interval at which raw files on this machine are listed.
const LISTING_INTERVAL: Duration = Duration::from_secs(5);
/// The interval at which raw files in an object store are listed, where listing is slow and costs money.
const REMOTE_LISTING_INTERVAL: Duration = Duration::from_secs(60);

/// An error of opening the metrics endpoint.
#[derive(Debug, thiserror::Error)]
pub enum MonitoringError {
    /// The address is in use, or does not belong to this machine.
    #[error(
        "cannot listen on {listen} for metrics (`metrics.listen`): the port is in use, or the address does not belong to this \
         machine; set another, or \"off\""
    )]
    CannotListen {
        /// The address.
        listen: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Other machines could read the metrics, and the settings do not allow that.
    #[error(
        "refused to serve metrics on {listen}: other machines could read them without a credential; set \
         `metrics.allow_remote` to allow this"
    )]
    RemoteRefused {
        /// The address.
        listen: SocketAddr,
    },
    /// The lake or the raw folder cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The metrics of a process, ready to be served.
pub struct Monitoring {
    listener: Option<TcpListener>,
    lag: LagMonitor,
    interval: Duration,
}

impl Monitoring {
    /// Binds the address of the settings.
    pub async fn open(settings: &Settings) -> Result<Self, MonitoringError> {
        let lake = Store::open(&settings.lake, settings.storage.options())?;
        let raw = Store::open(&settings.raw, settings.storage.options())?;
        let every = if raw.local_path().is_some() {
            LISTING_INTERVAL
        } else {
            REMOTE_LISTING_INTERVAL
        };
        Ok(Self {
            listener: bind_listener(settings)?,
            lag: LagMonitor::new(lake, raw),
            interval: every,
        })
    }

    /// Returns the URL of the metrics, if they are served.
    pub fn url(&self) -> Option<String> {
        let address = self.listener.as_ref()?.local_addr().ok()?;
        Some(format!("http://{address}/metrics"))
    }

    /// Serves the metrics on a separate thread and measures the lag, for as long as the future is polled.
    pub async fn run(self) {
        let Self {
            listener,
            mut lag,
            interval: every,
        } = self;
        let watch = async {
            let mut has_failed = false;
            loop {
                match lag.check().await {
                    Ok(_) => has_failed = false,
                    Err(error) if !has_failed => {
                        has_failed = true;
                        tracing::warn!("cannot measure the lag of the tables: {error}");
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(every).await;
            }
        };
        match listener.map(HttpServer::start) {
            Some(Ok(_server)) => watch.await,
            Some(Err(error)) => {
                tracing::error!("cannot serve metrics: {error}");
                std::future::pending().await
            }
            // Without an endpoint, nobody can read the lag.
            None => std::future::pending().await,
        }
    }

    /// Records that the process has started.
    pub fn mark_started() {
        METRICS.health.mark_started();
    }

    /// Records that the process is about to end.
    pub fn mark_stopping() {
        METRICS.health.mark_stopping();
    }
}

fn bind_listener(settings: &Settings) -> Result<Option<TcpListener>, MonitoringError> {
    let metrics = &settings.metrics;
    let Some(listen) = metrics.listen else {
        return Ok(None);
    };
    if !listen.ip().is_loopback() && !metrics.allow_remote {
        return Err(MonitoringError::RemoteRefused { listen });
    }
    match TcpListener::bind(listen) {
        Ok(listener) => Ok(Some(listener)),
        Err(source) if metrics.is_explicit => Err(MonitoringError::CannotListen { listen, source }),
        // Another server on this machine may have the default address; only an address that was set explicitly is an
        // error.
        Err(error) => {
            tracing::warn!(
                "metrics are not served: cannot listen on {listen}: {error}; set `metrics.listen` to another address"
            );
            Ok(None)
        }
    }
}
