//! Interprets error replies: one table of the codes of Redis and Valkey, and the wording where a code alone is
//! ambiguous.
//!
//! The module answers two questions. *What became of the command:* a built-in command that fails with an error reply
//! has changed nothing. A script, a function or a module's command may have done a part of its work, and may reply
//! with any code; for those, only errors that the server itself raises before they begin count as refusals. *Is the
//! error temporary:* some refusals end by themselves, on the same server or with another master.

use redis::{RedisError, ServerError, Value};

use crate::address::Address;
use crate::error::Outcome;
use crate::peer_text::printable;

use Outcome::{MaybeApplied, NotApplied, Ran};
use Recovery::{Manual, Master, Never, SameServer};

/// Whether a server will later accept what it refuses now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Never: this user may not run this command, whatever the state of the server.
    Never,
    /// Only when somebody frees memory or disk, or ends a script.
    Manual,
    /// The same server will: it loads its data, or waits for a replica.
    SameServer,
    /// The master will; this server is not, or no longer, the master.
    Master,
}

impl Recovery {
    /// Returns true if waiting is enough.
    pub(crate) fn is_automatic(self) -> bool {
        matches!(self, SameServer | Master)
    }
}

/// Every error code in the sources of Redis and Valkey: what it means for a built-in command, and whether it is
/// temporary.
const CODES: &[(&str, Outcome, Recovery)] = &[
    // The state of the server, or of its cluster, does not allow the command for now.
    ("LOADING", NotApplied, SameServer),
    ("NOREPLICAS", NotApplied, SameServer),
    ("CLUSTERDOWN", NotApplied, SameServer),
    ("TRYAGAIN", NotApplied, SameServer),
    ("ASK", NotApplied, SameServer),
    // The server is a replica. A replica of a one-shard cluster replies MOVED, with its master's address.
    ("READONLY", NotApplied, Master),
    ("MASTERDOWN", NotApplied, Master),
    ("REDIRECT", NotApplied, Master),
    ("MOVED", NotApplied, Master),
    // The server became a replica while the command waited. CLIENT UNBLOCK gives the same code: see `recovery_of`.
    ("UNBLOCKED", NotApplied, Master),
    // The server has no memory or disk, or runs a script that does not end.
    ("OOM", NotApplied, Manual),
    ("MISCONF", NotApplied, Manual),
    ("BUSY", NotApplied, Manual),
    // The user lacks permission.
    ("NOAUTH", NotApplied, Never),
    ("WRONGPASS", NotApplied, Never),
    ("NOPERM", NotApplied, Never),
    ("DENIED", NotApplied, Never),
    // The command is wrong, or does not fit the data.
    ("ERR", NotApplied, Never),
    ("WRONGTYPE", NotApplied, Never),
    ("CROSSSLOT", NotApplied, Never),
    ("EXECABORT", NotApplied, Never),
    ("NOSCRIPT", NotApplied, Never),
    ("NOPROTO", NotApplied, Never),
    ("NOSUB", NotApplied, Never),
    ("BUSYGROUP", NotApplied, Never),
    ("BUSYKEY", NotApplied, Never),
    ("NOGROUP", NotApplied, Never),
    ("NOTBUSY", NotApplied, Never),
    ("UNKILLABLE", NotApplied, Never),
    // Sent to replicas, and by Sentinels.
    ("NOMASTERLINK", NotApplied, Never),
    ("NOGOODSLAVE", NotApplied, Never),
    ("NOQUORUM", NotApplied, Never),
    ("INPROG", NotApplied, Never),
    // MIGRATE has moved some of its keys; PFADD found corrupt data after it had added some elements.
    ("IOERR", Ran, Never),
    ("INVALIDOBJ", Ran, Never),
];

/// Returns the row of a code. `None` for one that neither Redis nor Valkey defines: a script or a module made it up.
fn known(code: &str) -> Option<(Outcome, Recovery)> {
    CODES.iter().find(|(known, ..)| *known == code).map(|(_, outcome, recovery)| (*outcome, *recovery))
}

/// Appended to an error whose code and text alone suggest that nothing was changed.
const RAN: &str = "(it ran, and may have done a part of its work)";
/// Appended to the error of the last attempt when an earlier one may have been applied.
const IN_DOUBT: &str = "(an earlier attempt got no reply, and may have been applied)";

/// Returns what became of the command that failed with `error`.
pub(crate) fn outcome_of(error: &ServerError) -> Outcome {
    let text = error.details().unwrap_or_default();
    if text.ends_with(IN_DOUBT) {
        return MaybeApplied;
    }
    let raised = raised_by_script(error.code(), text);
    if let Some((code, text)) = raised {
        return if is_first_write(code, text) { NotApplied } else { Ran };
    }
    // The first is an error of MIGRATE.
    if text.starts_with("Target instance replied with error") || text.ends_with(RAN) {
        return Ran;
    }
    known(error.code()).map_or(Ran, |(outcome, _)| outcome)
}

