//! Maps announced addresses that the client cannot use to those where servers are reached.

use std::collections::HashSet;
use std::fmt;

use super::setting::is_host;
use crate::address::Address;

/// Announced addresses and where each is reached: for servers behind NAT, or in containers with published ports.
///
/// An entry maps `host:port` to `host:port`, or `host` to `host` with any port; entries with a port take precedence.
/// IPv6 addresses with a port are in brackets. Addresses without an entry are used as announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressMap {
    entries: Vec<(String, String)>,
}

impl AddressMap {
    pub(super) fn new(entries: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        let entries = entries.into_iter().map(|(announced, reached)| (announced.into(), reached.into()));
        Self { entries: entries.collect() }
    }

    /// Reads `announced=reached,…`, as [`Display`](fmt::Display) writes it.
    pub(super) fn read(text: &str) -> Option<Self> {
        let entries = text.split(',').map(|entry| entry.split_once('='));
        Some(Self::new(entries.collect::<Option<Vec<_>>>()?)).filter(Self::is_valid)
    }

    /// Returns true if each entry maps a host to a host, or a host and port to a host and port, and none is listed
    /// twice.
    pub(super) fn is_valid(&self) -> bool {
        let targets = self.entries.iter().map(|(announced, reached)| {
            let (announced, reached) = (Target::read(announced)?, Target::read(reached)?);
            (announced.port.is_some() == reached.port.is_some()).then_some(announced)
        });
        let mut seen = HashSet::new();
        targets.into_iter().all(|target| target.is_some_and(|target| seen.insert(target)))
    }

    /// Returns true if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the entries as they were set: (announced, reached).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(announced, reached)| (announced.as_str(), reached.as_str()))
    }

    /// Returns where a server that announces `address` is reached; `None` if there is no entry for it.
    ///
    /// ```
    /// use ha_redis_core::{Address, RedisConfig};
    ///
    /// # fn main() -> Result<(), ha_redis_core::ConfigError> {
    /// let config = RedisConfig::builder()
    ///     .address_map([("10.0.0.1:6379", "localhost:7001"), ("10.0.0.2", "redis-2.example")])
    ///     .build()?;
    /// let reached = |host, port| config.address_map().reach(&Address::tcp(host, port));
    /// assert_eq!(reached("10.0.0.1", 6379), Some(Address::tcp("localhost", 7001)));
    /// assert_eq!(reached("10.0.0.2", 6380), Some(Address::tcp("redis-2.example", 6380)));
    /// assert_eq!(reached("10.0.0.1", 6380), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reach(&self, address: &Address) -> Option<Address> {
        let Address::Tcp { host, port } = address else { return None };
        let entry = |port: Option<u16>| {
            let announced = Target { host: host.to_ascii_lowercase(), port };
            let mut entries = self.entries.iter();
            let (_, reached) =
                entries.find(|(target, _)| Target::read(target).as_ref() == Some(&announced))?;
            Target::read(reached)
        };
        let reached = entry(Some(*port)).or_else(|| entry(None))?;
        Some(Address::tcp(reached.host, reached.port.unwrap_or(*port)))
    }
}

/// `announced=reached,…`
impl fmt::Display for AddressMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (announced, reached)) in self.entries.iter().enumerate() {
            let separator = if index > 0 { "," } else { "" };
            write!(f, "{separator}{announced}={reached}")?;
        }
        Ok(())
    }
}

/// One side of an entry: `host`, `host:port`, `::1` or `[::1]:port`. Host names are case-insensitive.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Target {
    host: String,
    port: Option<u16>,
}

impl Target {
    fn read(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        if is_host(&text) {
            return Some(Self { host: text, port: None });
        }
        match text.parse() {
            Ok(Address::Tcp { host, port }) if is_host(&host) => Some(Self { host, port: Some(port) }),
            _ => None,
        }
    }
}
