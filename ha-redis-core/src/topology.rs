//! The servers behind a client, as they are now.

use std::fmt;

use crate::address::Address;

/// The servers behind a client, as the Sentinels (or, without them, the master itself) describe them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Topology {
    /// The master.
    pub master: Address,
    /// Its replicas.
    pub replicas: Vec<Replica>,
    /// How many Sentinels answered; 0 without Sentinels.
    pub sentinels: usize,
    /// How many Sentinels there are, as far as is known; 0 without Sentinels.
    pub known_sentinels: usize,
    /// How many Sentinels must agree that the master is down; 0 without Sentinels.
    pub quorum: usize,
    /// The Sentinels' configuration epoch, which grows with every failover; 0 without Sentinels.
    pub epoch: u64,
    /// Whether the Sentinels take the master for well.
    pub master_healthy: bool,
}

impl Topology {
    /// Whether the master is well, at least one replica could take its place (where Sentinels watch over it),
    /// and a majority of the Sentinels answers, so that a failover could happen.
    pub fn is_healthy(&self) -> bool {
        let sentinels = self.known_sentinels == 0 || self.sentinels > self.known_sentinels / 2;
        let replicas = self.known_sentinels == 0 || self.replicas.iter().any(|replica| replica.healthy);
        self.master_healthy && sentinels && replicas
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let healthy = self.replicas.iter().filter(|replica| replica.healthy).count();
        write!(f, "master {}, {healthy} of {} replicas healthy", self.master, self.replicas.len())?;
        if self.known_sentinels > 0 {
            write!(f, ", {} of {} Sentinels answer", self.sentinels, self.known_sentinels)?;
            write!(f, ", quorum {}, epoch {}", self.quorum, self.epoch)?;
        }
        Ok(())
    }
}

/// A replica of the master.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replica {
    /// Where it listens.
    pub address: Address,
    /// Whether it is up and in touch with its master, as far as the one who describes it knows.
    pub healthy: bool,
}
