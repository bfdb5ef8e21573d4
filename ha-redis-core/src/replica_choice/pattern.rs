//! Patterns that match servers by their addresses.

use std::net::IpAddr;
use std::str::FromStr;

use crate::address::Address;

/// Matches one server, or the servers of a zone. Redis does not report where a server is, so the configuration does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReplicaPattern {
    /// `10.0.0.1:6379`
    Address(Address),
    /// `redis1.example.com` or `10.0.0.1`, on any port.
    Host(String),
    /// `.zone-a.example.com`: all hosts whose names end with it.
    Domain(String),
    /// `10.1.0.0/16`: all hosts of an IP network whose addresses are IP addresses.
    Network { ip: IpAddr, bits: u8 },
}

impl ReplicaPattern {
    pub(crate) fn matches(&self, address: &Address) -> bool {
        let Address::Tcp { host, .. } = address else { return false };
        match self {
            Self::Address(named) => named == address,
            Self::Host(named) => host.eq_ignore_ascii_case(named),
            Self::Domain(suffix) => {
                let start = host.len().checked_sub(suffix.len());
                start.and_then(|start| host.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
            }
            Self::Network { ip, bits } => host.parse().is_ok_and(|host| {
                bits_of(host).1 == bits_of(*ip).1 && prefix(host, *bits) == prefix(*ip, *bits)
            }),
        }
    }
}

/// Returns the address as a number, and its number of bits.
fn bits_of(ip: IpAddr) -> (u128, u8) {
    match ip {
        IpAddr::V4(ip) => (u32::from(ip).into(), 32),
        IpAddr::V6(ip) => (ip.into(), 128),
    }
}

fn prefix(ip: IpAddr, bits: u8) -> u128 {
    let (number, length) = bits_of(ip);
    number.checked_shr(u32::from(length - bits)).unwrap_or(0)
}

impl FromStr for ReplicaPattern {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some((ip, bits)) = text.split_once('/') {
            let (ip, bits) = (ip.parse().map_err(drop)?, bits.parse().map_err(drop)?);
            return if bits <= bits_of(ip).1 { Ok(Self::Network { ip, bits }) } else { Err(()) };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let is_host = |host: &str| host.parse::<IpAddr>().is_ok() || is_name(host);
        match text.strip_prefix('.') {
            Some(domain) if is_name(domain) => Ok(Self::Domain(text.to_owned())),
            None if is_host(text) => Ok(Self::Host(text.to_owned())),
            _ => Err(()),
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_addresses() {
        let v4 = "10.1.2.3:6379";
        for (pattern, address, matches) in [
            (v4, v4, true),
            ("10.1.2.3:6380", v4, false),
            ("10.1.2.3", v4, true),
            ("10.1.2.4", v4, false),
            ("10.1.0.0/16", v4, true),
            ("10.1.2.3/32", v4, true),
            ("0.0.0.0/0", v4, true),
            ("10.2.0.0/16", v4, false),
            ("::/0", v4, false),
            ("fd00::/8", "[fd12::1]:6379", true),
            ("fd00::/8", "[fe80::1]:6379", false),
            ("fd12::1", "[fd12::1]:6379", true),
            (".a.example.com", "Redis1.A.example.com:1", true),
            (".a.example.com", "redis1.ba.example.com:1", false),
            (".a.example.com", "com:1", false),
            ("redis1", "redis1:1", true),
            ("10.1.0.0/16", "redis1:1", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(pattern.parse::<ReplicaPattern>().unwrap().matches(&address), matches, "{pattern}");
        }
    }

    #[test]
    fn rejects_invalid_patterns() {
        for text in ["", ".", "a b", "10.0.0.0/33", "10.0.0.0/", "zone/8", "/run/redis.sock", "::/129", ":1"]
        {
            assert!(text.parse::<ReplicaPattern>().is_err(), "{text}");
        }
    }
}
