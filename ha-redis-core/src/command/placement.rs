//! On which connection a command may run.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use redis::{Cmd, Pipeline};

use super::{Args, arguments, number, upper};

/// Where a command may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On any connection, also one that many callers share.
    Shared,
    /// On a connection of its own: the server lets everything behind it wait.
    Blocking {
        /// How long the server may keep it waiting, from the command's own argument. `None`: for ever.
        limit: Option<Duration>,
    },
    /// Nowhere on this kind of handle.
    Refused(Refusal),
}

/// Why a command is refused, and what to use in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    command: &'static str,
    reason: &'static str,
}

impl Refusal {
    /// The command, with its subcommand where that decides: `CLIENT REPLY`.
    pub fn command(&self) -> &'static str {
        self.command
    }

    /// What stands against it and what to do, as half a sentence.
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

/// Where `cmd` may run when it was given to a handle that many callers share.
///
/// `WAIT` and `WAITAOF` are refused here: they block, and on a connection of their own they would not see the
/// caller's writes. Behind those writes in a pipeline ([`pipeline_placement`]) they may block.
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

/// Where `cmd` may run when it was given to a dedicated connection, which serves one caller at a time.
///
/// [`Placement::Blocking`] means here that its reply may take as long as the limit says.
pub fn placement_on_dedicated(cmd: &Cmd) -> Placement {
    rule(cmd).on(Handle::Dedicated)
}

/// Where the whole of `pipeline` may run when it was given to a handle that many callers share.
///
/// One refused command refuses it. Commands that block add up their limits; inside an atomic pipeline the
/// server does not let them block.
pub fn pipeline_placement(pipeline: &Pipeline) -> Placement {
    place_pipeline(pipeline, Handle::Shared)
}

/// As [`pipeline_placement`], on a dedicated connection.
pub fn pipeline_placement_on_dedicated(pipeline: &Pipeline) -> Placement {
    place_pipeline(pipeline, Handle::Dedicated)
}

fn place_pipeline(pipeline: &Pipeline, handle: Handle) -> Placement {
    let mut whole = Placement::Shared;
    for (index, cmd) in pipeline.cmd_iter().enumerate() {
        let place = match rule(cmd) {
            // The writes it asks about come before it in the pipeline, and go wherever it goes.
            Rule::AsksAboutOwnWrites(_, place) if index > 0 => place,
            rule => rule.on(handle),
        };
        whole = match (whole, place) {
            (_, Placement::Refused(refusal)) => return Placement::Refused(refusal),
            (whole, Placement::Shared) => whole,
            (whole, Placement::Blocking { .. }) if pipeline.is_transaction() => whole,
            (Placement::Blocking { limit: sum }, Placement::Blocking { limit }) => {
                let sum = sum.zip(limit).map(|(sum, limit)| sum.saturating_add(limit));
                Placement::Blocking { limit: sum }
            }
            (_, blocking) => blocking,
        };
    }
    whole
}

/// What kind of handle the caller holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handle {
    Shared,
    Dedicated,
}

enum Rule {
    /// The same on every connection.
    Everywhere(Placement),
    /// Refused on a shared handle, since it changes the connection for all who share it.
    OnlyDedicated(Refusal),
    /// Refused by itself on a shared handle: it would be asked on another connection than the writes.
    AsksAboutOwnWrites(Refusal, Placement),
}

impl Rule {
    fn on(self, handle: Handle) -> Placement {
        match self {
            Self::Everywhere(place) => place,
            Self::OnlyDedicated(refusal) | Self::AsksAboutOwnWrites(refusal, _)
                if handle == Handle::Shared =>
            {
                Placement::Refused(refusal)
            }
            Self::OnlyDedicated(_) => Placement::Shared,
            Self::AsksAboutOwnWrites(_, place) => place,
        }
    }
}

