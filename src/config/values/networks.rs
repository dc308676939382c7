//! IP networks, such as the proxies that a server trusts.

use std::net::IpAddr;

/// The maximum number of networks in one setting.
const MAX_NETWORKS: usize = 256;

/// A list of networks. The default contains no address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// All addresses that share the first `prefix_bits` bits of `address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Networks {
    /// Parses addresses and networks in CIDR notation, separated by commas; an empty text is an empty list.
    pub(in crate::config) fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim);
        let networks: Vec<Network> = parts
            .filter(|part| !part.is_empty())
            .map(Network::parse)
            .collect::<Result<_, _>>()?;
        match networks.len() > MAX_NETWORKS {
            true => Err(format!("has more than {MAX_NETWORKS} networks")),
            false => Ok(Self(networks)),
        }
    }

    /// Whether one of the networks contains `address`. An IPv4 address in IPv6 notation is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| format!("has {text:?}, which is neither an address nor a network"))?;
        let address = address.to_canonical();
        let all_bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|bits| *bits <= all_bits),
            None => Some(all_bits),
        };
        let prefix_bits = prefix_bits
            .ok_or_else(|| format!("has {text:?}, whose prefix is not from 0 to {all_bits}"))?;
        Ok(Self {
            address,
            prefix_bits,
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_bits));
                (u32::from(own) ^ u32::from(other)) & mask.unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_bits));
                (u128::from(own) ^ u128::from(other)) & mask.unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_addresses_with_their_prefix() {
        let networks = Networks::parse("10.0.0.0/8, 192.0.2.7,2001:db8::/32, ::1").unwrap();
        for inside in [
            "10.255.0.1",
            "192.0.2.7",
            "2001:db8:1::5",
            "::1",
            "::ffff:10.1.2.3",
        ] {
            assert!(networks.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "192.0.2.8", "2001:db9::1", "::2", "127.0.0.1"] {
            assert!(!networks.contains(outside.parse().unwrap()), "{outside}");
        }
        let everything = Networks::parse("0.0.0.0/0").unwrap();
        assert!(everything.contains("203.0.113.1".parse().unwrap()));
        assert!(!everything.contains("::1".parse().unwrap()));
        assert!(
            !Networks::parse(" ")
                .unwrap()
                .contains("127.0.0.1".parse().unwrap())
        );
    }

    #[test]
    fn networks_reject_malformed_text() {
        for text in [
            "localhost",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "1.2.3",
        ] {
            assert!(Networks::parse(text).is_err(), "{text}");
        }
        assert!(Networks::parse(&"::1,".repeat(MAX_NETWORKS + 1)).is_err());
    }
}
