//! Finds the replies by which a server refused a command, a pipeline or a transaction for now.

use redis::{Arg, Cmd, Pipeline, ServerError, Value};

use crate::command::{Safety, pipeline_safety, safety};
use crate::error::Outcome::{self, MaybeApplied, NotApplied, Ran};
use crate::error::{Recovery, is_from_inside, is_refusal, outcome_of, recovery_of, with_note};
use crate::proto::Transaction;

/// A server's temporary refusal of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefusedCall {
    /// True if another server has to run the call: this one is not the master.
    pub(crate) not_master: bool,
    /// True if the call was waiting on the server when it became a replica.
    pub(crate) unblocked: bool,
    /// The safety of what would run twice if the whole call were sent again.
    pub(crate) ran: Safety,
}

impl RefusedCall {
    /// Returns the refusal of a whole call by this error, or `None` if the error is not temporary.
    fn of(error: &ServerError) -> Option<Self> {
        let recovery = recovery_of(error);
        let refusal = Self {
            not_master: recovery == Recovery::Master,
            unblocked: error.code() == "UNBLOCKED",
            ran: Safety::ReadOnly,
        };
        recovery.is_automatic().then_some(refusal)
    }
}

pub(crate) fn of_command(command: &Cmd, reply: &Value) -> Option<RefusedCall> {
    let Value::ServerError(error) = reply else { return None };
    let refusal = RefusedCall::of(error).filter(|_| outcome(command, error) == NotApplied)?;
    // The script has written nothing, but it may have published a message.
    let ran =
        if is_from_inside(error) && mentions_publish(command) { safety(command) } else { Safety::ReadOnly };
    Some(RefusedCall { ran, ..refusal })
}

/// Returns the refusal of a pipeline in which some commands were refused and the others have run.
pub(crate) fn of_pipeline(pipeline: &Pipeline, replies: &[Value]) -> Option<RefusedCall> {
    let pairs = || pipeline.cmd_iter().zip(replies);
    let mut refusals = pairs().filter_map(|(command, reply)| of_command(command, reply));
    let first = refusals.next()?;
    let not_master = first.not_master || refusals.any(|refusal| refusal.not_master);
    let has_written = |(command, reply): &(&Cmd, &Value)| match of_command(command, reply) {
        Some(refusal) => refusal.ran > Safety::ReadOnly,
        None => has_run(command, reply) && safety(command) > Safety::ReadOnly,
    };
    // In a second run, a command that was refused before a write that ran would see that write.
    let writes = pairs().enumerate().filter(|(_, pairs)| has_written(pairs));
    let last = writes.map(|(index, _)| index).last();
    let mut again = Pipeline::new();
    for (command, reply) in pairs().take(last.map_or(0, |last| last + 1)) {
        // Permanently refused commands do not run in the second attempt either.
        if of_command(command, reply).is_some() || has_run(command, reply) {
            again.add_command(command.clone());
        }
    }
    Some(RefusedCall { not_master, ran: pipeline_safety(&again), ..first })
}

/// Returns the refusal of a transaction that did not run. The replies are those to MULTI, to each command, and to
/// EXEC.
pub(crate) fn of_transaction(replies: &[Value]) -> Option<RefusedCall> {
    let [.., Value::ServerError(_)] = replies else { return None };
    let Transaction::Aborted { commands, exec } = Transaction::read(replies.to_vec()) else { return None };
    if commands.is_empty() {
        return RefusedCall::of(&exec);
    }
    // A permanent refusal would be repeated.
    let refusals = commands.iter().map(|(_, error)| RefusedCall::of(error)).collect::<Option<Vec<_>>>()?;
    let not_master = refusals.iter().any(|refusal| refusal.not_master);
    refusals.first().map(|first| RefusedCall { not_master, ..*first })
}

/// Adds a note to an error reply that suggests that nothing was changed although `command` may have changed
/// something.
pub(crate) fn with_outcome_note(command: &Cmd, reply: Value) -> Value {
    match reply {
        // A command that only reads has changed nothing, whatever its error.
        Value::ServerError(error) if safety(command) != Safety::ReadOnly => {
            let outcome = outcome(command, &error);
            Value::ServerError(with_note(error, outcome))
        }
        reply => reply,
    }
}

/// Adds a note to an error reply to the last attempt of a call if an earlier attempt may have run.
pub(crate) fn with_doubt_note(reply: Value) -> Value {
    match reply {
        Value::ServerError(error) => Value::ServerError(with_note(error, MaybeApplied)),
        reply => reply,
    }
}

fn has_run(command: &Cmd, reply: &Value) -> bool {
    !matches!(reply, Value::ServerError(error) if outcome(command, error) == NotApplied)
}

/// Returns what became of `command`, which failed with `error`.
fn outcome(command: &Cmd, error: &ServerError) -> Outcome {
    match UserCode::of(command) {
        Some(code) if outcome_of(error) == NotApplied && !is_refusal(error, &code.name, code.declared) => Ran,
        _ => outcome_of(error),
    }
}

