//! Determines on which connection a command may run.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use redis::{Cmd, Pipeline};

use super::timeout::timeout;
use super::{Args, arguments, upper};

/// Where a command may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On any connection, including one that many callers share.
    Shared,
    /// On any connection to the server process that returned its cursor: it is a step of a scan. A first step has no
    /// cursor.
    Scan,
    /// On a connection of its own: the server may make all commands after it wait.
    Blocking {
        /// How long the server may block the command, from the command's own argument. `None`: without limit,
        /// or the argument cannot be parsed.
        limit: Option<Duration>,
    },
    /// On a connection made for it alone: it ends what may block every other connection, as `SCRIPT KILL` does.
    Urgent,
    /// Nowhere on this kind of handle.
    Refused(Refusal),
}

/// Why a command is refused, and what to use instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    command: &'static str,
    reason: &'static str,
}

impl Refusal {
    /// Returns the command, including the subcommand if that is what is refused: `CLIENT REPLY`.
    pub fn command(&self) -> &'static str {
        self.command
    }

    /// Returns the reason and what to do, as half a sentence.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot run on this connection: {}", self.command, self.reason)
    }
}

impl Error for Refusal {}

/// Returns where `cmd` may run on a handle that many callers share.
///
/// `WAIT` and `WAITAOF` are refused here: they block, and on a connection of their own they would not see the
/// caller's writes. After those writes in a pipeline ([`pipeline_placement`]) they may block.
///
/// ```
/// use std::time::Duration;
/// use ha_redis_core::command::{Placement, placement};
///
/// assert_eq!(placement(redis::cmd("GET").arg("key")), Placement::Shared);
/// let limit = Some(Duration::from_millis(1500));
/// assert_eq!(placement(redis::cmd("BLPOP").arg("list").arg(1.5)), Placement::Blocking { limit });
/// assert!(matches!(placement(redis::cmd("SELECT").arg(1)), Placement::Refused(_)));
/// ```
pub fn placement(cmd: &Cmd) -> Placement {
    rule(cmd).on(Handle::Shared)
}

/// Returns where `cmd` may run on a dedicated connection, which serves one caller at a time.
///
/// [`Placement::Blocking`] means here that the reply may take up to the limit.
pub fn placement_on_dedicated(cmd: &Cmd) -> Placement {
    rule(cmd).on(Handle::Dedicated)
}

/// Returns where the whole of `pipeline` may run on a handle that many callers share.
///
/// One refused command refuses the pipeline. The limits of blocking commands add up; in an atomic pipeline the server
/// does not let them block.
pub fn pipeline_placement(pipeline: &Pipeline) -> Placement {
    place_pipeline(pipeline, Handle::Shared)
}

/// Like [`pipeline_placement`], on a dedicated connection.
pub fn pipeline_placement_on_dedicated(pipeline: &Pipeline) -> Placement {
    place_pipeline(pipeline, Handle::Dedicated)
}

fn place_pipeline(pipeline: &Pipeline, handle: Handle) -> Placement {
    let mut whole = Placement::Shared;
    for (index, cmd) in pipeline.cmd_iter().enumerate() {
        let place = match rule(cmd) {
            // The server does not queue it, so the transaction would have one value less.
            Rule::NeverQueued(Refusal { command, .. }) if pipeline.is_transaction() => {
                Placement::Refused(Refusal { command, reason: NOT_QUEUED })
            }
            // The writes that it waits for come before it in the pipeline, and run on the same connection.
            Rule::WaitsForOwnWrites(_, place) if index > 0 => place,
            // The other commands of the pipeline do not belong on a connection made for one command.
            Rule::Urgent => Placement::Shared,
            rule => rule.on(handle),
        };
        whole = match (whole, place) {
            (_, Placement::Refused(refusal)) => return Placement::Refused(refusal),
            (whole, Placement::Shared | Placement::Urgent) => whole,
            (whole, Placement::Blocking { .. }) if pipeline.is_transaction() => whole,
            (Placement::Blocking { .. }, Placement::Scan) | (Placement::Scan, Placement::Blocking { .. })
                if handle == Handle::Shared =>
            {
                return Placement::Refused(Refusal { command: "a scan", reason: SCAN_APART });
            }
            (Placement::Blocking { limit }, Placement::Scan) => Placement::Blocking { limit },
            (Placement::Blocking { limit: sum }, Placement::Blocking { limit }) => {
                let sum = sum.zip(limit).map(|(sum, limit)| sum.saturating_add(limit));
                Placement::Blocking { limit: sum }
            }
            (_, blocking) => blocking,
        };
    }
    whole
}

