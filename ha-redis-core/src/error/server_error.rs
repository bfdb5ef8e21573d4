//! What an error of a server says: one table of the codes of Redis and Valkey, and the wording where a code alone does
//! not tell.
//!
//! Two questions are answered here. *What became of the command:* a command of the server's own that is answered with an
//! error has changed nothing. A script, a function or a module's command may have done a part of its work, and may
//! answer with any code; of those, only what the server itself says before they begin counts as a refusal. And *does it
//! pass:* some refusals end by themselves, on the same server or with another master.

use redis::{RedisError, ServerError, Value};

use crate::error::Outcome;
use crate::peer_text::printable;

use Outcome::{MaybeApplied, NotApplied, Ran};
use Passing::{ByHand, Elsewhere, Here, Never};

/// Whether a server will take later what it refuses now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passing {
    /// Not this command of this user, whatever its state.
    Never,
    /// Not before somebody frees memory or disk, or ends a script.
    ByHand,
    /// The same server will: it loads its data, or waits for a replica.
    Here,
    /// The master will, and this server is not, or no longer, the master.
    Elsewhere,
}

impl Passing {
    /// Whether waiting is enough.
    pub(crate) fn by_itself(self) -> bool {
        matches!(self, Here | Elsewhere)
    }
}

/// Every error code in the sources of Redis and Valkey: what became of a command of the server's own that is answered
/// with it, and whether it passes.
const CODES: &[(&str, Outcome, Passing)] = &[
    // The state of the server, or of its cluster, does not allow the command for now.
    ("LOADING", NotApplied, Here),
    ("NOREPLICAS", NotApplied, Here),
    ("CLUSTERDOWN", NotApplied, Here),
    ("TRYAGAIN", NotApplied, Here),
    ("ASK", NotApplied, Here),
    // It is a replica. So does a replica answer in a cluster of one shard: MOVED, with its master's address.
    ("READONLY", NotApplied, Elsewhere),
    ("MASTERDOWN", NotApplied, Elsewhere),
    ("REDIRECT", NotApplied, Elsewhere),
    ("MOVED", NotApplied, Elsewhere),
    // It has become a replica while the command waited. CLIENT UNBLOCK gives the same code: see `passing_of`.
    ("UNBLOCKED", NotApplied, Elsewhere),
    // It has no memory or disk, or runs a script that does not end.
    ("OOM", NotApplied, ByHand),
    ("MISCONF", NotApplied, ByHand),
    ("BUSY", NotApplied, ByHand),
    // The user may not.
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
    // Said to replicas, and by Sentinels.
    ("NOMASTERLINK", NotApplied, Never),
    ("NOGOODSLAVE", NotApplied, Never),
    ("NOQUORUM", NotApplied, Never),
    ("INPROG", NotApplied, Never),
    // MIGRATE has moved some of its keys; PFADD has met damage behind what it had added.
    ("IOERR", Ran, Never),
    ("INVALIDOBJ", Ran, Never),
];

/// The row of a code. `None` for one that neither Redis nor Valkey knows: a script or a module has made it up.
fn known(code: &str) -> Option<(Outcome, Passing)> {
    CODES.iter().find(|(known, ..)| *known == code).map(|(_, outcome, passing)| (*outcome, *passing))
}

/// Behind an error whose code and text alone would say that nothing was changed.
const RAN: &str = "(it ran, and may have done a part of its work)";
/// Behind the error of the last attempt, when an earlier one may have been applied.
const IN_DOUBT: &str = "(an earlier attempt got no reply, and may have been applied)";

/// What became of the command that was answered with `error`.
pub(crate) fn outcome_of(error: &ServerError) -> Outcome {
    let text = error.details().unwrap_or_default();
    if text.ends_with(IN_DOUBT) {
        return MaybeApplied;
    }
    let raised = raised_by_script(error.code(), text);
    if let Some((code, text)) = raised {
        return if is_first_write(code, text) { NotApplied } else { Ran };
    }
    // The first is MIGRATE's.
    if text.starts_with("Target instance replied with error") || text.ends_with(RAN) {
        return Ran;
    }
    known(error.code()).map_or(Ran, |(outcome, _)| outcome)
}

/// Whether what was refused with `error` will pass. Asked only where the error is the server's own refusal.
pub(crate) fn passing_of(error: &ServerError) -> Passing {
    let text = error.details().unwrap_or_default();
    let (code, text) = raised_by_script(error.code(), text).unwrap_or((error.code(), text));
    // An EXEC that was refused itself names the reason.
    let (code, text) = match text.split_once("because of: ") {
        Some((_, reason)) if code == "EXECABORT" => reason.split_once(' ').unwrap_or((reason, "")),
        _ => (code, text),
    };
    match known(code) {
        // Not that of CLIENT UNBLOCK, nor that of a stream that was deleted.
        Some(_) if code == "UNBLOCKED" && !text.starts_with("force unblock") => Never,
        Some((NotApplied, passing)) => passing,
        _ => Never,
    }
}

