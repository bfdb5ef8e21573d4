//! Replies that say that the server left a command, a pipeline or a transaction alone.

use redis::{Arg, Cmd, Pipeline, ServerError, ServerErrorKind, Value};

use crate::command::{Safety, safety};
use crate::error::runs_nothing;

/// A server's refusal of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: ServerErrorKind,
    /// Whether sending the whole call again runs nothing twice that must not run twice.
    pub(crate) repeatable: bool,
}

pub(crate) fn of_command(command: &Cmd, reply: &Value) -> Option<Refusal> {
    let Value::ServerError(error) = reply else { return None };
    let kind = kind_of(error)?;
    let believed = !runs_script(command) || is_servers_own(kind, error);
    believed.then_some(Refusal { kind, repeatable: true })
}

/// A pipeline of which some commands were refused may be sent again if the others may run twice.
pub(crate) fn of_pipeline(pipeline: &Pipeline, replies: &[Value]) -> Option<Refusal> {
    let answered = || pipeline.cmd_iter().zip(replies);
    let first = answered().find_map(|(command, reply)| of_command(command, reply))?;
    let repeatable = answered()
        .all(|(command, reply)| of_command(command, reply).is_some() || safety(command) != Safety::Unsafe);
    Some(Refusal { repeatable, ..first })
}

/// A transaction that was not run: the replies are those to MULTI, to each command, and to EXEC.
pub(crate) fn of_transaction(replies: &[Value]) -> Option<Refusal> {
    let (exec, before) = replies.split_last()?;
    let Value::ServerError(error) = exec else { return None };
    let kind = if error.kind() == Some(ServerErrorKind::ExecAbort) {
        let refused = before.iter().find_map(|reply| match reply {
            Value::ServerError(error) => kind_of(error),
            _ => None,
        });
        refused.or_else(|| named_by_exec(error.details().unwrap_or_default()))?
    } else {
        kind_of(error)?
    };
    Some(Refusal { kind, repeatable: true })
}

fn kind_of(error: &ServerError) -> Option<ServerErrorKind> {
    error.kind().filter(|kind| runs_nothing(*kind))
}

/// A script may return an error of any code, after it has done something.
fn runs_script(command: &Cmd) -> bool {
    let Some(Arg::Simple(name)) = command.args_iter().next() else { return false };
    ["EVAL", "EVALSHA", "FCALL"].iter().any(|script| name.eq_ignore_ascii_case(script.as_bytes()))
}

/// The words with which a server refuses before it runs anything, or at a script's first write.
fn is_servers_own(kind: ServerErrorKind, error: &ServerError) -> bool {
    let details = error.details().unwrap_or_default();
    match kind {
        ServerErrorKind::ReadOnly => details.starts_with("You can't write against a read only replica"),
        ServerErrorKind::BusyLoading => details.contains("is loading the dataset in memory"),
        ServerErrorKind::MasterDown => details.starts_with("Link with MASTER is down"),
        _ => false,
    }
}

/// Servers that refuse EXEC itself give the reason behind `because of:`.
fn named_by_exec(details: &str) -> Option<ServerErrorKind> {
    let (_, reason) = details.split_once("because of: ")?;
    match redis::parse_redis_value(format!("-{}\r\n", reason.trim_end()).as_bytes()).ok()? {
        Value::ServerError(error) => kind_of(&error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        redis::parse_redis_value(format!("{text}\r\n").as_bytes()).unwrap()
    }

    fn read_only(repeatable: bool) -> Option<Refusal> {
        Some(Refusal { kind: ServerErrorKind::ReadOnly, repeatable })
    }

    #[test]
    fn a_pipeline_is_repeated_when_nothing_in_it_would_run_twice() {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("k").cmd("INCR").arg("n");
        let refused = value("-READONLY You can't write");
        assert_eq!(of_pipeline(&pipeline, &[Value::Nil, refused.clone()]), read_only(true));
        assert_eq!(of_pipeline(&pipeline, &[Value::Nil, value("-WRONGTYPE no")]), None);
        let mut pipeline = redis::pipe();
        pipeline.cmd("PUBLISH").arg("news").arg(1).cmd("SET").arg("k").arg(1);
        assert_eq!(of_pipeline(&pipeline, &[Value::Int(0), refused]), read_only(false), "PUBLISH has run");
    }

    #[test]
    fn a_transaction_is_refused_by_its_commands_or_by_exec() {
        let aborted = "-EXECABORT Transaction discarded because of previous errors.";
        let refused = [Value::Okay, value("-READONLY no"), value(aborted)];
        assert_eq!(of_transaction(&refused), read_only(true));
        let wrong = [Value::Okay, value("-ERR unknown command 'FOO'"), value(aborted)];
        assert_eq!(of_transaction(&wrong), None);
        let at_exec = "-EXECABORT Transaction discarded because of: READONLY You can't write";
        let late = [Value::Okay, value("+QUEUED"), value(at_exec)];
        assert_eq!(of_transaction(&late), read_only(true));
        assert_eq!(of_transaction(&[Value::Okay, value("+QUEUED"), value("*0")]), None);
    }

    #[test]
    fn a_scripts_own_error_is_no_refusal() {
        let mut script = redis::cmd("EVAL");
        script.arg("return redis.error_reply('TRYAGAIN later')").arg(0);
        assert_eq!(of_command(&script, &value("-TRYAGAIN later")), None);
        assert_eq!(of_command(&script, &value("-READONLY because I say so")), None);
        let at_write = "-READONLY You can't write against a read only replica. script: f, on @user_script:1.";
        assert_eq!(of_command(&script, &value(at_write)), read_only(true));
        assert!(of_command(&redis::cmd("GET"), &value("-TRYAGAIN later")).is_some());
    }
}
