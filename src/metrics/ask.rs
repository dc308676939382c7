//! Asks a plantlake on this machine how it is, by the port of its metrics: what container engines run as a health check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A health check that takes longer is no good news.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than any answer has.
const LONGEST: u64 = 4_096;

/// Why nobody says that all is well.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens, or does not answer.
    #[error(
        "nobody answers at {address}: no plantlake runs here, or it has its metrics elsewhere (`metrics.listen`)"
    )]
    Silent {
        /// Where it was asked.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// It says why not.
    #[error("{0}")]
    Unwell(String),
    /// What answers is something else.
    #[error("what answers at {0} is not plantlake")]
    Stranger(SocketAddr),
}

/// What the process whose metrics are at `listen` says at `path`, such as `/readyz`.
pub async fn ask(listen: SocketAddr, path: &str) -> Result<String, AskError> {
    let address = SocketAddr::new(
        match listen.ip() {
            // "All addresses" is none to connect to.
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        },
        listen.port(),
    );
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let asked = tokio::time::timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).await?;
        Ok(answer)
    });
    let asked = asked
        .await
        .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let answer = asked.map_err(|source| AskError::Silent { address, source })?;
    let answer = String::from_utf8_lossy(&answer);
    let stranger = || AskError::Stranger(address);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(stranger)?;
    let status = head.strip_prefix("HTTP/1.1 ").ok_or_else(stranger)?;
    let said = body.trim().to_owned();
    match status.get(..3) {
        Some("200") => Ok(said),
        Some("503") => Err(AskError::Unwell(said)),
        _ => Err(stranger()),
    }
}
