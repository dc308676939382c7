//! The connection to a Qdrant server: timeouts, retries, error mapping and the version check.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use qdrant_client::{Qdrant, QdrantError};
use url::{Host, Url};

use crate::search::index::error::IndexError;

/// The oldest supported server version, the first that counts document frequencies over a subset of the points. Older
/// servers ignore the subset and count all points.
const MIN_VERSION: (u32, u32) = (1, 19);
/// The maximum wait for a connection. Without a route to the server, no error arrives.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The factor of the timeout for long calls, such as updates with many points.
const LONG_TIMEOUT_FACTOR: u32 = 12;
/// The pause before the retry of a call: a server that restarts closes its connections first.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The status codes of gRPC as numbers, because only `flight` may use the gRPC crate.
mod code {
    pub const CANCELLED: i32 = 1;
    pub const UNKNOWN: i32 = 2;
    pub const DEADLINE_EXCEEDED: i32 = 4;
    pub const NOT_FOUND: i32 = 5;
    pub const PERMISSION_DENIED: i32 = 7;
    pub const RESOURCE_EXHAUSTED: i32 = 8;
    pub const INTERNAL: i32 = 13;
    pub const UNAVAILABLE: i32 = 14;
    pub const UNAUTHENTICATED: i32 = 16;
}