const SUBSCRIPTION: &str = "messages would come between the replies; use client.pubsub()";
const REPLICATION: &str = "it is for replicas: what follows it is no reply";
const TRANSACTION: &str =
    "all callers share this connection; use an atomic pipeline or a dedicated connection";
const STATE: &str = "all callers share this connection; use a dedicated connection";
const DATABASE: &str =
    "all callers share this connection; set the database in the configuration or use a dedicated connection";
const CREDENTIALS: &str =
    "every connection must log in the same way; set username and password in the configuration";
const NAME: &str = "it is lost when the connection is; set the client name in the configuration";
const TRACKING: &str = "all callers share this connection, and its invalidations are not passed on; use a dedicated connection, with REDIRECT";
const OWN_WRITES: &str =
    "it asks about its own connection's writes; put it behind them in a pipeline, or use a dedicated one";

/// The rule for `cmd`. It runs for every command, so it looks at nothing but the name where that is enough.
fn rule(cmd: &Cmd) -> Rule {
    if cmd.is_no_response() {
        return never(
            "a command marked set_no_response",
            "its reply would be taken for that of the next one; do not mark it",
        );
    }
    let mut args = arguments(cmd);
    let Some(name) = args.next() else {
        return never("a command without a name", "the server never replies to it");
    };
    if !may_have_rule(name) {
        return Rule::Everywhere(Placement::Shared);
    }
    match &*upper(name) {
        b"BLPOP" | b"BRPOP" | b"BLMOVE" | b"BRPOPLPUSH" | b"BZPOPMIN" | b"BZPOPMAX" => {
            blocks(seconds(args.last()))
        }
        b"BLMPOP" | b"BZMPOP" => blocks(seconds(args.next())),
        b"XREAD" | b"XREADGROUP" => blocks(block_option(args)),
        b"WAIT" => asks_about_own_writes("WAIT", args),
        b"WAITAOF" => asks_about_own_writes("WAITAOF", args),

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
        b"HELLO" => never(
            "HELLO",
            "the client says it itself; set username, password and client name in the configuration",
        ),
        b"RESET" => never(
            "RESET",
            "it undoes the login and the choice of database; drop the handle and take a new one",
        ),

        b"MULTI" => only_dedicated("MULTI", TRANSACTION),
        b"EXEC" => only_dedicated("EXEC", TRANSACTION),
        b"DISCARD" => only_dedicated("DISCARD", TRANSACTION),
        b"WATCH" => only_dedicated("WATCH", STATE),
        b"UNWATCH" => only_dedicated("UNWATCH", STATE),
        b"SELECT" => only_dedicated("SELECT", DATABASE),
        b"READONLY" => only_dedicated("READONLY", STATE),
        b"READWRITE" => only_dedicated("READWRITE", STATE),
        b"ASKING" => only_dedicated("ASKING", "it is about the next command, which may be another caller's"),

        b"CLIENT" => client_rule(args),
        b"SCRIPT" if is(args.next(), b"DEBUG") => {
            never("SCRIPT DEBUG", "the connection would speak with the debugger; use redis-cli --ldb")
        }
        _ => Rule::Everywhere(Placement::Shared),
    }
}

/// Length and initial tell of most names that the rules do not have them, in a few instructions.
fn may_have_rule(name: &[u8]) -> bool {
    let initial = name.first().map_or(0, u8::to_ascii_uppercase);
    match name.len() {
        4 => matches!(initial, b'A' | b'E' | b'Q' | b'S' | b'W'),
        5 => matches!(initial, b'B' | b'H' | b'M' | b'P' | b'R' | b'W' | b'X'),
        6 => matches!(initial, b'A' | b'B' | b'C' | b'S'),
        7 => matches!(initial, b'D' | b'M' | b'U' | b'W'),
        8 => matches!(initial, b'B' | b'R'),
        9 => matches!(initial, b'R' | b'S'),
        10 => matches!(initial, b'B' | b'P' | b'S' | b'X'),
        11 => initial == b'U',
        12 => matches!(initial, b'P' | b'S'),
        _ => false,
    }
}