/// Returns whether `error` is temporary. Meaningful only if `error` is the server's own refusal.
pub(crate) fn recovery_of(error: &ServerError) -> Recovery {
    let text = error.details().unwrap_or_default();
    let (code, text) = raised_by_script(error.code(), text).unwrap_or((error.code(), text));
    // A refused EXEC quotes the cause.
    let (code, text) = match text.split_once("because of: ") {
        Some((_, reason)) if code == "EXECABORT" => reason.split_once(' ').unwrap_or((reason, "")),
        _ => (code, text),
    };
    match known(code) {
        // Neither CLIENT UNBLOCK's nor that of a deleted stream.
        Some(_) if code == "UNBLOCKED" && !text.starts_with("force unblock") => Never,
        Some((NotApplied, recovery)) => recovery,
        _ => Never,
    }
}

/// Returns true if a server that refuses a command may accept it later. Otherwise this user may not run it, or the
/// server does not know it; the wording of those differs from server to server.
pub(crate) fn may_succeed_later(error: &ServerError) -> bool {
    recovery_of(error) != Never
}

/// Returns true if the server refused a script, a function or a command of a module before it began, or a script at
/// its first write. `declared` is true if the server knew beforehand what the script would do, and refused it as a
/// whole.
pub(crate) fn is_refusal(error: &ServerError, name: &str, declared: bool) -> bool {
    let text = error.details().unwrap_or_default();
    if let Some((code, text)) = raised_by_script(error.code(), text) {
        return is_first_write(code, text);
    }
    let begins = |words: &[&str]| words.iter().any(|words| text.starts_with(words));
    match error.code() {
        "READONLY" => begins(&["You can't write against a read only", "Can not run script with write flag"]),
        "MASTERDOWN" => begins(&["Link with MASTER is down"]),
        "NOREPLICAS" => begins(&["Not enough good replicas"]),
        "LOADING" => text.contains(" is loading the dataset in memory"),
        "BUSY" => text.contains(" is busy running a "),
        "CLUSTERDOWN" => begins(&["The cluster is down", "Hash slot not served"]),
        "TRYAGAIN" => begins(&["Multiple keys request during rehashing"]),
        "CROSSSLOT" => begins(&["Keys in request don't hash"]),
        "MOVED" | "ASK" => text.split_once(' ').is_some_and(|(slot, _)| slot.parse::<u16>().is_ok()),
        "REDIRECT" => !text.contains(' ') && text.contains(':'),
        "NOSCRIPT" => begins(&["No matching script"]),
        "NOAUTH" => begins(&["Authentication required"]),
        // For an error inside a script, the text mentions the script.
        "NOPERM" => text.to_ascii_lowercase().contains("no permissions to ") && !text.contains("script"),
        "MISCONF" => text.contains(" is configured to ") || begins(&["Errors writing to the AOF"]),
        // A script that got the same text from a `pcall` may have continued with commands that need no memory,
        // such as DEL.
        "OOM" => {
            begins(&["allow-oom flag is not set on the script"])
                || (declared && begins(&["command not allowed when used memory"]))
        }
        "ERR" => {
            let arity = format!("wrong number of arguments for '{}", name.to_ascii_lowercase());
            begins(&["unknown command", &arity, "Number of keys can't be", "Bad number of keys"])
                || begins(&["Error compiling script", "Function not found", "Can not run script on cluster"])
                || begins(&[
                    "Can not execute a script with write flag",
                    "Command not allowed inside a transaction",
                ])
        }
        _ => false,
    }
}

/// Returns true if the error was raised inside a running script.
pub(crate) fn is_from_inside(error: &ServerError) -> bool {
    raised_by_script(error.code(), error.details().unwrap_or_default()).is_some()
}

/// Returns the error that ended a script from inside. The server quotes it with the script's name.
fn raised_by_script<'a>(code: &'a str, text: &'a str) -> Option<(&'a str, &'a str)> {
    if text.contains(" script: ") && text.contains(", on @user_") {
        return Some((code, text));
    }
    // Before Redis 7, every such error is an `ERR` with the original error after the position.
    let around = text.strip_prefix("Error running script")?;
    let inner = around.split_once(": -").and_then(|(_, inner)| inner.split_once(' '));
    Some(inner.unwrap_or((code, text)))
}

/// Returns true if the server raises this error only for a script that has written nothing: after a write, the script
/// continues.
fn is_first_write(code: &str, text: &str) -> bool {
    match code {
        "READONLY" => text.starts_with("You can't write against a read only"),
        "NOREPLICAS" => text.starts_with("Not enough good replicas"),
        "OOM" => text.starts_with("command not allowed when used memory"),
        "MISCONF" => {
            text.contains(" is configured to save RDB") || text.starts_with("Errors writing to the AOF")
        }
        _ => false,
    }
}

