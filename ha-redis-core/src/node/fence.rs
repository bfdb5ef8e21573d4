//! Fencing: ending abandoned connections on the server.
//!
//! A connection that is abandoned with replies outstanding may have commands under way: held by the network, by a
//! proxy, or in the buffers of a server that hangs. If they arrive after their caller has retried and continued, they
//! undo later writes. So the next connection to that server first has the server end the old one.
//!
//! A retry uses only a connection that was fenced after the abandonment. Each abandoned connection has a number, and
//! each connection records how many there were when it was fenced.
//!
//! Fencing needs `CLIENT ID`, `CLIENT LIST` and `CLIENT KILL`. Where the user may not run all of them, nothing is
//! fenced.

use std::time::Instant;

use redis::{Cmd, Value, cmd};

use crate::address::Address;
use crate::conn::link::Link;
use crate::conn::raw_connection::RawConnection;
use crate::error::{Error, Kind, may_succeed_later, printable_error};
use crate::node::core::Core;
use crate::peer_text::text_of;
use crate::proto::refused;
use crate::sync::{Mutex, lock};
use crate::time::{Elapsed, until};

/// Two clocks differ by at most one part in this many.
const DRIFT: u64 = 10_000;

/// The maximum number of abandoned connections to remember; the latest ones stay.
const MAX_ABANDONED: usize = 1024;

/// The abandoned connections that are not fenced yet.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    abandoned: Vec<Abandoned>,
    /// How many connections have been abandoned so far.
    count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Abandoned {
    address: Address,
    /// The server's id of the connection.
    id: i64,
    opened: Instant,
}

impl Fences {
    /// Records an abandoned connection with replies outstanding.
    pub(crate) fn add(&self, link: &Link) {
        let Some(abandoned) = Abandoned::of(link) else { return };
        let mut state = lock(&self.state);
        if !state.abandoned.contains(&abandoned) {
            state.abandoned.push(abandoned);
            state.count += 1;
        }
        let forgotten = state.abandoned.len().saturating_sub(MAX_ABANDONED);
        state.abandoned.drain(..forgotten);
    }

    /// Returns how many connections have been abandoned so far.
    pub(crate) fn count(&self) -> u64 {
        lock(&self.state).count
    }

    /// Removes a connection that recovered or was fenced.
    pub(crate) fn remove(&self, link: &Link) {
        if let Some(well) = Abandoned::of(link) {
            lock(&self.state).abandoned.retain(|abandoned| *abandoned != well);
        }
    }

    fn of(&self, address: &Address) -> Vec<Abandoned> {
        lock(&self.state)
            .abandoned
            .iter()
            .filter(|abandoned| abandoned.address == *address)
            .cloned()
            .collect()
    }

    fn remove_all(&self, fenced: &[Abandoned]) {
        lock(&self.state).abandoned.retain(|abandoned| !fenced.contains(abandoned));
    }
}

impl Abandoned {
    fn of(link: &Link) -> Option<Self> {
        Some(Self { address: link.address.clone(), id: link.connection_id?, opened: link.opened })
    }

    fn kill(&self) -> Cmd {
        cmd("CLIENT").arg("KILL").arg("ID").arg(self.id).take()
    }

    /// Returns true if a connection of that age, in seconds, may be this one. A server restarts its connection ids
    /// when it restarts, so the id may belong to another client by then, but that connection is younger.
    fn may_be_of_age(&self, age: u64, now: Instant) -> bool {
        let own_age = now.saturating_duration_since(self.opened).as_secs();
        // The server counts whole seconds, by its own clock.
        age.saturating_add(1 + own_age / DRIFT) >= own_age
    }
}

/// Has the server at `address` end the abandoned connections to it.
pub(crate) async fn fence(core: &Core, address: &Address, raw: &mut RawConnection) -> Result<(), Error> {
    raw.set_fences(core.fences.count());
    let abandoned = core.fences.of(address);
    if abandoned.is_empty() {
        return Ok(());
    }
    let bound = core.runtime.now() + core.config().socket_connect_timeout();
    raw.limit_to_handshake();
    match until(&*core.runtime, bound, kill(core, &abandoned, raw)).await {
        Ok(killed) => killed.map_err(|error| core.data.hide_secrets(error))?,
        Err(Elapsed) => {
            let message = format!("cannot fence the abandoned connections to {address}: no reply in time");
            return Err(Error::new(Kind::Timeout, message));
        }
    }
    raw.set_limits(core.data.limits());
    core.fences.remove_all(&abandoned);
    Ok(())
}

