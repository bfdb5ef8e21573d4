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
use crate::error::{Error, Kind, said, will_pass};
use crate::node::core::Core;
use crate::peer_text::text_of;
use crate::proto::refused;
use crate::sync::{Mutex, lock};
use crate::time::{Elapsed, until};

/// Two clocks differ by at most one part in this many.
const DRIFT: u64 = 10_000;

/// The maximum number of abandoned connections to remember; the latest ones stay.
const REMEMBERED: usize = 1024;

/// The abandoned connections that are not fenced yet.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    given_up: Vec<GivenUp>,
    /// How many connections have been abandoned so far.
    count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct GivenUp {
    address: Address,
    /// The server's id of the connection.
    id: i64,
    opened: Instant,
}

impl Fences {
    /// Records an abandoned connection with replies outstanding.
    pub(crate) fn add(&self, link: &Link) {
        let Some(given_up) = GivenUp::of(link) else { return };
        let mut state = lock(&self.state);
        if !state.given_up.contains(&given_up) {
            state.given_up.push(given_up);
            state.count += 1;
        }
        let forgotten = state.given_up.len().saturating_sub(REMEMBERED);
        state.given_up.drain(..forgotten);
    }

    /// Returns how many connections have been abandoned so far.
    pub(crate) fn count(&self) -> u64 {
        lock(&self.state).count
    }

    /// Removes a connection that recovered or was fenced.
    pub(crate) fn remove(&self, link: &Link) {
        if let Some(well) = GivenUp::of(link) {
            lock(&self.state).given_up.retain(|given_up| *given_up != well);
        }
    }

    fn of(&self, address: &Address) -> Vec<GivenUp> {
        lock(&self.state).given_up.iter().filter(|given_up| given_up.address == *address).cloned().collect()
    }

    fn remove_all(&self, fenced: &[GivenUp]) {
        lock(&self.state).given_up.retain(|given_up| !fenced.contains(given_up));
    }
}

impl GivenUp {
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
    let given_up = core.fences.of(address);
    if given_up.is_empty() {
        return Ok(());
    }
    let bound = core.runtime.now() + core.config.socket_connect_timeout();
    raw.limit_to_handshake();
    match until(&*core.runtime, bound, kill(core, &given_up, raw)).await {
        Ok(killed) => killed.map_err(|error| core.data.hide_secrets(error))?,
        Err(Elapsed) => {
            let message = format!("{address} did not say whether it has ended a given-up connection");
            return Err(Error::new(Kind::Timeout, message));
        }
    }
    raw.set_limits(core.data.limits());
    core.fences.remove_all(&given_up);
    Ok(())
}

async fn kill(core: &Core, given_up: &[GivenUp], raw: &mut RawConnection) -> Result<(), Error> {
    let Some(listed) = list(core, given_up, raw).await? else { return Ok(()) };
    let (now, mut ours) = (core.runtime.now(), Vec::new());
    for given_up in given_up {
        match listed_age(given_up, &listed) {
            Some(age) if given_up.may_be_of_age(age, now) => ours.push(given_up),
            Some(age) => {
                let id = given_up.id;
                tracing::warn!(
                    address = %given_up.address, id, age,
                    "a given-up connection is not ended on the server: its number belongs to a younger one by now"
                );
            }
            None => {}
        }
    }
    if ours.is_empty() {
        return Ok(());
    }
    let kills = ours.iter().map(|given_up| given_up.kill()).collect::<Vec<_>>();
    for (given_up, reply) in ours.iter().zip(raw.query(&kills).await?) {
        match reply {
            // The next connection tries again.
            Value::ServerError(error) if will_pass(&error) => return Err(refused("CLIENT KILL", &error)),
            Value::ServerError(error) => {
                let error = core.data.hide(said(&error));
                tracing::debug!(
                    error,
                    id = given_up.id,
                    "a given-up connection cannot be ended on the server"
                );
            }
            _ => tracing::info!(address = %given_up.address, id = given_up.id, "ended a given-up connection"),
        }
    }
    Ok(())
}

/// Returns the server's list of connections, which includes the abandoned ones that are still open. `None` when they
/// cannot be listed: the id alone may belong to another client's connection if the server restarted.
async fn list(core: &Core, given_up: &[GivenUp], raw: &mut RawConnection) -> Result<Option<String>, Error> {
    let mut by_id = cmd("CLIENT");
    by_id.arg("LIST").arg("ID");
    given_up.iter().for_each(|given_up| _ = by_id.arg(given_up.id));
    // Servers before 6.2 list all connections or none.
    for question in [by_id, cmd("CLIENT").arg("LIST").take()] {
        match raw.query(&[question]).await?.pop().unwrap_or(Value::Nil) {
            Value::ServerError(error) if will_pass(&error) => return Err(refused("CLIENT LIST", &error)),
            Value::ServerError(error) => {
                let error = core.data.hide(said(&error));
                tracing::debug!(error, "given-up connections cannot be listed");
            }
            listed => return Ok(text_of(&listed, usize::MAX).map(str::to_owned)),
        }
    }
    Ok(None)
}

/// Returns the age in seconds of the connection that the server lists under this id.
fn listed_age(given_up: &GivenUp, listed: &str) -> Option<u64> {
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    let is_ours = |line: &&str| field(line, "id").is_some_and(|id| i64::try_from(id) == Ok(given_up.id));
    listed.lines().find(is_ours).and_then(|line| field(line, "age"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn connection_of_another_run_of_the_server_is_left_alone() {
        let opened = Instant::now();
        let given_up = |seconds: u64| {
            let address = Address::tcp("localhost", 1);
            (GivenUp { address, id: 7, opened }, opened + Duration::from_secs(seconds))
        };
        let (young, now) = given_up(30);
        assert!(young.may_be_of_age(30, now) && young.may_be_of_age(29, now), "rounded down");
        assert!(!young.may_be_of_age(12, now), "made after a restart");
        let (old, now) = given_up(30 * 86_400);
        assert!(old.may_be_of_age(30 * 86_400 - 200, now), "two clocks drift apart");
    }

    #[test]
    fn age_is_that_of_the_listed_number() {
        let given_up = GivenUp { address: Address::tcp("localhost", 1), id: 7, opened: Instant::now() };
        let line = |id: u64, age: u64| format!("id={id} addr=127.0.0.1:5 name= age={age} idle=0 cmd=get\n");
        assert_eq!(listed_age(&given_up, &format!("{}{}", line(6, 1), line(7, 30))), Some(30));
        assert_eq!(listed_age(&given_up, &line(77, 30)), None);
        assert!(listed_age(&given_up, "").is_none() && listed_age(&given_up, "id=x age=").is_none());
    }
}
