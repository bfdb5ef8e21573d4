//! Fencing connections that were given up while they owed replies.
//!
//! What was written on such a connection may still be under way: held by the network, by a proxy, or in the buffers of a
//! server that hangs. If it arrives after its caller has repeated it and gone on, it undoes what was written since. So
//! the next connection to that server has the server end the old one before it serves anybody.
//!
//! That needs `CLIENT LIST` and `CLIENT KILL`. Where a user may do neither, nothing is fenced.

use std::time::Instant;

use redis::{Cmd, Value, cmd};

use crate::address::Address;
use crate::engine::core::Core;
use crate::engine::dialog::Dialog;
use crate::error::{Error, Kind, will_pass};
use crate::link::Link;
use crate::proto::refused;
use crate::sync::{Mutex, lock};
use crate::time::{Elapsed, until};

/// So many given-up connections are remembered, the latest ones.
const REMEMBERED: usize = 64;

/// The connections that were given up and not fenced yet.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    given_up: Mutex<Vec<GivenUp>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct GivenUp {
    address: Address,
    /// By which the server knows the connection.
    id: i64,
    opened: Instant,
}

impl Fences {
    /// Remembers a connection that still owes replies, or that ended owing them.
    pub(crate) fn add(&self, link: &Link) {
        let Some(given_up) = GivenUp::of(link) else { return };
        let mut all = lock(&self.given_up);
        if !all.contains(&given_up) {
            all.push(given_up);
        }
        let forgotten = all.len().saturating_sub(REMEMBERED);
        all.drain(..forgotten);
    }

    /// Forgets a connection that is well again, or was fenced.
    pub(crate) fn remove(&self, link: &Link) {
        if let Some(well) = GivenUp::of(link) {
            lock(&self.given_up).retain(|given_up| *given_up != well);
        }
    }

    fn of(&self, address: &Address) -> Vec<GivenUp> {
        lock(&self.given_up).iter().filter(|given_up| given_up.address == *address).cloned().collect()
    }

    fn remove_all(&self, fenced: &[GivenUp]) {
        lock(&self.given_up).retain(|given_up| !fenced.contains(given_up));
    }
}

impl GivenUp {
    fn of(link: &Link) -> Option<Self> {
        Some(Self { address: link.address.clone(), id: link.connection_id?, opened: link.opened })
    }

    fn kill(&self) -> Cmd {
        cmd("CLIENT").arg("KILL").arg("ID").arg(self.id).take()
    }
}

/// Has the server at `address` end the connections to it that were given up.
pub(crate) async fn fence(core: &Core, address: &Address, dialog: &mut Dialog) -> Result<(), Error> {
    let given_up = core.fences.of(address);
    if given_up.is_empty() {
        return Ok(());
    }
    let bound = core.runtime.now() + core.config.socket_connect_timeout();
    match until(&*core.runtime, bound, kill(core, &given_up, dialog)).await {
        Ok(killed) => killed?,
        Err(Elapsed) => {
            let message = format!("{address} did not say whether it has ended a given-up connection");
            return Err(Error::new(Kind::Timeout, message));
        }
    }
    core.fences.remove_all(&given_up);
    Ok(())
}

async fn kill(core: &Core, given_up: &[GivenUp], dialog: &mut Dialog) -> Result<(), Error> {
    let mut list = cmd("CLIENT");
    list.arg("LIST").arg("ID");
    given_up.iter().for_each(|given_up| _ = list.arg(given_up.id));
    let listed = dialog.ask(&[list]).await?.pop().unwrap_or(Value::Nil);
    let ours = match listed {
        // Servers before 6.2 list all or none, and a user may not be allowed to list.
        Value::ServerError(error) => {
            tracing::debug!(%error, "given-up connections cannot be listed");
            given_up.iter().filter(|given_up| is_older(given_up, dialog)).collect::<Vec<_>>()
        }
        listed => {
            let listed = redis::from_redis_value::<String>(listed).unwrap_or_default();
            given_up.iter().filter(|given_up| is_listed(given_up, &listed, core.runtime.now())).collect()
        }
    };
    if ours.is_empty() {
        return Ok(());
    }
    let kills = ours.iter().map(|given_up| given_up.kill()).collect::<Vec<_>>();
    for (given_up, reply) in ours.iter().zip(dialog.ask(&kills).await?) {
        match reply {
            // The next connection asks again.
            Value::ServerError(error) if will_pass(&error) => return Err(refused("CLIENT KILL", &error)),
            Value::ServerError(error) => {
                tracing::debug!(%error, id = given_up.id, "a given-up connection cannot be ended on the server");
            }
            _ => tracing::info!(address = %given_up.address, id = given_up.id, "ended a given-up connection"),
        }
    }
    Ok(())
}

/// A server that was restarted counts its connections anew: the same number may be another client's by now. Numbers
/// grow, so that a new connection with a smaller one tells of the restart.
fn is_older(given_up: &GivenUp, dialog: &Dialog) -> bool {
    dialog.connection_id().is_some_and(|id| id > given_up.id)
}

/// Whether the list of connections has this very one. One that was made after a restart is younger than ours.
fn is_listed(given_up: &GivenUp, listed: &str, now: Instant) -> bool {
    // The server counts in whole seconds, by a clock of its own.
    let age = now.saturating_duration_since(given_up.opened).as_secs();
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    listed.lines().any(|line| {
        let same = field(line, "id").is_some_and(|id| i64::try_from(id) == Ok(given_up.id));
        same && field(line, "age").is_some_and(|listed| listed + 1 >= age)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn connection_of_another_run_of_the_server_is_left_alone() {
        let opened = Instant::now();
        let given_up = GivenUp { address: Address::tcp("localhost", 1), id: 7, opened };
        let now = opened + Duration::from_secs(30);
        let line = |id: u64, age: u64| format!("id={id} addr=127.0.0.1:5 name= age={age} idle=0 cmd=get\n");
        assert!(is_listed(&given_up, &line(7, 30), now));
        assert!(is_listed(&given_up, &line(7, 29), now), "rounded down");
        assert!(!is_listed(&given_up, &line(7, 12), now), "made after a restart");
        assert!(!is_listed(&given_up, &line(8, 30), now));
        assert!(!is_listed(&given_up, "", now) && !is_listed(&given_up, "id=x age=", now));
    }
}
