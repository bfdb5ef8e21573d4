//! The faults of the demo's master.

use std::time::Instant;

use clap::ValueEnum;
use ha_redis_testkit::{Error, Topology};
use serde::Serialize;

/// The fault of the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    /// The master is killed, as by a crash
    Kill,
    /// The master hangs, but its connections stay open
    Hang,
    /// An operator starts a failover, as before maintenance
    Planned,
    /// No fault
    None,
}

impl Fault {
    /// Injects the fault and returns its time.
    pub(crate) fn inject(self, topology: &Topology) -> Result<Instant, Error> {
        let master = topology.master()?;
        let at = Instant::now();
        match self {
            Self::Kill => master.kill()?,
            Self::Hang => master.hang()?,
            Self::Planned => drop(topology.planned_failover()?),
            Self::None => {}
        }
        Ok(at)
    }

    /// Returns true if calls may be lost with the master, and writes that it had not replicated.
    pub(crate) fn loses_master(self) -> bool {
        matches!(self, Self::Kill | Self::Hang)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Hang => "hang",
            Self::Planned => "planned",
            Self::None => "none",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Kill => "A Redis master is killed",
            Self::Hang => "A Redis master hangs",
            Self::Planned => "A planned failover",
            Self::None => "No fault",
        }
    }

    pub(crate) fn event(self) -> &'static str {
        match self {
            Self::Kill => "the master is killed",
            Self::Hang => "the master hangs",
            Self::Planned => "a failover is ordered",
            Self::None => "nothing happens",
        }
    }
}
