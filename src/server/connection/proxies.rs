//! Client addresses that trusted proxies report: by the PROXY protocol at the start of a connection, and by the header
//! `x-forwarded-for` of a call.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};
use tonic::codegen::http::HeaderMap;

use crate::config::Networks;

const FORWARDED_FOR: &str = "x-forwarded-for";
/// The maximum number of addresses in the header that are considered.
const MAX_HOPS: usize = 16;
/// The maximum length of a header of version 1, in bytes, with its line end.
const MAX_V1_BYTES: usize = 107;
/// The maximum length of the variable part of a header of version 2, in bytes.
const MAX_V2_BYTES: u16 = 2048;
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Returns the address of the client as trusted proxies report it. `address` is the origin of the connection. The address
/// that a hop reports is used only if the hop itself is a trusted proxy.
pub(in crate::server) fn resolve_client_address(
    address: IpAddr,
    headers: &HeaderMap,
    trusted: &Networks,
) -> IpAddr {
    let mut client = address;
    // A proxy appends an address; the addresses that it received itself stand before it.
    let values = headers.get_all(FORWARDED_FOR).iter();
    let values: Vec<&str> = values.map_while(|value| value.to_str().ok()).collect();
    let hops = values.iter().rev().flat_map(|value| value.rsplit(','));
    for hop in hops.take(MAX_HOPS) {
        if !trusted.contains(client) {
            break;
        }
        match parse_hop(hop.trim()) {
            Some(hop) => client = hop,
            None => break,
        }
    }
    client
}

/// Reads `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1` or `[2001:db8::1]:4711`.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let address = text.parse().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    Some(address.or_else(in_brackets)?.to_canonical())
}

