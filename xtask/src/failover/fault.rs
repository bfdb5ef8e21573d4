//! The faults.

use std::time::Duration;

use clap::ValueEnum;
use ha_redis_testkit::{Error, Server, Topology};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// The master is killed, as by a crash
    Kill,
    /// The master hangs, but its connections stay open
    Hang,
    /// An operator starts a failover on a Sentinel, as before maintenance
    Planned,
    /// The master is partitioned from both replicas and two Sentinels; the client and one Sentinel still reach it
    Partition,
    /// As partition, but that Sentinel, the first in the client's list, reaches only the master and keeps naming it
    StaleSentinel,
    /// Every server and every Sentinel is restarted, one after another
    RollingRestart,
}

impl Fault {
    /// Starts the servers for the fault.
    pub(crate) fn topology(self) -> Result<Topology, Error> {
        let topology = Topology::builder().down_after(Duration::from_millis(500));
        match self {
            Self::Kill | Self::Hang | Self::Planned => topology.start(),
            Self::Partition | Self::StaleSentinel => topology.partitionable().start(),
            // Restarted servers must keep their keys.
            Self::RollingRestart => topology.config("appendonly yes").start(),
        }
    }

    /// Injects the fault. A rolling restart has ended when this returns.
    pub(crate) fn inject(self, topology: &Topology, master: &Server) -> Result<(), Error> {
        let [near, far @ ..] = topology.sentinels() else {
            return Err(Error::NotReady("there are no Sentinels".into()));
        };
        let majority: Vec<&Server> = topology.replicas()?.into_iter().chain(far).collect();
        match self {
            Self::Kill => master.kill(),
            Self::Hang => master.hang(),
            Self::Planned => topology.planned_failover().map(drop),
            Self::Partition => topology.partition(&[master], &majority),
            Self::StaleSentinel => topology.partition(&[master, near], &majority),
            Self::RollingRestart => {
                topology.servers().iter().chain(topology.sentinels()).try_for_each(|server| {
                    server.terminate()?;
                    server.restart()?;
                    topology.wait_until_healthy()
                })
            }
        }
    }

    /// Returns true if the fault leads to a promotion.
    pub(crate) fn promotes(self) -> bool {
        self != Self::RollingRestart
    }

    /// Returns true if the old master continues to reply as a master.
    pub(crate) fn isolates_master(self) -> bool {
        matches!(self, Self::Partition | Self::StaleSentinel)
    }

    /// Returns true if the old master replies until a replica is master.
    pub(crate) fn master_stays_up(self) -> bool {
        !matches!(self, Self::Kill | Self::Hang)
    }

    /// Returns how often the connection to a master is lost at most, which bounds a caller's calls with an unknown
    /// outcome.
    pub(crate) fn max_master_losses(self) -> u64 {
        // In a rolling restart, each server may be master when it is restarted.
        if self == Self::RollingRestart { 3 } else { 1 }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Planned => "planned",
            Self::Partition => "partition",
            Self::StaleSentinel => "stale-sentinel",
            Self::RollingRestart => "rolling-restart",
        }
    }
}
