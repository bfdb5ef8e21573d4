//! The faults: what an operator does to containers.

use clap::ValueEnum;

use super::stack::{Container, Stack};

/// A fault of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Fault {
    /// `docker kill` of the master
    Kill,
    /// `docker pause` of the master
    Pause,
    /// `docker network disconnect` of the master
    Disconnect,
    /// `docker restart` of every server and Sentinel, one after another; the master after `SENTINEL FAILOVER`
    RollingRestart,
}

/// Repairs what a fault has broken, once the callers have finished.
pub(super) type Repair = Box<dyn FnOnce(&Stack<'_>) -> Result<(), String>>;

impl Fault {
    pub(super) const ALL: [Self; 4] = [Self::Kill, Self::Pause, Self::Disconnect, Self::RollingRestart];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Disconnect => "disconnect",
            Self::RollingRestart => "rolling-restart",
        }
    }

    /// Returns the fault of the demo that has the same promises.
    pub(super) fn demo_fault(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause | Self::Disconnect => "hang",
            Self::RollingRestart => "planned",
        }
    }

    /// Causes the fault of this master, and returns what ends it.
    pub(super) fn cause(self, stack: &Stack<'_>, master: &Container) -> Result<Repair, String> {
        let Container { id, address, .. } = master.clone();
        match self {
            Self::Kill => {
                stack.docker(&["kill", &id])?;
                Ok(Box::new(move |stack| stack.docker(&["start", &id]).map(drop)))
            }
            Self::Pause => {
                stack.docker(&["pause", &id])?;
                Ok(Box::new(move |stack| stack.docker(&["unpause", &id]).map(drop)))
            }
            Self::Disconnect => {
                stack.docker(&["network", "disconnect", &stack.network(), &id])?;
                Ok(Box::new(move |stack| {
                    let network = stack.network();
                    stack.docker(&["network", "connect", "--ip", &address, &network, &id]).map(drop)
                }))
            }
            Self::RollingRestart => {
                rolling_restart(stack, master)?;
                Ok(Box::new(|_| Ok(())))
            }
        }
    }
}

/// Restarts the replicas, makes one of them master, and restarts the former master and the Sentinels.
fn rolling_restart(stack: &Stack<'_>, master: &Container) -> Result<(), String> {
    let restart = |container: &Container| {
        stack.docker(&["restart", &container.id])?;
        stack.wait_until_running(container)
    };
    let (servers, sentinels) = (stack.servers(), stack.sentinels());
    servers.iter().filter(|server| server.id != master.id).try_for_each(restart)?;
    stack.wait_until_healthy()?;
    let reply = stack.query(&sentinels[0], &["sentinel", "failover", "mymaster"])?;
    if reply != "OK" {
        return Err(format!("{} refused SENTINEL FAILOVER: {reply}", sentinels[0].service));
    }
    stack.wait_for_master_after(master)?;
    stack.wait_until_healthy()?;
    restart(master)?;
    sentinels.iter().try_for_each(restart)
}
