//! The machines of the simulation.

use std::fmt;

use ha_redis_core::Address;

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

    pub(super) fn address(self) -> Address {
        Address::tcp(self.to_string(), self.port())
    }

    pub(super) fn at(address: &Address) -> Option<Self> {
        Self::servers().find(|host| host.address() == *address)
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