/// Whether a server that refuses a command may take it soon. Otherwise this user may not run it, or the server does not
/// know it: how that is said differs from server to server.
pub(crate) fn will_pass(error: &ServerError) -> bool {
    passing_of(error) != Never
}

/// Whether the server refused a script, a function or a command of a module before it began, or a script at its first
/// write. `declared` is whether the server knew before what the script would do, and refused it as a whole.
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
        // About what a script ran into, the text speaks of the script.
        "NOPERM" => text.to_ascii_lowercase().contains("no permissions to ") && !text.contains("script"),
        "MISCONF" => text.contains(" is configured to ") || begins(&["Errors writing to the AOF"]),
        // A script that got the same words from a `pcall` may have gone on with what needs no memory, such as DEL.
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

/// Whether a script had begun when it ran into this.
pub(crate) fn is_from_inside(error: &ServerError) -> bool {
    raised_by_script(error.code(), error.details().unwrap_or_default()).is_some()
}

/// The error that ended a script from inside, if `error` is one: what it ran into is quoted with the script's name.
fn raised_by_script<'a>(code: &'a str, text: &'a str) -> Option<(&'a str, &'a str)> {
    if text.contains(" script: ") && text.contains(", on @user_") {
        return Some((code, text));
    }
    // Before Redis 7, all is an `ERR` with the error itself behind the place.
    let around = text.strip_prefix("Error running script")?;
    let inner = around.split_once(": -").and_then(|(_, inner)| inner.split_once(' '));
    Some(inner.unwrap_or((code, text)))
}

/// Whether this is said to a script that has written nothing: once it has, the server lets it go on.
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

/// The same error, saying what became of the command where it would not by itself. Code and kind stay.
pub(crate) fn noted(error: ServerError, outcome: Outcome) -> ServerError {
    let note = match outcome {
        _ if outcome_of(&error) == outcome => return error,
        Ran => RAN,
        MaybeApplied => IN_DOUBT,
        Outcome::NotSent | NotApplied => return error,
    };
    let noted = format!("{} {note}", verbatim(&error));
    // By its length, since a text may have several lines.
    match redis::parse_redis_value(format!("!{}\r\n{noted}\r\n", noted.len()).as_bytes()) {
        Ok(Value::ServerError(noted)) => noted,
        _ => error,
    }
}

/// A server's error in its own words, to be printed.
pub(crate) fn said(error: &ServerError) -> String {
    printable(&verbatim(error))
}

/// A server's error in its own words, to be given to callers as an error of the server.
pub(crate) fn verbatim(error: &ServerError) -> String {
    match error.details() {
        Some(text) => format!("{} {text}", error.code()),
        None => error.code().to_owned(),
    }
}

/// The errors of a server that `error` is made of: one, or those of the commands of a pipeline.
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
    fn the_table_has_the_codes_of_the_sources_and_no_others() {
        let lines = include_str!("server-error-codes.txt").lines().filter(|line| !line.starts_with('#'));
        let in_sources = lines.filter_map(|line| line.split(' ').next()).collect::<BTreeSet<_>>();
        let in_table = CODES.iter().map(|(code, ..)| *code).collect::<BTreeSet<_>>();
        assert_eq!(in_table, in_sources);
        assert_eq!(in_table.len(), CODES.len(), "each has one row");
    }

    #[test]
    fn a_code_that_the_server_does_not_have_may_mean_anything() {
        assert_eq!(outcome_of(&error("MYERR half way")), Outcome::Ran);
        assert_eq!(passing_of(&error("MYERR half way")), Never);
        assert_eq!(outcome_of(&error("ERR Target instance replied with error: OOM no")), Outcome::Ran);
    }

    #[test]
    fn the_reason_of_a_refused_exec_passes_or_not() {
        let because = "EXECABORT Transaction discarded because of:";
        assert_eq!(passing_of(&error(&format!("{because} READONLY You can't write"))), Elsewhere);
        assert_eq!(
            passing_of(&error(&format!("{because} NOREPLICAS Not enough good replicas to write."))),
            Here
        );
        assert_eq!(passing_of(&error(&format!("{because} OOM no"))), ByHand);
        assert_eq!(passing_of(&error("EXECABORT Transaction discarded because of previous errors.")), Never);
    }

    #[test]
    fn a_note_is_read_back_and_keeps_the_rest() {
        for (outcome, line) in [
            (Outcome::Ran, "ERR limit reached"),
            (Outcome::Ran, "WRONGTYPE Operation against"),
            (Outcome::MaybeApplied, "READONLY no"),
            (Outcome::MaybeApplied, "MYERR made up"),
            (Outcome::MaybeApplied, "OOM"),
        ] {
            let plain = error(line);
            let noted = noted(plain.clone(), outcome);
            assert_eq!(outcome_of(&noted), outcome, "{line}");
            assert_eq!((noted.code(), noted.kind()), (plain.code(), plain.kind()));
            assert!(noted.details().unwrap().starts_with(plain.details().unwrap_or_default()));
        }
        let plain = error("MYERR made up");
        assert_eq!(noted(plain.clone(), Outcome::Ran), plain, "it says so by itself");
    }
}