fn client_rule<'a>(mut args: impl Args<'a>) -> Rule {
    match &*upper(args.next().unwrap_or_default()) {
        b"REPLY" => never("CLIENT REPLY", "the client would wait for replies that never come"),
        b"TRACKING" => only_dedicated("CLIENT TRACKING", TRACKING),
        b"CACHING" => only_dedicated("CLIENT CACHING", TRACKING),
        b"SETNAME" => only_dedicated("CLIENT SETNAME", NAME),
        b"SETINFO" => only_dedicated("CLIENT SETINFO", NAME),
        b"NO-EVICT" => only_dedicated("CLIENT NO-EVICT", STATE),
        b"NO-TOUCH" => only_dedicated("CLIENT NO-TOUCH", STATE),
        _ => Rule::Everywhere(Placement::Shared),
    }
}

fn never(command: &'static str, reason: &'static str) -> Rule {
    Rule::Everywhere(Placement::Refused(Refusal { command, reason }))
}

fn only_dedicated(command: &'static str, reason: &'static str) -> Rule {
    Rule::OnlyDedicated(Refusal { command, reason })
}

/// `WAIT numreplicas timeout` and `WAITAOF numlocal numreplicas timeout`
///
/// On a connection that has written nothing, the server counts every replica at once, whatever that has
/// received: moved to another connection, the command would vouch for writes that are nowhere.
fn asks_about_own_writes<'a>(command: &'static str, args: impl Args<'a>) -> Rule {
    let place = waits(milliseconds(args.last()));
    Rule::AsksAboutOwnWrites(Refusal { command, reason: OWN_WRITES }, place)
}

fn blocks(timeout: Option<Duration>) -> Rule {
    Rule::Everywhere(waits(timeout))
}

/// Zero is for ever. Without a timeout that can be read, the server refuses the command at once.
fn waits(timeout: Option<Duration>) -> Placement {
    match timeout {
        None => Placement::Shared,
        Some(Duration::ZERO) => Placement::Blocking { limit: None },
        limit => Placement::Blocking { limit },
    }
}

/// `[GROUP group consumer] [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS …`: the timeout, if it blocks.
fn block_option<'a>(mut options: impl Args<'a>) -> Option<Duration> {
    while let Some(option) = options.next() {
        match &*upper(option) {
            b"BLOCK" => return milliseconds(options.next()),
            b"COUNT" => drop(options.next()),
            b"GROUP" => drop(options.nth(1)),
            b"STREAMS" => break,
            _ => {}
        }
    }
    None
}

fn milliseconds(argument: Option<&[u8]>) -> Option<Duration> {
    number(argument).map(Duration::from_millis)
}

fn seconds(argument: Option<&[u8]>) -> Option<Duration> {
    Duration::try_from_secs_f64(number(argument)?).ok()
}