/// A connection that is opened at its first use, and reopened after a loss.
pub(super) struct Connection {
    client: Qdrant,
    url: String,
    key: Option<String>,
    timeout: Duration,
    /// Whether the server's version was checked since the server was last unavailable.
    is_version_checked: AtomicBool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("url", &self.url)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The timeout class of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum TimeoutClass {
    /// A user waits for the call.
    Short,
    /// The call is part of indexing.
    Long,
}

impl Connection {
    /// Creates a connection to the server at this URL. Nothing is sent.
    pub fn new(url: &str, key: Option<&str>, timeout: Duration) -> Result<Self, IndexError> {
        let parsed = Url::parse(url).ok();
        // A password in the URL must not appear in logs.
        let shown = match &parsed {
            Some(parsed) => {
                let mut shown = parsed.clone();
                let _ = shown.set_username("");
                let _ = shown.set_password(None);
                shown.as_str().trim_end_matches('/').to_owned()
            }
            None => "of `qdrant_url`".to_owned(),
        };
        let unfit = |problem: &str| IndexError::Unsuitable {
            url: shown.clone(),
            problem: problem.to_owned(),
        };
        let Some(parsed) = parsed else {
            return Err(unfit("has an invalid URL; check `qdrant_url`"));
        };
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(unfit(
                "has a URL that begins with neither http:// nor https://",
            ));
        }
        if let Some(key) = key {
            if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(unfit(
                    "has an invalid `qdrant_api_key`: it must consist of visible ASCII characters, without blanks",
                ));
            }
            if parsed.scheme() == "http" && !is_loopback(&parsed) {
                return Err(unfit(
                    "would receive `qdrant_api_key` unencrypted; use https://",
                ));
            }
        }
        let client = Qdrant::from_url(&shown)
            .api_key(key)
            .timeout(timeout * LONG_TIMEOUT_FACTOR)
            .connect_timeout(timeout.min(CONNECT_TIMEOUT))
            // The version is checked here, without writing to standard output.
            .skip_compatibility_check()
            .build()
            .map_err(|_| unfit("has an invalid URL; check `qdrant_url`"))?;
        Ok(Self {
            client,
            url: shown,
            key: key.map(str::to_owned),
            timeout,
            is_version_checked: AtomicBool::default(),
        })
    }

    /// Creates an error for an unsuitable server or configuration.
    pub fn unsuitable(&self, problem: impl Into<String>) -> IndexError {
        IndexError::Unsuitable {
            url: self.url.clone(),
            problem: problem.into(),
        }
    }

    /// Creates an error for a failure that may be temporary.
    pub fn unavailable(&self, problem: impl Into<String>) -> IndexError {
        IndexError::Unavailable {
            url: self.url.clone(),
            problem: problem.into(),
        }
    }

    /// Makes a call, and retries it once if the connection is lost, so the call must be idempotent. `collection` is
    /// the collection that it concerns.
    pub async fn call<T, F: Future<Output = Result<T, QdrantError>>>(
        &self,
        patience: TimeoutClass,
        collection: &str,
        call: impl Fn(Qdrant) -> F,
    ) -> Result<T, IndexError> {
        let limit = match patience {
            TimeoutClass::Short => self.timeout,
            TimeoutClass::Long => self.timeout * LONG_TIMEOUT_FACTOR,
        };
        let called = tokio::time::timeout(limit, async {
            let first = self.call_once(collection, &call).await;
            if !matches!(first, Err(IndexError::Unavailable { .. })) {
                return first;
            }
            tokio::time::sleep(RETRY_DELAY).await;
            self.call_once(collection, &call).await
        });
        let called = called.await.unwrap_or_else(|_| {
            Err(self.unavailable(format!("no answer within {} s", limit.as_secs_f32())))
        });
        if matches!(called, Err(IndexError::Unavailable { .. })) {
            // A different version may run when the server is back.
            self.is_version_checked.store(false, Ordering::Relaxed);
        }
        called
    }

    async fn call_once<T, F: Future<Output = Result<T, QdrantError>>>(
        &self,
        collection: &str,
        call: &impl Fn(Qdrant) -> F,
    ) -> Result<T, IndexError> {
        if !self.is_version_checked.load(Ordering::Relaxed) {
            let reply = self.client.health_check().await;
            let reply = reply.map_err(|error| self.to_index_error(error, collection))?;
            self.check_version(&reply.version)?;
            self.is_version_checked.store(true, Ordering::Relaxed);
        }
        let called = call(self.client.clone()).await;
        called.map_err(|error| self.to_index_error(error, collection))
    }

    fn check_version(&self, version: &str) -> Result<(), IndexError> {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
        let (oldest, than) = MIN_VERSION;
        match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) if (major, minor) >= MIN_VERSION => Ok(()),
            _ => Err(self.unsuitable(format!(
                "has version {version:.20}; {oldest}.{than} or newer is required, because older ones also count the words \
                 of other organisations' assets"
            ))),
        }
    }

    /// Maps an error of the client. Its text is not used as it is, because it contains the metadata.
    fn to_index_error(&self, error: QdrantError, collection: &str) -> IndexError {
        let status = match error {
            QdrantError::ResponseError { status } => status,
            QdrantError::ResourceExhaustedError {
                retry_after_seconds,
                ..
            } => {
                return self.unavailable(format!("busy; retry after {retry_after_seconds} s"));
            }
            QdrantError::InvalidUri(_) => {
                return self.unsuitable("has an invalid URL; check `qdrant_url`");
            }
            _ => return self.unsuitable("cannot be called with this request"),
        };
        let said = self.redact_key(status.message());
        match i32::from(status.code()) {
            code::NOT_FOUND => IndexError::Missing {
                collection: collection.to_owned(),
            },
            code::UNAUTHENTICATED | code::PERMISSION_DENIED => IndexError::Unauthenticated {
                url: self.url.clone(),
            },
            code::INTERNAL if said.starts_with("Failed to connect") => {
                self.unavailable("no connection")
            }
            code::INTERNAL if said.starts_with("Failed to create TLS") => {
                self.unsuitable("cannot be reached over TLS: this machine has no root certificates; set `SSL_CERT_FILE`")
            }
            code::CANCELLED | code::DEADLINE_EXCEEDED => self.unavailable("no answer in time"),
            code::UNAVAILABLE | code::UNKNOWN | code::RESOURCE_EXHAUSTED => self.unavailable(said),
            number => self.unsuitable(format!("returned an error: {said} (code {number})")),
        }
    }

    fn redact_key(&self, said: &str) -> String {
        let said: String = said.chars().take(300).collect();
        match &self.key {
            Some(key) => said.replace(key, "******"),
            None => said,
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(url: &str, key: Option<&str>) -> Result<Connection, IndexError> {
        Connection::new(url, key, Duration::from_secs(1))
    }

    #[test]
    fn new_with_key_requires_tls_or_loopback() {
        for good in [
            "http://localhost:6334",
            "http://127.0.0.1:6334",
            "http://[::1]:6334",
            "https://qdrant.example:6334",
        ] {
            assert!(connection(good, Some("key")).is_ok(), "{good}");
        }
        for bad in [
            "http://qdrant.example:6334",
            "http://10.0.0.7",
            "ftp://localhost",
            "x",
        ] {
            let error = connection(bad, Some("hush")).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
        assert!(connection("http://qdrant.example:6334", None).is_ok());
        for bad in ["", "a b", "grün", "a\n"] {
            let error = connection("https://qdrant.example", Some(bad)).unwrap_err();
            assert!(matches!(error, IndexError::Unsuitable { .. }), "{bad:?}");
        }
    }

    #[test]
    fn connection_output_contains_no_secrets() {
        let connection = connection("http://me:hush@localhost:6334", Some("key-hush")).unwrap();
        assert!(!format!("{connection:?}").contains("hush"));
        assert!(!connection.unsuitable("is not").to_string().contains("hush"));
        assert_eq!(connection.redact_key("bad key-hush!"), "bad ******!");
    }

    #[test]
    fn check_version_rejects_old_servers() {
        let connection = connection("http://localhost:6334", None).unwrap();
        for good in ["1.19.0", "1.20.1-dev", "2.0.0"] {
            assert!(connection.check_version(good).is_ok(), "{good}");
        }
        for bad in ["1.18.2", "0.30.0", "", "one.two"] {
            let error = connection.check_version(bad).unwrap_err();
            assert!(matches!(error, IndexError::Unsuitable { .. }), "{bad}");
        }
    }
}
