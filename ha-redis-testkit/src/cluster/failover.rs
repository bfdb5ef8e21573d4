//! Failovers that operators start.

use std::time::Duration;

use super::Cluster;
use super::view::View;
use crate::error::{Error, wait_for};
use crate::server::Server;

/// A replica gives a failover up after five seconds.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(6);

/// How often a failover is started. A replica may not get the votes soon after the previous failover of its master.
const ATTEMPTS: usize = 3;

/// How a replica replaces its master: the options of `CLUSTER FAILOVER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// The master stops serving and hands over, so that no write is lost.
    Planned,
    /// `FORCE`: the replica does not wait for its master. Most masters must agree.
    Force,
    /// `TAKEOVER`: the replica asks neither its master nor the others.
    Takeover,
}

impl Cluster {
    /// Makes a replica the master, and returns when it is. Other nodes learn of it later.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the node is no replica, or if its master is down and the failover is planned;
    /// [`Error::TimedOut`] after three attempts, each of which the replica gives up after 5 s.
    pub fn failover(&self, replica: &Server, how: Failover) -> Result<(), Error> {
        let mut command = vec!["CLUSTER", "FAILOVER"];
        command.extend(match how {
            Failover::Planned => None,
            Failover::Force => Some("FORCE"),
            Failover::Takeover => Some("TAKEOVER"),
        });
        let attempt = || {
            replica.query(&command)?;
            wait_for(GIVEN_UP_AFTER, || check_master(replica))
        };
        let mut outcome = attempt();
        for _ in 1..ATTEMPTS {
            match outcome {
                Err(Error::TimedOut { .. }) => outcome = attempt(),
                outcome => return outcome,
            }
        }
        outcome
    }
}

fn check_master(node: &Server) -> Result<(), Error> {
    match View::of(node)?.myself().is_master() {
        true => Ok(()),
        false => Err(Error::NotReady(format!("node {} is not a master", node.port()))),
    }
}
