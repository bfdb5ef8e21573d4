//! The faults that the demo's master can have.

use std::time::Instant;

use clap::ValueEnum;
use ha_redis_testkit::{Error, Topology};
use serde::Serialize;

/// What happens to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fault {
    /// It is killed, as by a crash
    Kill,
    /// It stops answering, but its connections stay
    Hang,
    /// The Sentinels are told to make a replica master, as before maintenance
    Planned,
    /// Nothing
    None,
}

impl Fault {
    /// Lets it happen, and returns the moment.
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

    /// Whether calls are bound to be lost with the master, and writes that it had not passed on.
    pub(crate) fn takes_the_master_away(self) -> bool {
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