/// The kind of handle that the caller holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handle {
    Shared,
    Dedicated,
}

enum Rule {
    /// The placement is the same on every connection.
    Everywhere(Placement),
    /// Refused on a shared handle, since the command changes the connection for all who share it.
    OnlyDedicated(Refusal),
    /// Like `OnlyDedicated`, and also refused in an atomic pipeline, since the server does not queue it.
    NeverQueued(Refusal),
    /// Refused by itself on a shared handle: it would run on another connection than the writes.
    WaitsForOwnWrites(Refusal, Placement),
    /// Bypasses all calls that wait on a shared handle.
    Urgent,
}

impl Rule {
    fn on(self, handle: Handle) -> Placement {
        match self {
            Self::Everywhere(place) => place,
            Self::OnlyDedicated(refusal)
            | Self::NeverQueued(refusal)
            | Self::WaitsForOwnWrites(refusal, _)
                if handle == Handle::Shared =>
            {
                Placement::Refused(refusal)
            }
            Self::Urgent if handle == Handle::Shared => Placement::Urgent,
            Self::OnlyDedicated(_) | Self::NeverQueued(_) | Self::Urgent => Placement::Shared,
            Self::WaitsForOwnWrites(_, place) => place,
        }
    }
}

const SUBSCRIPTION: &str = "messages would come between the replies; use client.pubsub()";
const REPLICATION: &str = "it starts replication, and what follows it is not a reply";
const TRANSACTION: &str =
    "all callers share this connection; use an atomic pipeline or a dedicated connection";
const NOT_QUEUED: &str =
    "an atomic pipeline is already a transaction, and the server does not queue this command; send it before";
const STATE: &str = "all callers share this connection; use a dedicated connection";
const DATABASE: &str =
    "all callers share this connection; set the database in the configuration or use a dedicated connection";
const CREDENTIALS: &str =
    "every connection must log in the same way; set username and password in the configuration";
const NAME: &str = "a new connection would not have it; set the client name in the configuration";
const TRACKING: &str = "all callers share this connection, and its invalidation messages are not delivered; \
                        use a dedicated connection, with REDIRECT";
const FIELDSETS: &str = "a fieldset belongs to one connection; use a dedicated connection";
const SCAN_APART: &str = "its cursor belongs to one server process, and a blocking command may run on another; \
                          send it by itself";
const UNKNOWN: &str =
    "it is unknown and may change the connection for all callers; use a dedicated connection";
const OWN_WRITES: &str = "it waits for the writes of its own connection; put it after them in a pipeline, or use \
                          a dedicated connection";

