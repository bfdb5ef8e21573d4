//! What goes wrong.

use std::time::Duration;

use clap::ValueEnum;
use ha_redis_testkit::{Error, Server, Topology};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// The master is killed, as by a crash
    Kill,
    /// The master stops answering, but its connections stay
    Hang,
    /// A Sentinel is told to make a replica master, as before maintenance
    Planned,
    /// The master is cut off from both replicas and two Sentinels; the client and one Sentinel still reach it
    Partition,
    /// So is that Sentinel, the first one in the client's list: it keeps naming the old master
    StaleSentinel,
    /// Every server and every Sentinel is restarted, one after another
    RollingRestart,
}

impl Fault {
    /// Starts the servers that it happens to.
    pub(crate) fn topology(self) -> Result<Topology, Error> {
        let topology = Topology::builder().down_after(Duration::from_millis(500));
        match self {
            Self::Kill | Self::Hang | Self::Planned => topology.start(),
            Self::Partition | Self::StaleSentinel => topology.partitionable().start(),
            // What is restarted has to find its keys again.
            Self::RollingRestart => topology.config("appendonly yes").start(),
        }
    }

    /// Lets it happen to this master; a rolling restart has ended when this returns.
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

    /// Whether a replica becomes master in its course.
    pub(crate) fn promotes(self) -> bool {
        self != Self::RollingRestart
    }

    /// Whether the old master goes on answering, and believes that it is master.
    pub(crate) fn splits(self) -> bool {
        matches!(self, Self::Partition | Self::StaleSentinel)
    }

    /// Whether the old master answers until a replica is master.
    pub(crate) fn lets_the_master_live(self) -> bool {
        !matches!(self, Self::Kill | Self::Hang)
    }

    /// How often, at the most, the connection to a master is lost: the times that a caller's call may be under way.
    pub(crate) fn losses_of_a_master(self) -> u64 {
        // In a rolling restart, each server may be master when its turn comes.
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
