//! Replies that say that the server left a command, a pipeline or a transaction alone.

use redis::{Arg, Cmd, Pipeline, ServerError, Value};

use crate::command::{Safety, pipeline_safety, safety};
use crate::error::Outcome::{self, MaybeApplied, NotApplied, Ran};
use crate::error::{Passing, is_from_inside, is_refusal, noted, outcome_of, passing_of};
use crate::proto::Transaction;

/// A server's refusal of a call that it will take later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Whether it is for another server to take it: this one is no master.
    pub(crate) elsewhere: bool,
    /// Whether the call had waited on the server, which has become a replica since.
    pub(crate) unblocked: bool,
    /// What sending the whole call again would run twice.
    pub(crate) ran: Safety,
}

impl Refusal {
    /// The refusal of a whole call for this reason, if it passes.
    fn of(error: &ServerError) -> Option<Self> {
        let passing = passing_of(error);
        let refusal = Self {
            elsewhere: passing == Passing::Elsewhere,
            unblocked: error.code() == "UNBLOCKED",
            ran: Safety::ReadOnly,
        };
        passing.by_itself().then_some(refusal)
    }
}

pub(crate) fn of_command(command: &Cmd, reply: &Value) -> Option<Refusal> {
    let Value::ServerError(error) = reply else { return None };
    let refusal = Refusal::of(error).filter(|_| outcome(command, error) == NotApplied)?;
    // It has written nothing, but a message is no write.
    let ran = if is_from_inside(error) && speaks_of_publishing(command) {
        safety(command)
    } else {
        Safety::ReadOnly
    };
    Some(Refusal { ran, ..refusal })
}

/// A pipeline of which some commands were refused, and the others have run.
pub(crate) fn of_pipeline(pipeline: &Pipeline, replies: &[Value]) -> Option<Refusal> {
    let answered = || pipeline.cmd_iter().zip(replies);
    let mut refusals = answered().filter_map(|(command, reply)| of_command(command, reply));
    let first = refusals.next()?;
    let elsewhere = first.elsewhere || refusals.any(|refusal| refusal.elsewhere);
    let has_written = |(command, reply): &(&Cmd, &Value)| match of_command(command, reply) {
        Some(refusal) => refusal.ran > Safety::ReadOnly,
        None => has_run(command, reply) && safety(command) > Safety::ReadOnly,
    };
    // Sent again, what was refused before a write that ran would look at it.
    let writes = answered().enumerate().filter(|(_, answered)| has_written(answered));
    let last = writes.map(|(index, _)| index).last();
    let mut again = Pipeline::new();
    for (command, reply) in answered().take(last.map_or(0, |last| last + 1)) {
        // What was refused for good will be again.
        if of_command(command, reply).is_some() || has_run(command, reply) {
            again.add_command(command.clone());
        }
    }
    Some(Refusal { elsewhere, ran: pipeline_safety(&again), ..first })
}

/// A transaction that was not run: the replies are those to MULTI, to each command, and to EXEC.
pub(crate) fn of_transaction(replies: &[Value]) -> Option<Refusal> {
    let [.., Value::ServerError(_)] = replies else { return None };
    let Transaction::Aborted { commands, exec } = Transaction::read(replies.to_vec()) else { return None };
    if commands.is_empty() {
        return Refusal::of(&exec);
    }
    // What is refused for good would be refused again.
    let refusals = commands.iter().map(|(_, error)| Refusal::of(error)).collect::<Option<Vec<_>>>()?;
    let elsewhere = refusals.iter().any(|refusal| refusal.elsewhere);
    refusals.first().map(|first| Refusal { elsewhere, ..*first })
}

/// The reply as the caller of `command` is told it: an error that would seem to have changed nothing says so if it may
/// have.
pub(crate) fn told(command: &Cmd, reply: Value) -> Value {
    match reply {
        // What only reads has changed nothing, whatever it ran into.
        Value::ServerError(error) if safety(command) != Safety::ReadOnly => {
            let outcome = outcome(command, &error);
            Value::ServerError(noted(error, outcome))
        }
        reply => reply,
    }
}

/// The reply to the last attempt of a call, an earlier one of which may have run.
pub(crate) fn told_in_doubt(reply: Value) -> Value {
    match reply {
        Value::ServerError(error) => Value::ServerError(noted(error, MaybeApplied)),
        reply => reply,
    }
}

fn has_run(command: &Cmd, reply: &Value) -> bool {
    !matches!(reply, Value::ServerError(error) if outcome(command, error) == NotApplied)
}

/// What became of `command`, which was answered with `error`.
fn outcome(command: &Cmd, error: &ServerError) -> Outcome {
    match UserCode::of(command) {
        Some(code) if outcome_of(error) == NotApplied && !is_refusal(error, &code.name, code.declared) => Ran,
        _ => outcome_of(error),
    }
}

/// A command that runs a script, a function or a module, which may answer with an error of any code after it has done
/// something.
struct UserCode {
    name: String,
    /// Whether the server knows beforehand whether it writes: of functions, of scripts that begin with `#!`, and of
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
            // Modules have a dot in the names of their commands.
            name if name.contains('.') => true,
            _ => return None,
        };
        Some(Self { name, declared })
    }
}

/// Whether the script that this runs speaks of publishing. Nobody can tell that of one that is called by its hash.
fn speaks_of_publishing(command: &Cmd) -> bool {
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

    fn read_only(ran: Safety) -> Option<Refusal> {
        Some(Refusal { elsewhere: true, unblocked: false, ran })
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
    fn what_was_refused_may_not_look_at_what_ran_behind_it() {
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
    fn a_transaction_is_refused_by_its_commands_or_by_exec() {
        let aborted = "-EXECABORT Transaction discarded because of previous errors.";
        let refused = [Value::Okay, value("-READONLY no"), value(aborted)];
        assert_eq!(of_transaction(&refused), read_only(Safety::ReadOnly));
        let wrong = [Value::Okay, value("-ERR unknown command 'FOO'"), value(aborted)];
        assert_eq!(of_transaction(&wrong), None);
        let both = [Value::Okay, value("-READONLY no"), value("-ERR unknown command 'FOO'"), value(aborted)];
        assert_eq!(of_transaction(&both), None, "what is wrong for good will not pass");
        let at_exec = "-EXECABORT Transaction discarded because of: READONLY You can't write";
        let late = [Value::Okay, value("+QUEUED"), value(at_exec)];
        assert_eq!(of_transaction(&late), read_only(Safety::ReadOnly));
        assert_eq!(of_transaction(&[Value::Okay, value("+QUEUED"), value("*0")]), None);
        let ran_alone = [value("-NOPERM no"), value(":1"), value("-READONLY no")];
        assert_eq!(of_transaction(&ran_alone), None);
    }

    #[test]
    fn a_scripts_own_error_is_no_refusal() {
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