/// Returns the rule for `cmd`. This runs for every command, so it looks only at the name if that is enough.
fn rule(cmd: &Cmd) -> Rule {
    let mut args = arguments(cmd);
    let Some(name) = args.next() else {
        return never("a command without a name", "the server never replies to it");
    };
    if !may_have_rule(name) {
        return Rule::Everywhere(Placement::Shared);
    }
    match &*upper(name) {
        b"BLPOP" | b"BRPOP" | b"BLMOVE" | b"BLMOVEM" | b"BRPOPLPUSH" | b"BLMPOP" | b"BZPOPMIN"
        | b"BZPOPMAX" | b"BZMPOP" | b"XREAD" | b"XREADGROUP" | b"TS.READ" => {
            Rule::Everywhere(blocking(arguments(cmd)))
        }
        b"SCAN" | b"SSCAN" | b"HSCAN" | b"ZSCAN" | b"BF.SCANDUMP" | b"CF.SCANDUMP" => {
            Rule::Everywhere(Placement::Scan)
        }
        b"WAIT" => waits_for_own_writes("WAIT", arguments(cmd)),
        b"WAITAOF" => waits_for_own_writes("WAITAOF", arguments(cmd)),

        b"SUBSCRIBE" => never("SUBSCRIBE", SUBSCRIPTION),
        b"PSUBSCRIBE" => never("PSUBSCRIBE", SUBSCRIPTION),
        b"SSUBSCRIBE" => never("SSUBSCRIBE", SUBSCRIPTION),
        b"UNSUBSCRIBE" => never("UNSUBSCRIBE", SUBSCRIPTION),
        b"PUNSUBSCRIBE" => never("PUNSUBSCRIBE", SUBSCRIPTION),
        b"SUNSUBSCRIBE" => never("SUNSUBSCRIBE", SUBSCRIPTION),
        b"MONITOR" => never("MONITOR", "its replies never end; use redis-cli"),
        b"SYNC" => never("SYNC", REPLICATION),
        b"PSYNC" => never("PSYNC", REPLICATION),
        b"REPLCONF" => never("REPLCONF", REPLICATION),
        b"QUIT" => never("QUIT", "the client keeps its connections; drop the handle or close() the client"),

        b"AUTH" => never("AUTH", CREDENTIALS),
        b"HELLO" => {
            never("HELLO", "the client sends it; set username, password and client name in the configuration")
        }
        b"RESET" => never(
            "RESET",
            "it undoes the login and the selection of the database; drop the handle and take a new one",
        ),

        b"MULTI" => never_queued("MULTI", TRANSACTION),
        b"EXEC" => never_queued("EXEC", TRANSACTION),
        b"DISCARD" => never_queued("DISCARD", TRANSACTION),
        b"WATCH" => never_queued("WATCH", STATE),
        b"UNWATCH" => only_dedicated("UNWATCH", STATE),
        b"SELECT" => only_dedicated("SELECT", DATABASE),
        b"READONLY" => only_dedicated("READONLY", STATE),
        b"READWRITE" => only_dedicated("READWRITE", STATE),
        b"ASKING" => only_dedicated("ASKING", "it affects the next command, which may be another caller's"),

        b"CLIENT" => client_rule(args),
        b"SCRIPT" => script_rule(args),
        b"FUNCTION" if is(args.next(), b"KILL") => Rule::Urgent,
        b"SHUTDOWN" => Rule::Urgent,
        b"CLUSTER" if is(args.next(), b"SYNCSLOTS") => never("CLUSTER SYNCSLOTS", REPLICATION),
        b"HIMPORT" => only_dedicated("HIMPORT", FIELDSETS),
        _ if may_block(name) => Rule::Everywhere(Placement::Blocking { limit: None }),
        _ => Rule::Everywhere(Placement::Shared),
    }
}

/// Returns true if an unknown command may block: all blocking commands begin with `B` like `BLPOP`, except those that
/// block by an option. Modules' commands contain a dot.
fn may_block(name: &[u8]) -> bool {
    let known = matches!(
        &*upper(name),
        b"BACKUP"
            | b"BGREWRITEAOF"
            | b"BGSAVE"
            | b"BITCOUNT"
            | b"BITFIELD"
            | b"BITFIELD_RO"
            | b"BITOP"
            | b"BITPOS"
    );
    matches!(name.first(), Some(b'B' | b'b')) && !known && !name.contains(&b'.')
}

/// Rules most names out by length and first letter, in a few instructions.
fn may_have_rule(name: &[u8]) -> bool {
    let initial = name.first().map_or(0, u8::to_ascii_uppercase);
    match name.len() {
        _ if initial == b'B' => true,
        4 => matches!(initial, b'A' | b'E' | b'Q' | b'S' | b'W'),
        5 => {
            matches!(initial, b'H' | b'M' | b'P' | b'R' | b'W' | b'X') || name[1].eq_ignore_ascii_case(&b'S')
        }
        6 => matches!(initial, b'A' | b'C' | b'S'),
        7 => matches!(initial, b'C' | b'D' | b'H' | b'M' | b'T' | b'U' | b'W'),
        8 => matches!(initial, b'F' | b'R') || name.eq_ignore_ascii_case(b"SHUTDOWN"),
        9 => matches!(initial, b'R' | b'S'),
        10 => matches!(initial, b'P' | b'S' | b'X'),
        11 => matches!(initial, b'C' | b'U'),
        12 => matches!(initial, b'P' | b'S'),
        _ => false,
    }
}