/// A command that runs a script, a function or a module's code, which may return an error with any code after it has
/// done something.
struct UserCode {
    name: String,
    /// True if the server knows beforehand whether the code writes: for functions, scripts that begin with `#!`, and
    /// modules' commands.
    declared: bool,
}

impl UserCode {
    fn of(command: &Cmd) -> Option<Self> {
        let mut words = command.args_iter().map(|word| match word {
            Arg::Simple(bytes) => bytes,
            _ => b"",
        });
        let name = String::from_utf8_lossy(words.next()?).to_ascii_uppercase();
        let declared = match name.as_str() {
            "EVAL" | "EVAL_RO" => words.next().is_some_and(|script| script.starts_with(b"#!")),
            "EVALSHA" | "EVALSHA_RO" => false,
            "FCALL" | "FCALL_RO" => true,
            // The names of modules' commands contain a dot.
            name if name.contains('.') => true,
            _ => return None,
        };
        Some(Self { name, declared })
    }
}

/// Returns true if the command contains the script's text and the text mentions PUBLISH. A script called by its hash
/// cannot be searched.
fn mentions_publish(command: &Cmd) -> bool {
    command.args_iter().any(|arg| match arg {
        Arg::Simple(text) => text.windows(7).any(|word| word.eq_ignore_ascii_case(b"publish")),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        redis::parse_redis_value(format!("{text}\r\n").as_bytes()).unwrap()
    }

    fn read_only(ran: Safety) -> Option<RefusedCall> {
        Some(RefusedCall { not_master: true, unblocked: false, ran })
    }

    #[test]
    fn safety_of_partly_refused_pipeline() {
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
            of_pipeline(&pipeline, &[Value::Int(0), refused.clone()]),
            read_only(Safety::Unsafe),
            "PUBLISH has run"
        );
        assert_eq!(
            of_pipeline(&pipeline, &[value("-NOPERM no"), refused]),
            read_only(Safety::ReadOnly),
            "PUBLISH has not"
        );
    }

    #[test]
    fn refused_command_must_not_see_later_write() {
        let mut pipeline = redis::pipe();
        pipeline.cmd("INCR").arg("n").cmd("SET").arg("n").arg(5);
        let refused = value("-READONLY no");
        assert_eq!(of_pipeline(&pipeline, &[refused.clone(), Value::Okay]), read_only(Safety::Unsafe));
        let mut pipeline = redis::pipe();
        pipeline.set("a", 1).set("b", 2).cmd("INCR").arg("n");
        let replies = [refused.clone(), Value::Okay, refused.clone()];
        assert_eq!(of_pipeline(&pipeline, &replies), read_only(Safety::Repeatable));
        let mut pipeline = redis::pipe();
        pipeline.cmd("GET").arg("a").set("b", 1).cmd("GET").arg("c");
        let replies = [Value::Nil, refused, Value::Nil];
        assert_eq!(of_pipeline(&pipeline, &replies), read_only(Safety::ReadOnly), "only reads have run");
    }

    #[test]
    fn transaction_refused_by_command_or_exec() {
        let aborted = "-EXECABORT Transaction discarded because of previous errors.";
        let refused = [Value::Okay, value("-READONLY no"), value(aborted)];
        assert_eq!(of_transaction(&refused), read_only(Safety::ReadOnly));
        let wrong = [Value::Okay, value("-ERR unknown command 'FOO'"), value(aborted)];
        assert_eq!(of_transaction(&wrong), None);
        let both = [Value::Okay, value("-READONLY no"), value("-ERR unknown command 'FOO'"), value(aborted)];
        assert_eq!(of_transaction(&both), None, "the unknown command stays unknown");
        let at_exec = "-EXECABORT Transaction discarded because of: READONLY You can't write";
        let late = [Value::Okay, value("+QUEUED"), value(at_exec)];
        assert_eq!(of_transaction(&late), read_only(Safety::ReadOnly));
        assert_eq!(of_transaction(&[Value::Okay, value("+QUEUED"), value("*0")]), None);
        let ran_alone = [value("-NOPERM no"), value(":1"), value("-READONLY no")];
        assert_eq!(of_transaction(&ran_alone), None);
    }

    #[test]
    fn script_error_is_not_refusal() {
        let mut script = redis::cmd("EVAL");
        script.arg("return redis.error_reply('TRYAGAIN later')").arg(0);
        assert_eq!(of_command(&script, &value("-TRYAGAIN later")), None);
        assert_eq!(of_command(&script, &value("-READONLY because I say so")), None);
        let at_write = "-READONLY You can't write against a read only replica. script: f, on @user_script:1.";
        assert_eq!(of_command(&script, &value(at_write)), read_only(Safety::ReadOnly));
        let mut script = redis::cmd("EVAL");
        script.arg("redis.call('Publish', 'news', 1) return redis.call('SET', 'k', 1)").arg(0);
        assert_eq!(of_command(&script, &value(at_write)), read_only(Safety::Unsafe), "it has published");
        assert!(of_command(&redis::cmd("GET"), &value("-TRYAGAIN later")).is_some());
    }
}
