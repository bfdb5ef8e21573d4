//! The current servers behind a client.

use std::fmt;
use std::time::Duration;

use redis::Value;

use crate::address::Address;
use crate::proto::{Replication, Role, Secrets};

/// The maximum number of replicas that a client connects to, and that are read from one list of a server or a
/// Sentinel. Each receives the password.
pub(crate) const MAX_REPLICAS: usize = 64;

/// The maximum number of entries of a server's list to look at: some may be no addresses.
const MAX_LISTED: usize = 1_024;

/// The servers behind a client, as the Sentinels (or, without them, the master itself) describe them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Topology {
    /// The master.
    pub master: Address,
    /// Its replicas, at most 64 of those that a server lists.
    pub replicas: Vec<Replica>,
    /// The number of Sentinels that answered; 0 without Sentinels.
    pub sentinels: usize,
    /// The number of known Sentinels; 0 without Sentinels.
    pub known_sentinels: usize,
    /// The number of Sentinels that must agree that the master is down; 0 without Sentinels.
    pub quorum: usize,
    /// The Sentinels' configuration epoch, which grows with every failover; 0 without Sentinels.
    pub epoch: u64,
    /// Whether the Sentinels consider the master up.
    pub master_healthy: bool,
    /// The state of each Sentinel that was queried, by address; empty without Sentinels.
    pub sentinel_states: Vec<SentinelState>,
}

impl Topology {
    /// A topology of which only the master is known.
    pub(crate) fn of(master: Address) -> Self {
        Self {
            master,
            replicas: Vec::new(),
            sentinels: 0,
            known_sentinels: 0,
            quorum: 0,
            epoch: 0,
            master_healthy: true,
            sentinel_states: Vec::new(),
        }
    }

    /// Reads the reply of the server at `asked` to ROLE. Addresses that contain a password are left out.
    pub(crate) fn from_role(role: &Value, asked: Address, secrets: &Secrets) -> Self {
        let address = |host, port| address(host, port).filter(|address| !secrets.are_in(address));
        let Value::Array(parts) = role else { return Self::of(asked) };
        match (parts.first().and_then(text).as_deref(), parts.as_slice()) {
            (Some("master"), [_, _, Value::Array(replicas), ..]) => {
                let addresses = replicas.iter().take(MAX_LISTED).filter_map(|replica| match replica {
                    Value::Array(parts) => address(parts.first()?, parts.get(1)?),
                    _ => None,
                });
                let replicas = addresses.take(MAX_REPLICAS).map(|address| Replica::new(address, true));
                Self { replicas: replicas.collect(), ..Self::of(asked) }
            }
            (Some("slave"), [_, host, port, link, ..]) => {
                let Some(master) = address(host, port) else { return Self::of(asked) };
                let healthy = text(link).as_deref() == Some("connected");
                Self { replicas: vec![Replica::new(asked, healthy)], ..Self::of(master) }
            }
            _ => Self::of(asked),
        }
    }

    /// Reads the reply of the server at `asked` to `INFO replication`.
    pub(crate) fn from_replication(replication: Replication, asked: Address) -> Self {
        match replication.master {
            Some(master) if replication.role == Role::Replica => {
                Self { replicas: vec![Replica::new(asked, replication.link_up)], ..Self::of(master) }
            }
            _ => {
                let replicas = replication.replicas.into_iter().take(MAX_REPLICAS);
                let replicas = replicas.map(|address| Replica::new(address, true)).collect();
                Self { replicas, ..Self::of(asked) }
            }
        }
    }

    /// Returns true if the master is healthy and, with Sentinels, at least one replica could take its place and a
    /// majority of the Sentinels could promote it.
    pub fn is_healthy(&self) -> bool {
        let replicas = self.known_sentinels == 0 || self.replicas.iter().any(|replica| replica.healthy);
        self.master_healthy && self.has_majority() && replicas
    }

    /// Returns true if a majority of the known Sentinels answers and is not in TILT mode, so that a failover could happen; always true
    /// without Sentinels.
    pub fn has_majority(&self) -> bool {
        self.known_sentinels == 0 || self.acting_sentinels() > self.known_sentinels / 2
    }

    /// Returns the number of Sentinels that name a master and are not in TILT mode.
    fn acting_sentinels(&self) -> usize {
        self.sentinel_states.iter().filter(|sentinel| sentinel.master.is_some() && !sentinel.tilt).count()
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let healthy = self.replicas.iter().filter(|replica| replica.healthy).count();
        write!(f, "master {}, {healthy} of {} replicas healthy", self.master, self.replicas.len())?;
        if self.known_sentinels > 0 {
            write!(f, ", {} of {} Sentinels answer", self.sentinels, self.known_sentinels)?;
            write!(f, ", quorum {}, epoch {}", self.quorum, self.epoch)?;
            let tilt = self.sentinel_states.iter().filter(|sentinel| sentinel.tilt).count();
            if tilt > 0 {
                write!(f, ", {tilt} in TILT mode")?;
            }
            if !self.has_majority() {
                f.write_str(", no majority: no failover can happen")?;
            }
        }
        Ok(())
    }
}

fn text(value: &Value) -> Option<String> {
    redis::from_redis_value_ref(value).ok()
}

fn address(host: &Value, port: &Value) -> Option<Address> {
    Address::announced(&text(host)?, &text(port)?)
}

/// A replica of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replica {
    /// The address where it listens.
    pub address: Address,
    /// Whether it is up and connected to its master, as far as the Sentinels or the master know.
    pub healthy: bool,
    /// The latency of its replies; `None` unless the client reads from replicas and this one has answered.
    pub latency: Option<Duration>,
    /// How many bytes it is behind its master; `None` unless the client reads from replicas and this one has
    /// answered.
    pub lag_bytes: Option<u64>,
}

impl Replica {
    pub(crate) fn new(address: Address, healthy: bool) -> Self {
        Self { address, healthy, latency: None, lag_bytes: None }
    }
}

/// The state of one Sentinel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentinelState {
    /// The address where it was queried, as the configuration or another Sentinel lists it.
    pub address: Address,
    /// The master that it names; `None` when it did not answer or monitors no such master.
    pub master: Option<Address>,
    /// The configuration epoch in which it names that master. A Sentinel with a lower epoch than the others has not
    /// learned of a failover yet.
    pub epoch: Option<u64>,
    /// Whether it is in TILT mode: its clock or its host stood still, so it takes no action for a while.
    pub tilt: bool,
    /// Why it named no master.
    pub error: Option<String>,
}