/// Reads the header of the PROXY protocol. Returns the client's address; none if the proxy reports no client.
///
/// # Errors
///
/// Fails if there is no such header, or it is malformed.
pub(in crate::server) async fn read_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<SocketAddr>> {
    // The length of the signature of version 2; every line of version 1 is at least as long.
    let mut start = [0; V2_SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == V2_SIGNATURE {
        return read_v2(stream).await;
    }
    let mut line = Vec::with_capacity(MAX_V1_BYTES);
    line.extend_from_slice(&start);
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_V1_BYTES || !line.starts_with(b"PROXY ") {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    let line = std::str::from_utf8(&line).map_err(|_| malformed())?;
    parse_v1(line.trim_end()).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "no header of the PROXY protocol, or a malformed one",
    )
}

/// Parses `PROXY TCP4 192.0.2.1 192.0.2.9 56324 443`, or `PROXY UNKNOWN` followed by anything.
fn parse_v1(line: &str) -> Option<Option<SocketAddr>> {
    let mut parts = line.split(' ');
    if parts.next() != Some("PROXY") {
        return None;
    }
    let is_v4 = match parts.next()? {
        "TCP4" => true,
        "TCP6" => false,
        "UNKNOWN" => return Some(None),
        _ => return None,
    };
    let source: IpAddr = parts.next()?.parse().ok()?;
    let _destination: IpAddr = parts.next()?.parse().ok()?;
    let port: u16 = parts.next()?.parse().ok()?;
    let _destination_port: u16 = parts.next()?.parse().ok()?;
    (parts.next().is_none() && source.is_ipv4() == is_v4)
        .then_some(Some(SocketAddr::new(source.to_canonical(), port)))
}

async fn read_v2(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let command = stream.read_u8().await?;
    let family = stream.read_u8().await?;
    let length = stream.read_u16().await?;
    if length > MAX_V2_BYTES {
        return Err(malformed());
    }
    let mut rest = vec![0; usize::from(length)];
    stream.read_exact(&mut rest).await?;
    parse_v2(command, family, &rest).ok_or_else(malformed)
}

fn parse_v2(command: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    match command {
        // LOCAL: a health check by the proxy.
        0x20 => return Some(None),
        0x21 => {}
        _ => return None,
    }
    let port = |at: usize| Some(u16::from_be_bytes(rest.get(at..at + 2)?.try_into().ok()?));
    match family {
        0x11 => {
            let source: [u8; 4] = rest.get(..4)?.try_into().ok()?;
            Some(Some(SocketAddr::new(source.into(), port(8)?)))
        }
        0x21 => {
            let source: [u8; 16] = rest.get(..16)?.try_into().ok()?;
            let source = IpAddr::from(source).to_canonical();
            Some(Some(SocketAddr::new(source, port(32)?)))
        }
        // Unspecified: the address of the connection is used.
        0x00 => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Networks {
        let toml = format!("[serve]\ntrusted_proxies = {text:?}\n");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plantlake.toml"), toml).unwrap();
        let inputs = crate::config::Inputs {
            folder: folder.path().to_owned(),
            ..Default::default()
        };
        let loaded = crate::config::load(&inputs).unwrap();
        loaded.settings.serve.connections.trusted_proxies
    }

    #[test]
    fn resolve_client_address_uses_addresses_of_trusted_proxies_only() {
        let trusted = networks("127.0.0.1, 10.0.0.0/8");
        let client = |address: &str, values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(FORWARDED_FOR, value.parse().unwrap());
            }
            resolve_client_address(address.parse().unwrap(), &headers, &trusted).to_string()
        };
        assert_eq!(client("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(client("127.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(
            client("192.0.2.9", &["192.0.2.1"]),
            "192.0.2.9",
            "not trusted"
        );
        // Addresses that the client itself sends stand before the one that the first proxy appends.
        assert_eq!(client("127.0.0.1", &["1.1.1.1, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(
            client("127.0.0.1", &["1.1.1.1, 192.0.2.1, 10.0.0.2"]),
            "192.0.2.1"
        );
        assert_eq!(
            client("127.0.0.1", &["1.1.1.1", "192.0.2.1:99"]),
            "192.0.2.1"
        );
        assert_eq!(client("127.0.0.1", &["[2001:db8::1]:99"]), "2001:db8::1");
        assert_eq!(client("127.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(
            client("::ffff:127.0.0.1", &["::ffff:192.0.2.1"]),
            "192.0.2.1"
        );
        for wrong in ["", "unknown", "_hidden", "192.0.2", "192.0.2.1, x"] {
            assert_eq!(client("127.0.0.1", &[wrong]), "127.0.0.1", "{wrong}");
        }
        let many = format!("192.0.2.1,{}10.0.0.1", "10.0.0.1,".repeat(1_000));
        assert_eq!(client("127.0.0.1", &[many.as_str()]), "10.0.0.1");
    }

    async fn read(bytes: &[u8]) -> io::Result<Option<SocketAddr>> {
        read_header(&mut &*bytes).await
    }

    #[tokio::test]
    async fn read_header_accepts_both_versions() {
        let v1 = read(b"PROXY TCP4 192.0.2.1 192.0.2.9 56324 443\r\nPRI").await;
        assert_eq!(v1.unwrap(), Some("192.0.2.1:56324".parse().unwrap()));
        let v1 = read(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n").await;
        assert_eq!(v1.unwrap(), Some("[2001:db8::1]:1".parse().unwrap()));
        assert_eq!(read(b"PROXY UNKNOWN\r\n").await.unwrap(), None);
        let v2 = |command, family, rest: &[u8]| {
            let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
            [&V2_SIGNATURE[..], &[command, family], &length, rest].concat()
        };
        let rest = [192, 0, 2, 1, 192, 0, 2, 9, 0, 5, 1, 187, 3, 0, 0];
        let tcp = read(&v2(0x21, 0x11, &rest)).await.unwrap();
        assert_eq!(tcp, Some("192.0.2.1:5".parse().unwrap()));
        assert_eq!(read(&v2(0x20, 0, &[])).await.unwrap(), None);
        for wrong in [
            v2(0x21, 0x11, &[1, 2, 3]),
            v2(0x21, 0x31, &rest),
            v2(0x31, 0x11, &rest),
            v2(0x21, 0x11, &[0; 4_000]),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.9 56324\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 192.0.2.9 1 65536\r\n".to_vec(),
            [b"PROXY UNKNOWN".to_vec(), vec![b' '; 200], b"\r\n".to_vec()].concat(),
            b"PROXY TCP".to_vec(),
        ] {
            assert!(read(&wrong).await.is_err(), "{wrong:?}");
        }
    }
}
