//! Replies that say that the server left a command, a pipeline or a transaction alone.

use redis::{Arg, Cmd, Pipeline, ServerError, ServerErrorKind, Value};

use crate::command::{Safety, pipeline_safety};
use crate::error::runs_nothing;

/// A server's refusal of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: ServerErrorKind,
    /// What sending the whole call again would run twice.
    pub(crate) ran: Safety,
}

pub(crate) fn of_command(command: &Cmd, reply: &Value) -> Option<Refusal> {
    let Value::ServerError(error) = reply else { return None };
    let kind = kind_of(error)?;
    let believed = !runs_script(command) || is_servers_own(kind, error);
    believed.then_some(Refusal { kind, ran: Safety::ReadOnly })
}

/// A pipeline of which some commands were refused, and the others have run.
pub(crate) fn of_pipeline(pipeline: &Pipeline, replies: &[Value]) -> Option<Refusal> {
    let answered = || pipeline.cmd_iter().zip(replies);
    let first = answered().find_map(|(command, reply)| of_command(command, reply))?;
    let mut ran = Pipeline::new();
    for (command, _) in answered().filter(|(command, reply)| of_command(command, reply).is_none()) {
        ran.add_command(command.clone());
    }
    Some(Refusal { ran: pipeline_safety(&ran), ..first })
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
    Some(Refusal { kind, ran: Safety::ReadOnly })
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

/// Whether the reason for which a transaction was discarded is a refusal.
pub(crate) fn is_named_in(details: &str) -> bool {
    let codes = ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"];
    details.split(' ').any(|word| codes.contains(&word))
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

    fn read_only(ran: Safety) -> Option<Refusal> {
        Some(Refusal { kind: ServerErrorKind::ReadOnly, ran })
    }

    #[test]
    fn a_partly_refused_pipeline_is_as_safe_as_what_has_run() {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("k").cmd("INCR").arg("n");
        let refused = value("-READONLY You can't write");
        assert_eq!(of_pipeline(&pipeline, &[Value::Nil, refused.clone()]), read_only(Safety::ReadOnly));
        assert_eq!(of_pipeline(&pipeline, &[Value::Nil, value("-WRONGTYPE no")]), None);
        let mut pipeline = redis::pipe();
        pipeline.set("a", 1).set("b", 2);
        assert_eq!(of_pipeline(&pipeline, &[Value::Okay, refused.clone()]), read_only(Safety::Repeatable));
        let mut pipeline = redis::pipe();
        pipeline.cmd("PUBLISH").arg("news").arg(1).cmd("SET").arg("k").arg(1);
        assert_eq!(
            of_pipeline(&pipeline, &[Value::Int(0), refused]),
            read_only(Safety::Unsafe),
            "PUBLISH has run"
        );
    }

    #[test]
    fn a_transaction_is_refused_by_its_commands_or_by_exec() {
        let aborted = "-EXECABORT Transaction discarded because of previous errors.";
        let refused = [Value::Okay, value("-READONLY no"), value(aborted)];
        assert_eq!(of_transaction(&refused), read_only(Safety::ReadOnly));
        let wrong = [Value::Okay, value("-ERR unknown command 'FOO'"), value(aborted)];
        assert_eq!(of_transaction(&wrong), None);
        let at_exec = "-EXECABORT Transaction discarded because of: READONLY You can't write";
        let late = [Value::Okay, value("+QUEUED"), value(at_exec)];
        assert_eq!(of_transaction(&late), read_only(Safety::ReadOnly));
        assert_eq!(of_transaction(&[Value::Okay, value("+QUEUED"), value("*0")]), None);
    }

    #[test]
    fn a_scripts_own_error_is_no_refusal() {
        let mut script = redis::cmd("EVAL");
        script.arg("return redis.error_reply('TRYAGAIN later')").arg(0);
        assert_eq!(of_command(&script, &value("-TRYAGAIN later")), None);
        assert_eq!(of_command(&script, &value("-READONLY because I say so")), None);
        let at_write = "-READONLY You can't write against a read only replica. script: f, on @user_script:1.";
        assert_eq!(of_command(&script, &value(at_write)), read_only(Safety::ReadOnly));
        assert!(of_command(&redis::cmd("GET"), &value("-TRYAGAIN later")).is_some());
    }
}