async fn kill(core: &Core, abandoned: &[Abandoned], raw: &mut RawConnection) -> Result<(), Error> {
    let Some(listed) = list(core, abandoned, raw).await? else { return Ok(()) };
    let (now, mut ours) = (core.runtime.now(), Vec::new());
    for abandoned in abandoned {
        match listed_age(abandoned, &listed) {
            Some(age) if abandoned.may_be_of_age(age, now) => ours.push(abandoned),
            Some(age) => {
                let id = abandoned.id;
                tracing::warn!(
                    address = %abandoned.address, id, age,
                    "cannot end an abandoned connection on the server: its id belongs to a younger connection"
                );
            }
            None => {}
        }
    }
    if ours.is_empty() {
        return Ok(());
    }
    let kills = ours.iter().map(|abandoned| abandoned.kill()).collect::<Vec<_>>();
    for (abandoned, reply) in ours.iter().zip(raw.query(&kills).await?) {
        match reply {
            // The next connection tries again.
            Value::ServerError(error) if may_succeed_later(&error) => {
                return Err(refused("CLIENT KILL", &error));
            }
            Value::ServerError(error) => {
                let error = core.data.hide(printable_error(&error));
                tracing::debug!(error, id = abandoned.id, "cannot end an abandoned connection on the server");
            }
            _ => {
                tracing::info!(address = %abandoned.address, id = abandoned.id, "ended an abandoned connection")
            }
        }
    }
    Ok(())
}

/// Returns the server's list of connections, which includes the abandoned ones that are still open. `None` when they
/// cannot be listed: the id alone may belong to another client's connection if the server restarted.
async fn list(
    core: &Core,
    abandoned: &[Abandoned],
    raw: &mut RawConnection,
) -> Result<Option<String>, Error> {
    let mut by_id = cmd("CLIENT");
    by_id.arg("LIST").arg("ID");
    abandoned.iter().for_each(|abandoned| _ = by_id.arg(abandoned.id));
    // Servers before 6.2 list all connections or none.
    for question in [by_id, cmd("CLIENT").arg("LIST").take()] {
        match raw.query(&[question]).await?.pop().unwrap_or(Value::Nil) {
            Value::ServerError(error) if may_succeed_later(&error) => {
                return Err(refused("CLIENT LIST", &error));
            }
            Value::ServerError(error) => {
                let error = core.data.hide(printable_error(&error));
                tracing::debug!(error, "cannot list the abandoned connections");
            }
            listed => return Ok(text_of(&listed, usize::MAX).map(str::to_owned)),
        }
    }
    Ok(None)
}

/// Returns the age in seconds of the connection that the server lists under this id.
fn listed_age(abandoned: &Abandoned, listed: &str) -> Option<u64> {
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    let is_ours = |line: &&str| field(line, "id").is_some_and(|id| i64::try_from(id) == Ok(abandoned.id));
    listed.lines().find(is_ours).and_then(|line| field(line, "age"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn connection_of_restarted_server_is_not_ended() {
        let opened = Instant::now();
        let abandoned = |seconds: u64| {
            let address = Address::tcp("localhost", 1);
            (Abandoned { address, id: 7, opened }, opened + Duration::from_secs(seconds))
        };
        let (young, now) = abandoned(30);
        assert!(young.may_be_of_age(30, now) && young.may_be_of_age(29, now), "rounded down");
        assert!(!young.may_be_of_age(12, now), "made after a restart");
        let (old, now) = abandoned(30 * 86_400);
        assert!(old.may_be_of_age(30 * 86_400 - 200, now), "two clocks drift apart");
    }

    #[test]
    fn age_is_read_for_the_listed_id() {
        let abandoned = Abandoned { address: Address::tcp("localhost", 1), id: 7, opened: Instant::now() };
        let line = |id: u64, age: u64| format!("id={id} addr=127.0.0.1:5 name= age={age} idle=0 cmd=get\n");
        assert_eq!(listed_age(&abandoned, &format!("{}{}", line(6, 1), line(7, 30))), Some(30));
        assert_eq!(listed_age(&abandoned, &line(77, 30)), None);
        assert!(listed_age(&abandoned, "").is_none() && listed_age(&abandoned, "id=x age=").is_none());
    }
}
