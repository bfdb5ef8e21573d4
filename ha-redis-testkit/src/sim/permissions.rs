//! The commands that the client's user may not run, and those that servers and proxies do not support. The client
//! must work without them.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::host::Host;
use super::reply;
use super::world::World;

/// The commands that the client sends to data servers on its own.
const SERVER_COMMANDS: [&str; 7] =
    ["PING", "ROLE", "INFO", "CLIENT ID", "CLIENT LIST", "CLIENT KILL", "CLIENT SETNAME"];
/// The commands that the client sends to Sentinels, beside the query for the master.
const SENTINEL_COMMANDS: [&str; 7] = [
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
pub(super) struct Permissions {
    on_servers: BTreeMap<&'static str, Refusal>,
    on_sentinels: BTreeMap<&'static str, Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NoPermission,
    /// The command is renamed, or newer than the server.
    Unknown,
}

impl Permissions {
    /// Usually allows everything, otherwise refuses a few commands.
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
        Self { on_servers: some_of(&SERVER_COMMANDS), on_sentinels: some_of(&SENTINEL_COMMANDS) }
    }

    /// Returns true if data servers run a command for the user.
    pub(super) fn allow(&self, command: &str) -> bool {
        !self.on_servers.contains_key(command)
    }

    /// Returns true if Sentinels refuse a command.
    pub(super) fn hides(&self, command: &str) -> bool {
        self.on_sentinels.contains_key(command)
    }
}

/// How servers handle HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    Known,
    Refused(&'static str),
    /// The connection is closed without a reply, as some proxies do.
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
        self.behavior.hello == Hello::Known
    }

    /// Returns the error for a command, in capitals, that the client's user may not run or that the server does not
    /// support.
    pub(super) fn refusal_of_user(&self, host: Host, args: &[&str]) -> Option<Vec<u8>> {
        let name = args.first().copied().unwrap_or_default();
        if name == "HELLO"
            && let Hello::Refused(error) = self.behavior.hello
        {
            return Some(reply::error(error));
        }
        let refused = match host {
            Host::Sentinel(_) => &self.permissions.on_sentinels,
            _ => &self.permissions.on_servers,
        };
        let command = args.get(..2).map(|two| two.join(" ")).unwrap_or_default();
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
