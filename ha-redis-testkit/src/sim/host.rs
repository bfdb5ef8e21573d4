//! The machines of the simulation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ha_redis_core::Address;
use ha_redis_core::runtime::Endpoint;

pub(super) const SERVERS: usize = 3;
pub(super) const SENTINELS: usize = 3;
/// The number of hosts, including the attacker's.
pub(super) const HOSTS: usize = 1 + SERVERS + SENTINELS + 1;

/// A machine: the client's, a Redis server, a Sentinel, or the one behind all addresses of an attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Client,
    Redis(usize),
    Sentinel(usize),
    Attacker,
}

impl Host {
    /// Returns the host's index in tables of all hosts.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Redis(number) => 1 + number,
            Self::Sentinel(number) => 1 + SERVERS + number,
            Self::Attacker => HOSTS - 1,
        }
    }

    /// Returns every server and Sentinel.
    pub(super) fn servers() -> impl Iterator<Item = Self> {
        (0..SERVERS).map(Self::Redis).chain((0..SENTINELS).map(Self::Sentinel))
    }

    pub(super) fn port(self) -> u16 {
        if let Self::Sentinel(_) = self { 26379 } else { 6379 }
    }

    /// Returns the host's address by name, which every host uses.
    pub(super) fn address(self) -> Address {
        Address::tcp(self.to_string(), self.port())
    }

    /// Returns the IP address that the host's name resolves to.
    pub(super) fn ip(self) -> IpAddr {
        let [.., place] = self.index().to_be_bytes();
        Ipv4Addr::new(10, 0, 0, place).into()
    }

    /// Returns the host that listens on an endpoint.
    pub(super) fn at(endpoint: Endpoint<'_>) -> Option<Self> {
        let host = Self::servers().find(|host| endpoint == Endpoint::Tcp((host.ip(), host.port()).into()));
        host.or_else(|| (network_of(endpoint) == Some(66)).then_some(Self::Attacker))
    }

    /// Returns true if connection attempts to this endpoint get no reply at all, not even a refusal.
    pub(super) fn is_silent(endpoint: Endpoint<'_>) -> bool {
        network_of(endpoint) == Some(98)
    }
}

/// Returns the second octet of an address.
fn network_of(endpoint: Endpoint<'_>) -> Option<u8> {
    match endpoint {
        Endpoint::Tcp(address) => match address.ip() {
            IpAddr::V4(ip) => Some(ip.octets()[1]),
            IpAddr::V6(_) => None,
        },
        Endpoint::Unix(_) => None,
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Attacker => f.write_str("attacker"),
            Self::Redis(number) => write!(f, "redis{number}"),
            Self::Sentinel(number) => write!(f, "sentinel{number}"),
        }
    }
}
