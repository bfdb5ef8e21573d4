//! What the client's user may not do, and what servers and proxies do not know: none of it may be needed.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::host::Host;
use super::reply;
use super::world::World;

/// What the client sends to servers of data by itself.
const ASKED_OF_SERVERS: [&str; 7] =
    ["PING", "ROLE", "INFO", "CLIENT ID", "CLIENT LIST", "CLIENT KILL", "CLIENT SETNAME"];
/// What it sends to Sentinels, beyond the question who is master.
const ASKED_OF_SENTINELS: [&str; 7] = [
    "PING",
    "INFO",
    "SUBSCRIBE",
    "SENTINEL MYID",
    "SENTINEL REPLICAS",
    "SENTINEL SENTINELS",
    "CLIENT SETNAME",
];

/// The commands that are refused, and how.
#[derive(Clone, Debug, Default)]
pub(super) struct Rights {
    on_servers: BTreeMap<&'static str, Refusal>,
    on_sentinels: BTreeMap<&'static str, Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NoPermission,
    /// It is renamed, or from a time after the server's.
    Unknown,
}

impl Rights {
    /// Mostly all; else a few commands are refused.
    pub(super) fn any(rng: &mut Rng) -> Self {
        let mut some_of = |commands: &[&'static str]| {
            let few = rng.u8(..4) == 0;
            let mut refused = BTreeMap::new();
            for command in commands {
                if few && rng.u8(..3) == 0 {
                    let how = if rng.bool() { Refusal::NoPermission } else { Refusal::Unknown };
                    refused.insert(*command, how);
                }
            }
            refused
        };
        Self { on_servers: some_of(&ASKED_OF_SERVERS), on_sentinels: some_of(&ASKED_OF_SENTINELS) }
    }

    /// Whether servers of data run a command for the user.
    pub(super) fn allow(&self, command: &str) -> bool {
        !self.on_servers.contains_key(command)
    }

    /// Whether Sentinels refuse a command.
    pub(super) fn hides(&self, command: &str) -> bool {
        self.on_sentinels.contains_key(command)
    }
}

/// What becomes of HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    Known,
    Refused(&'static str),
    /// The connection is closed without a word, as by some proxies.
    Closed,
}

impl Hello {
    pub(super) fn any(rng: &mut Rng) -> Self {
        match rng.u8(..16) {
            0 => Self::Refused("ERR unknown command 'HELLO', with args beginning with: '3' "),
            1 => Self::Refused("ERR unsupported command 'HELLO'"),
            2 => Self::Refused("NOPROTO unsupported protocol version"),
            3 => Self::Closed,
            _ => Self::Known,
        }
    }
}

impl World {
    pub(super) fn speaks_resp3(&self) -> bool {
        self.habits.hello == Hello::Known
    }

    /// What is said to a command, in capitals, that the client's user may not run, or that nobody knows there.
    pub(super) fn refusal_of_user(&self, host: Host, words: &[&str]) -> Option<Vec<u8>> {
        let name = words.first().copied().unwrap_or_default();
        if name == "HELLO"
            && let Hello::Refused(error) = self.habits.hello
        {
            return Some(reply::error(error));
        }
        let refused = match host {
            Host::Sentinel(_) => &self.rights.on_sentinels,
            _ => &self.rights.on_servers,
        };
        let command = words.get(..2).map(|two| two.join(" ")).unwrap_or_default();
        let how = refused.get(name).or_else(|| refused.get(&*command))?;
        Some(match how {
            Refusal::NoPermission => {
                reply::error(&format!("NOPERM User app has no permissions to run the '{name}' command"))
            }
            Refusal::Unknown => {
                reply::error(&format!("ERR unknown command '{name}', with args beginning with: "))
            }
        })
    }
}
