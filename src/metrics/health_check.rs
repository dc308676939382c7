//! A client that checks the health of the plantlake process on this machine through its metrics port. Container engines run
//! it as a health check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The time limit of a health check, including the connection and the response.
const HEALTH_CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum number of bytes read of a response; responses of plantlake are shorter.
const MAX_RESPONSE_BYTES: u64 = 4_096;

/// The reason why a health check failed.
#[derive(Debug, thiserror::Error)]
pub enum HealthCheckError {
    /// No process listens at the address, or it does not respond in time.
    #[error(
        "no response from {address}: plantlake does not run here, or listens elsewhere (`metrics.listen`)"
    )]
    Unreachable {
        /// The address that was tried.
        address: SocketAddr,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The process reports that it is not ready, with the reason.
    #[error("{0}")]
    NotReady(String),
    /// The process at the address is not plantlake.
    #[error("the program that listens at {0} is not plantlake")]
    NotPlantlake(SocketAddr),
}

/// Sends a GET request for `path`, such as `/readyz`, to the process whose metrics are at `listen`. Returns the trimmed
/// body of the response.
pub async fn check_health(listen: SocketAddr, path: &str) -> Result<String, HealthCheckError> {
    let address = SocketAddr::new(
        match listen.ip() {
            // A client cannot connect to an unspecified address; it connects to the loopback address instead.
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        },
        listen.port(),
    );
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let asked = tokio::time::timeout(HEALTH_CHECK_TIMEOUT, async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream
            .take(MAX_RESPONSE_BYTES)
            .read_to_end(&mut answer)
            .await?;
        Ok(answer)
    });
    let asked = asked
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let answer = asked.map_err(|source| HealthCheckError::Unreachable { address, source })?;
    let answer = String::from_utf8_lossy(&answer);
    let stranger = || HealthCheckError::NotPlantlake(address);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(stranger)?;
    let status = head.strip_prefix("HTTP/1.1 ").ok_or_else(stranger)?;
    let said = body.trim().to_owned();
    match status.get(..3) {
        Some("200") => Ok(said),
        Some("503") => Err(HealthCheckError::NotReady(said)),
        _ => Err(stranger()),
    }
}