/// Returns the error with a note on the outcome if its code and text suggest another one. Code and kind stay.
pub(crate) fn with_note(error: ServerError, outcome: Outcome) -> ServerError {
    let note = match outcome {
        _ if outcome_of(&error) == outcome => return error,
        Ran => RAN,
        MaybeApplied => IN_DOUBT,
        Outcome::NotSent | NotApplied => return error,
    };
    let noted = format!("{} {note}", verbatim(&error));
    rewritten(error, &noted)
}

/// Returns the error with the node that it came from, and with this outcome. Code and kind stay.
pub(crate) fn with_node(error: ServerError, node: &Address, outcome: Outcome) -> ServerError {
    let text = verbatim(&error);
    // A note must end the text to be found.
    let without_note = [RAN, IN_DOUBT].iter().find_map(|note| text.strip_suffix(note)).unwrap_or(&text);
    let with_node = format!("{} (from {node})", without_note.trim_end());
    with_note(rewritten(error, &with_node), outcome)
}

fn rewritten(error: ServerError, text: &str) -> ServerError {
    // As a bulk error, since a text may have several lines.
    match redis::parse_redis_value(format!("!{}\r\n{text}\r\n", text.len()).as_bytes()) {
        Ok(Value::ServerError(rewritten)) => rewritten,
        _ => error,
    }
}

/// Returns the text of a server's error, made printable.
pub(crate) fn printable_error(error: &ServerError) -> String {
    printable(&verbatim(error))
}

/// Returns the text of a server's error unchanged, for an error that callers get as a server error.
pub(crate) fn verbatim(error: &ServerError) -> String {
    match error.details() {
        Some(text) => format!("{} {text}", error.code()),
        None => error.code().to_owned(),
    }
}

/// Returns the server errors in `error`: one, or those of the commands of a pipeline.
pub(crate) fn server_errors(error: &RedisError) -> Vec<ServerError> {
    let errors = error.clone().into_server_errors();
    errors.iter().flat_map(|errors| errors.iter()).map(|(_, error)| error.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn error(line: &str) -> ServerError {
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap() {
            Value::ServerError(error) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn table_matches_codes_in_sources() {
        let lines = include_str!("server-error-codes.txt").lines().filter(|line| !line.starts_with('#'));
        let in_sources = lines.filter_map(|line| line.split(' ').next()).collect::<BTreeSet<_>>();
        let in_table = CODES.iter().map(|(code, ..)| *code).collect::<BTreeSet<_>>();
        assert_eq!(in_table, in_sources);
        assert_eq!(in_table.len(), CODES.len(), "one row for each code");
    }

    #[test]
    fn unknown_code_counts_as_ran() {
        assert_eq!(outcome_of(&error("MYERR half way")), Outcome::Ran);
        assert_eq!(recovery_of(&error("MYERR half way")), Never);
        assert_eq!(outcome_of(&error("ERR Target instance replied with error: OOM no")), Outcome::Ran);
    }

    #[test]
    fn recovery_of_execabort_from_its_reason() {
        let because = "EXECABORT Transaction discarded because of:";
        assert_eq!(recovery_of(&error(&format!("{because} READONLY You can't write"))), Master);
        assert_eq!(
            recovery_of(&error(&format!("{because} NOREPLICAS Not enough good replicas to write."))),
            SameServer
        );
        assert_eq!(recovery_of(&error(&format!("{because} OOM no"))), Manual);
        assert_eq!(recovery_of(&error("EXECABORT Transaction discarded because of previous errors.")), Never);
    }

    #[test]
    fn node_is_appended_in_front_of_the_note() {
        let node = Address::tcp("node", 1);
        for (outcome, line, expected) in [
            (NotApplied, "OOM full", "full (from node:1)"),
            (Ran, "OOM full", "full (from node:1) (it ran, and may have done a part of its work)"),
            (Ran, "MYERR half way", "half way (from node:1)"),
            (NotApplied, "OOM", "(from node:1)"),
        ] {
            for plain in [error(line), with_note(error(line), outcome)] {
                let noted = with_node(plain, &node, outcome);
                assert_eq!(noted.details(), Some(expected), "{line}");
                assert_eq!((noted.code(), outcome_of(&noted)), (error(line).code(), outcome), "{line}");
            }
        }
    }

    #[test]
    fn outcome_note_round_trips() {
        for (outcome, line) in [
            (Outcome::Ran, "ERR limit reached"),
            (Outcome::Ran, "WRONGTYPE Operation against"),
            (Outcome::MaybeApplied, "READONLY no"),
            (Outcome::MaybeApplied, "MYERR made up"),
            (Outcome::MaybeApplied, "OOM"),
        ] {
            let plain = error(line);
            let noted = with_note(plain.clone(), outcome);
            assert_eq!(outcome_of(&noted), outcome, "{line}");
            assert_eq!((noted.code(), noted.kind()), (plain.code(), plain.kind()));
            assert!(noted.details().unwrap().starts_with(plain.details().unwrap_or_default()));
        }
        let plain = error("MYERR made up");
        assert_eq!(with_note(plain.clone(), Outcome::Ran), plain, "the code already means ran");
    }
}
