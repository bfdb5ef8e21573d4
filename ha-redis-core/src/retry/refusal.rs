//! Replies that say that the server left a command, a pipeline or a transaction alone.

use redis::{Pipeline, ServerErrorKind, Value};

use crate::command::{Safety, safety};
use crate::error::runs_nothing;

/// Why a server left a command alone, when its reply says so.
pub(crate) fn of_command(reply: &Value) -> Option<ServerErrorKind> {
    match reply {
        Value::ServerError(error) => error.kind().filter(|kind| runs_nothing(*kind)),
        _ => None,
    }
}

/// Why a pipeline may be sent again as a whole: some of its commands were refused, and it does no harm to
/// run the others twice.
pub(crate) fn of_pipeline(pipeline: &Pipeline, replies: &[Value]) -> Option<ServerErrorKind> {
    let why = replies.iter().find_map(of_command)?;
    let mut commands = pipeline.cmd_iter().zip(replies);
    let harmless =
        commands.all(|(command, reply)| of_command(reply).is_some() || safety(command) != Safety::Unsafe);
    harmless.then_some(why)
}

/// Why a transaction was not run: the replies are those to MULTI, to each command, and to EXEC.
pub(crate) fn of_transaction(replies: &[Value]) -> Option<ServerErrorKind> {
    let (exec, before) = replies.split_last()?;
    let Value::ServerError(error) = exec else { return None };
    match error.kind() {
        Some(ServerErrorKind::ExecAbort) => {
            let details = error.details().unwrap_or_default();
            before.iter().find_map(of_command).or_else(|| named_by_exec(details))
        }
        _ => of_command(exec),
    }
}

/// Servers that refuse EXEC itself give the reason behind `because of:`.
fn named_by_exec(details: &str) -> Option<ServerErrorKind> {
    let (_, reason) = details.split_once("because of: ")?;
    let value = redis::parse_redis_value(format!("-{}\r\n", reason.trim_end()).as_bytes()).ok()?;
    of_command(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        redis::parse_redis_value(format!("{text}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn a_pipeline_is_repeated_when_nothing_in_it_would_run_twice() {
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("k").cmd("INCR").arg("n");
        let refused = value("-READONLY You can't write");
        assert_eq!(of_pipeline(&pipeline, &[Value::Nil, refused.clone()]), Some(ServerErrorKind::ReadOnly));
        assert_eq!(of_pipeline(&pipeline, &[refused, Value::Int(1)]), None, "INCR has run");
        assert_eq!(of_pipeline(&pipeline, &[Value::Nil, value("-WRONGTYPE no")]), None);
    }

    #[test]
    fn a_transaction_is_refused_by_its_commands_or_by_exec() {
        let aborted = "-EXECABORT Transaction discarded because of previous errors.";
        let refused = [Value::Okay, value("-READONLY no"), value(aborted)];
        assert_eq!(of_transaction(&refused), Some(ServerErrorKind::ReadOnly));
        let wrong = [Value::Okay, value("-ERR unknown command 'FOO'"), value(aborted)];
        assert_eq!(of_transaction(&wrong), None);
        let at_exec = "-EXECABORT Transaction discarded because of: READONLY You can't write";
        let late = [Value::Okay, value("+QUEUED"), value(at_exec)];
        assert_eq!(of_transaction(&late), Some(ServerErrorKind::ReadOnly));
        assert_eq!(of_transaction(&[Value::Okay, value("+QUEUED"), value("*0")]), None);
    }
}
