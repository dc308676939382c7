//! TLS certificates: read from files and reloaded when these change, or generated for development.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::validity::Validity;
use crate::clock;
use crate::metrics::METRICS;

/// The interval at which the files are checked for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The reason why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read the {what} {}; check `serve.tls_cert` and `serve.tls_key`", path.display())]
    Read {
        /// `certificate` or `private key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The certificate and the private key cannot be used together.
    #[error("the certificate and the private key cannot be used together")]
    Incompatible(#[source] tokio_rustls::rustls::Error),
    /// No certificate can be generated.
    #[error("cannot generate a certificate for development")]
    Generate(#[from] rcgen::Error),
}

/// The source of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSource {
    /// PEM files.
    Files {
        /// The certificate, followed by the intermediate certificates.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// A self-signed certificate for these names, generated at the start.
    SelfSigned(Vec<String>),
}

/// The current certificate. Cheap to clone.
#[derive(Clone)]
pub(in crate::server) struct Tls {
    source: TlsSource,
    /// The state of the files before they were first read: a change soon after the start counts as well.
    first: Option<Stamps>,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

/// The size and the time of the last change, of the certificate and of the private key.
type Stamps = [Option<(u64, SystemTime)>; 2];

impl Tls {
    /// Reads or generates the certificate. A generated one is also returned as PEM, for clients to trust.
    pub fn open(source: TlsSource) -> Result<(Self, Option<String>), TlsError> {
        let mut first = None;
        let (config, made) = match &source {
            TlsSource::Files { certificate, key } => {
                first = Some(stamps(certificate, key));
                let (config, validity) = read_files(certificate, key)?;
                publish_expiry(validity);
                (config, None)
            }
            TlsSource::SelfSigned(names) => {
                let made = rcgen::generate_simple_self_signed(names.clone())?;
                let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
                let config = server_config(vec![made.cert.der().clone()], key.into())?;
                (config, Some(made.cert.pem()))
            }
        };
        let tls = Self {
            source,
            first,
            config: Arc::new(RwLock::new(Arc::new(config))),
        };
        Ok((tls, made))
    }

    /// Returns the acceptor for the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }

    /// Reloads changed files, for as long as the future is polled. Files that cannot be used change nothing.
    pub async fn watch_files(&self) {
        let TlsSource::Files { certificate, key } = &self.source else {
            return std::future::pending().await;
        };
        let mut known = self.first;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = Some(stamps(certificate, key));
            if now == known {
                continue;
            }
            known = now;
            match read_files(certificate, key) {
                Ok((config, validity)) => {
                    publish_expiry(validity);
                    let mut current = self.config.write().unwrap_or_else(PoisonError::into_inner);
                    *current = Arc::new(config);
                    tracing::info!("the changed certificate was loaded");
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(
                        "{error} ({}); the previous certificate stays in use",
                        cause.unwrap_or_default()
                    );
                }
            }
        }
    }
}

fn stamps(certificate: &Path, key: &Path) -> Stamps {
    [certificate, key].map(|path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.len(), file.modified().ok()?))
    })
}

/// Publishes the end of the certificate's validity as a metric, and warns if it has passed.
fn publish_expiry(validity: Option<Validity>) {
    let until = validity.map(|validity| validity.until);
    METRICS
        .certificate_expiry
        .set_source(move || Some(until?.timestamp() as f64));
    if let Some(until) = until.filter(|until| *until <= clock::now()) {
        tracing::warn!("the certificate expired on {until}; clients will reject it");
    }
}

/// Reads the files. Returns the TLS configuration, and the validity of the server's own certificate.
pub(in crate::server) fn read_files(
    certificate: &Path,
    key: &Path,
) -> Result<(ServerConfig, Option<Validity>), TlsError> {
    let failed = |what, path: &Path, source| TlsError::Read {
        what,
        path: path.to_owned(),
        source,
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(|chain| chain.collect::<Result<Vec<_>, _>>())
        .map_err(|error| failed("certificate", certificate, error.into()))?;
    let Some(own) = chain.first() else {
        let empty = io::Error::new(
            io::ErrorKind::InvalidData,
            "the file contains no certificate",
        );
        return Err(failed("certificate", certificate, empty.into()));
    };
    let validity = Validity::from_certificate(own);
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| failed("private key", key, error.into()))?;
    Ok((server_config(chain, secret)?, validity))
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Incompatible)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