fn is(argument: Option<&[u8]>, word: &[u8]) -> bool {
    argument.is_some_and(|argument| argument.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;

    fn pipeline(commands: &[&str]) -> Pipeline {
        let mut pipeline = Pipeline::new();
        for text in commands {
            pipeline.add_command(command(text));
        }
        pipeline
    }

    fn blocking(milliseconds: u64) -> Placement {
        Placement::Blocking { limit: Some(Duration::from_millis(milliseconds)) }
    }

    const FOR_EVER: Placement = Placement::Blocking { limit: None };

    /// The command that was refused, or nothing.
    fn refused(place: Placement) -> Option<&'static str> {
        match place {
            Placement::Refused(refusal) => Some(refusal.command()),
            _ => None,
        }
    }

    #[test]
    fn most_commands_share_a_connection() {
        for text in [
            "GET k",
            "set k v",
            "INCR k",
            "CLIENT PAUSE 100",
            "CLIENT ID",
            "CLIENT",
            "SCRIPT LOAD x",
            "XREAD STREAMS s 0",
        ] {
            assert_eq!(placement(&command(text)), Placement::Shared, "{text}");
            assert_eq!(placement_on_dedicated(&command(text)), Placement::Shared, "{text}");
        }
    }

    #[test]
    fn what_blocks_is_bounded_by_its_own_argument() {
        for (text, expected) in [
            ("BLPOP a b 2", blocking(2000)),
            ("brpop a 0.25", blocking(250)),
            ("BLMOVE a b LEFT RIGHT 1", blocking(1000)),
            ("BRPOPLPUSH a b 1", blocking(1000)),
            ("BLMPOP 1.5 1 a LEFT", blocking(1500)),
            ("BZPOPMIN z 1", blocking(1000)),
            ("BZPOPMAX z 1e1", blocking(10_000)),
            ("BZMPOP 3 1 z MIN", blocking(3000)),
            ("XREAD COUNT 5 BLOCK 70 STREAMS s $", blocking(70)),
            ("XREADGROUP GROUP g c BLOCK 80 STREAMS s >", blocking(80)),
            ("XREADGROUP GROUP BLOCK 9 COUNT 1 block 80 NOACK STREAMS s >", blocking(80)),
            ("XREADGROUP BLOCK 80 GROUP g c STREAMS s >", blocking(80)),
            ("BLPOP a 0", FOR_EVER),
            ("BLPOP a 0.0", FOR_EVER),
            ("XREAD BLOCK 0 STREAMS s $", FOR_EVER),
        ] {
            assert_eq!(placement(&command(text)), expected, "{text}");
            assert_eq!(placement_on_dedicated(&command(text)), expected, "{text}");
        }
    }

    #[test]
    fn what_the_server_refuses_does_not_block() {
        for text in [
            "BLPOP",
            "BLPOP a soon",
            "BLPOP a -1",
            "BLPOP a inf",
            "BLPOP a nan",
            "BLPOP a 1e300",
            "BLMPOP",
            "XREAD BLOCK -1 STREAMS s $",
            "XREAD BLOCK",
            "XREAD STREAMS BLOCK 5",
            "XREADGROUP GROUP BLOCK 5 STREAMS s >",
        ] {
            assert_eq!(placement(&command(text)), Placement::Shared, "{text}");
        }
    }

    #[test]
    fn what_breaks_the_flow_of_replies_is_refused_everywhere() {
        for (text, name) in [
            ("subscribe c", "SUBSCRIBE"),
            ("PSUBSCRIBE c", "PSUBSCRIBE"),
            ("SSUBSCRIBE c", "SSUBSCRIBE"),
            ("UNSUBSCRIBE", "UNSUBSCRIBE"),
            ("PUNSUBSCRIBE", "PUNSUBSCRIBE"),
            ("SUNSUBSCRIBE", "SUNSUBSCRIBE"),
            ("MONITOR", "MONITOR"),
            ("SYNC", "SYNC"),
            ("PSYNC ? -1", "PSYNC"),
            ("REPLCONF ACK 1", "REPLCONF"),
            ("QUIT", "QUIT"),
            ("AUTH p", "AUTH"),
            ("HELLO 3", "HELLO"),
            ("RESET", "RESET"),
            ("client reply OFF", "CLIENT REPLY"),
            ("SCRIPT DEBUG YES", "SCRIPT DEBUG"),
            ("", "a command without a name"),
        ] {
            assert_eq!(refused(placement(&command(text))), Some(name), "{text}");
            assert_eq!(refused(placement_on_dedicated(&command(text))), Some(name), "{text}");
        }
    }

    #[test]
    fn a_command_without_response_is_refused_everywhere() {
        let mut cmd = command("GET k");
        cmd.set_no_response(true);
        assert!(refused(placement(&cmd)).is_some());
        assert!(refused(placement_on_dedicated(&cmd)).is_some());
    }

    #[test]
    fn what_changes_the_connection_needs_a_dedicated_one() {
        for (text, name) in [
            ("MULTI", "MULTI"),
            ("exec", "EXEC"),
            ("DISCARD", "DISCARD"),
            ("WATCH k", "WATCH"),
            ("UNWATCH", "UNWATCH"),
            ("SELECT 1", "SELECT"),
            ("READONLY", "READONLY"),
            ("READWRITE", "READWRITE"),
            ("ASKING", "ASKING"),
            ("CLIENT TRACKING ON", "CLIENT TRACKING"),
            ("CLIENT CACHING YES", "CLIENT CACHING"),
            ("CLIENT SETNAME n", "CLIENT SETNAME"),
            ("CLIENT SETINFO LIB-NAME n", "CLIENT SETINFO"),
            ("CLIENT NO-EVICT ON", "CLIENT NO-EVICT"),
            ("CLIENT NO-TOUCH ON", "CLIENT NO-TOUCH"),
        ] {
            assert_eq!(refused(placement(&command(text))), Some(name), "{text}");
            assert_eq!(placement_on_dedicated(&command(text)), Placement::Shared, "{text}");
        }
    }

    #[test]
    fn wait_goes_where_the_writes_went() {
        for (text, name) in [("WAIT 1 100", "WAIT"), ("WAITAOF 1 1 100", "WAITAOF")] {
            assert_eq!(refused(placement(&command(text))), Some(name));
            assert_eq!(placement_on_dedicated(&command(text)), blocking(100));
            assert_eq!(pipeline_placement(&pipeline(&["SET k v", text])), blocking(100));
            assert_eq!(refused(pipeline_placement(&pipeline(&[text, "SET k v"]))), Some(name));
        }
        assert_eq!(placement_on_dedicated(&command("WAIT 1 0")), FOR_EVER);
    }

    #[test]
    fn a_pipeline_adds_up_what_blocks() {
        assert_eq!(pipeline_placement(&pipeline(&[])), Placement::Shared);
        assert_eq!(pipeline_placement(&pipeline(&["GET k", "SET k v"])), Placement::Shared);
        let mixed = pipeline(&["GET k", "BLPOP a 1", "XREAD BLOCK 5 STREAMS s $", "GET k"]);
        assert_eq!(pipeline_placement(&mixed), blocking(1005));
        assert_eq!(pipeline_placement_on_dedicated(&mixed), blocking(1005));
        assert_eq!(pipeline_placement(&pipeline(&["BLPOP a 0", "BLPOP a 1"])), FOR_EVER);
        assert_eq!(pipeline_placement(&pipeline(&["BLPOP a 1", "BLPOP a 0"])), FOR_EVER);
    }

    #[test]
    fn nothing_blocks_in_an_atomic_pipeline() {
        assert_eq!(pipeline_placement(pipeline(&["BLPOP a 1", "GET k"]).atomic()), Placement::Shared);
    }

    #[test]
    fn one_refused_command_refuses_the_pipeline() {
        let select = ["GET k", "BLPOP a 1", "SELECT 1"];
        assert_eq!(refused(pipeline_placement(&pipeline(&select))), Some("SELECT"));
        assert_eq!(refused(pipeline_placement(pipeline(&select).atomic())), Some("SELECT"));
        assert_eq!(pipeline_placement_on_dedicated(&pipeline(&select)), blocking(1000));
        assert_eq!(refused(pipeline_placement_on_dedicated(&pipeline(&["GET k", "QUIT"]))), Some("QUIT"));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let Placement::Refused(refusal) = placement(&command("SELECT 1")) else { panic!("not refused") };
        assert!(refusal.reason().contains("configuration"));
        assert_eq!(
            refusal.to_string(),
            format!("SELECT cannot run on this connection: {}", refusal.reason())
        );
    }
}