/// Subcommands that are known not to change the connection may run anywhere; all others may not.
fn client_rule<'a>(mut args: impl Args<'a>) -> Rule {
    let Some(subcommand) = args.next() else { return Rule::Everywhere(Placement::Shared) };
    match &*upper(subcommand) {
        b"GETNAME" | b"GETREDIR" | b"HELP" | b"ID" | b"INFO" | b"KILL" | b"LIST" | b"PAUSE"
        | b"TRACKINGINFO" | b"UNBLOCK" | b"UNPAUSE" => Rule::Everywhere(Placement::Shared),
        b"REPLY" => never("CLIENT REPLY", "the client would wait for replies that never come"),
        b"TRACKING" => only_dedicated("CLIENT TRACKING", TRACKING),
        b"CACHING" => only_dedicated("CLIENT CACHING", TRACKING),
        b"SETNAME" => only_dedicated("CLIENT SETNAME", NAME),
        b"SETINFO" => only_dedicated("CLIENT SETINFO", NAME),
        b"NO-EVICT" => only_dedicated("CLIENT NO-EVICT", STATE),
        b"NO-TOUCH" => only_dedicated("CLIENT NO-TOUCH", STATE),
        b"CAPA" => only_dedicated("CLIENT CAPA", STATE),
        b"IMPORT-SOURCE" => only_dedicated("CLIENT IMPORT-SOURCE", STATE),
        b"MAINT_NOTIFICATIONS" => only_dedicated("CLIENT MAINT_NOTIFICATIONS", STATE),
        _ => only_dedicated("this CLIENT subcommand", UNKNOWN),
    }
}

/// Like [`client_rule`].
fn script_rule<'a>(mut args: impl Args<'a>) -> Rule {
    let Some(subcommand) = args.next() else { return Rule::Everywhere(Placement::Shared) };
    match &*upper(subcommand) {
        b"KILL" => Rule::Urgent,
        b"EXISTS" | b"FLUSH" | b"HELP" | b"LOAD" | b"SHOW" => Rule::Everywhere(Placement::Shared),
        b"DEBUG" => never("SCRIPT DEBUG", "the connection would talk to the debugger; use redis-cli --ldb"),
        _ => only_dedicated("this SCRIPT subcommand", UNKNOWN),
    }
}

fn never(command: &'static str, reason: &'static str) -> Rule {
    Rule::Everywhere(Placement::Refused(Refusal { command, reason }))
}

fn only_dedicated(command: &'static str, reason: &'static str) -> Rule {
    Rule::OnlyDedicated(Refusal { command, reason })
}

fn never_queued(command: &'static str, reason: &'static str) -> Rule {
    Rule::NeverQueued(Refusal { command, reason })
}

/// `WAIT numreplicas timeout` and `WAITAOF numlocal numreplicas timeout`
///
/// On a connection that has written nothing, the server counts every replica immediately, whatever it has received.
/// On another connection than the writes, the command would confirm writes that no replica has.
fn waits_for_own_writes<'a>(command: &'static str, args: impl Args<'a>) -> Rule {
    Rule::WaitsForOwnWrites(Refusal { command, reason: OWN_WRITES }, blocking(args))
}

fn blocking<'a>(args: impl Args<'a>) -> Placement {
    match timeout(args.clone()) {
        None => Placement::Shared,
        Some(timeout) => Placement::Blocking { limit: timeout.read(args) },
    }
}

fn is(argument: Option<&[u8]>, word: &[u8]) -> bool {
    argument.is_some_and(|argument| argument.eq_ignore_ascii_case(word))
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
