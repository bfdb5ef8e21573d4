//! The machines of the simulation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ha_redis_core::Address;
use ha_redis_core::runtime::Endpoint;

pub(super) const SERVERS: usize = 3;
pub(super) const SENTINELS: usize = 3;
pub(super) const HOSTS: usize = 1 + SERVERS + SENTINELS;

/// A machine: where the client runs, a Redis server or a Sentinel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Client,
    Redis(usize),
    Sentinel(usize),
}

impl Host {
    /// Its place in tables of all hosts.
    pub(super) fn index(self) -> usize {
        match self {
            Self::Client => 0,
            Self::Redis(number) => 1 + number,
            Self::Sentinel(number) => 1 + SERVERS + number,
        }
    }

    /// Every host but the client.
    pub(super) fn servers() -> impl Iterator<Item = Self> {
        (0..SERVERS).map(Self::Redis).chain((0..SENTINELS).map(Self::Sentinel))
    }

    pub(super) fn port(self) -> u16 {
        if let Self::Sentinel(_) = self { 26379 } else { 6379 }
    }

    /// Its address by its name, which all know it by.
    pub(super) fn address(self) -> Address {
        Address::tcp(self.to_string(), self.port())
    }

    /// What its name stands for.
    pub(super) fn ip(self) -> IpAddr {
        let [.., place] = self.index().to_be_bytes();
        Ipv4Addr::new(10, 0, 0, place).into()
    }

    /// The one that listens there.
    pub(super) fn at(endpoint: Endpoint<'_>) -> Option<Self> {
        Self::servers().find(|host| endpoint == Endpoint::Tcp((host.ip(), host.port()).into()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Redis(number) => write!(f, "redis{number}"),
            Self::Sentinel(number) => write!(f, "sentinel{number}"),
        }
    }
}
