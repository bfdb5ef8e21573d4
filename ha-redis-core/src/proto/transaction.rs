//! What the replies to an atomic pipeline say: those to MULTI, to each of its commands, and to EXEC.

use redis::{ServerError, Value};

use crate::error::{Outcome, outcome_of, printable_error};

/// What became of a transaction.
#[derive(Debug, PartialEq)]
pub(crate) enum Transaction {
    /// EXEC ran it: the values of its commands, or nil, as EXEC gave them.
    Executed(Value),
    /// Nothing of it was run.
    Aborted {
        /// The commands that were not queued, by their positions.
        commands: Vec<(usize, ServerError)>,
        exec: ServerError,
    },
    /// It did not run as one, and its values cannot be told from others: why, and what to do.
    Torn(String),
}

impl Transaction {
    pub(crate) fn read(mut replies: Vec<Value>) -> Self {
        let Some(exec) = replies.pop() else { return Self::Torn("it got no replies".into()) };
        let [multi, replies @ ..] = replies.as_mut_slice() else {
            return Self::Torn("MULTI was not answered".into());
        };
        let multi = std::mem::replace(multi, Value::Nil);
        let mut refused = Vec::new();
        for (index, reply) in replies.iter().enumerate() {
            match reply {
                Value::ServerError(error) => refused.push((index, error.clone())),
                reply if is_queued(reply) => {}
                _ => {
                    return Self::Torn(format!(
                        "command {index} was not queued but run by itself{}",
                        why(&multi)
                    ));
                }
            }
        }
        match (multi, exec) {
            (Value::Okay, Value::ServerError(exec)) => Self::Aborted { commands: refused, exec },
            // Where MULTI was refused, each command ran by itself, if it was not refused as well.
            (Value::ServerError(multi), Value::ServerError(_)) => {
                if let Some((index, error)) = refused.iter().find(|(_, error)| may_have_run(error)) {
                    let multi = why(&Value::ServerError(multi));
                    return Self::Torn(format!(
                        "command {index} ran by itself{multi}: {}",
                        printable_error(error)
                    ));
                }
                Self::Aborted { commands: Vec::new(), exec: multi }
            }
            (Value::Okay, exec) => executed(refused, replies.len(), exec),
            (multi, _) => Self::Torn(format!(
                "EXEC ran commands that were queued before it{}; end a transaction by hand with EXEC or DISCARD before \
                 sending an atomic pipeline",
                why(&multi)
            )),
        }
    }
}

fn executed(refused: Vec<(usize, ServerError)>, commands: usize, exec: Value) -> Transaction {
    match (refused.into_iter().next(), exec) {
        (None, Value::Nil) => Transaction::Executed(Value::Nil),
        (None, Value::Array(values)) if values.len() == commands => {
            Transaction::Executed(Value::Array(values))
        }
        (None, Value::Array(values)) => {
            Transaction::Torn(format!("EXEC gave {} values for {commands} commands", values.len()))
        }
        (Some((index, error)), Value::Nil | Value::Array(_)) => Transaction::Torn(format!(
            "EXEC ran it without command {index}, which was refused: {}",
            printable_error(&error)
        )),
        _ => Transaction::Torn("EXEC was answered with something else than values".into()),
    }
}

/// Scripts end with errors of their own when a part of their work is done.
fn may_have_run(error: &ServerError) -> bool {
    outcome_of(error) != Outcome::NotApplied
}

fn is_queued(reply: &Value) -> bool {
    matches!(reply, Value::SimpleString(text) if text == "QUEUED")
}

fn why(multi: &Value) -> String {
    match multi {
        Value::ServerError(error) if error.code() == "NOPERM" => {
            format!(
                ", since its user may not run MULTI: {}; allow it (ACL SETUSER <user> +multi)",
                printable_error(error)
            )
        }
        Value::ServerError(error) => format!(", since MULTI was refused: {}", printable_error(error)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(replies: &[&str]) -> Transaction {
        let value = |reply: &&str| redis::parse_redis_value(format!("{reply}\r\n").as_bytes()).unwrap();
        Transaction::read(replies.iter().map(value).collect())
    }

    fn torn(replies: &[&str]) -> String {
        match read(replies) {
            Transaction::Torn(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_are_given_only_to_the_commands_that_they_belong_to() {
        let values = Value::Array(vec![Value::Int(1), Value::Int(2)]);
        assert_eq!(read(&["+OK", "+QUEUED", "+QUEUED", "*2\r\n:1\r\n:2"]), Transaction::Executed(values));
        assert_eq!(read(&["+OK", "+QUEUED", "*-1"]), Transaction::Executed(Value::Nil));
        assert_eq!(read(&["+OK", "*0"]), Transaction::Executed(Value::Array(Vec::new())));
        assert!(torn(&["+OK", "+QUEUED", "*2\r\n:1\r\n:2"]).contains("2 values for 1 commands"));
        assert!(
            torn(&["+OK", "-ERR WATCH inside MULTI", "+QUEUED", "*1\r\n:1"]).contains("WATCH inside MULTI")
        );
        assert!(
            torn(&["-ERR nested", "+QUEUED", "*2\r\n:1\r\n:2"])
                .contains("since MULTI was refused: ERR nested")
        );
        assert!(torn(&["-NOPERM no", ":1", "-ERR EXEC without MULTI"]).contains("command 0"));
        let script = "-ERR half way script: f_1, on @user_script:2.";
        assert!(
            torn(&["-NOPERM no", "-WRONGTYPE no", script, "-ERR EXEC without MULTI"]).contains("command 1")
        );
        assert!(torn(&["+QUEUED", "+QUEUED", "*1\r\n:1"]).contains("by hand"));
        assert!(torn(&["+OK", "+QUEUED", ":1"]).contains("something else"));
        assert!(torn(&[]).contains("no replies") && torn(&["+OK"]).contains("MULTI"));
    }

    #[test]
    fn an_aborted_transaction_keeps_the_errors_of_all_its_commands() {
        let aborted = "-EXECABORT Transaction discarded because of previous errors.";
        let Transaction::Aborted { commands, exec } = read(&["+OK", "-ERR a", "+QUEUED", "-OOM b", aborted])
        else {
            panic!("it was aborted");
        };
        assert_eq!(exec.code(), "EXECABORT");
        let commands =
            commands.iter().map(|(index, error)| (*index, printable_error(error))).collect::<Vec<_>>();
        assert_eq!(commands, [(0, "ERR a".to_owned()), (2, "OOM b".to_owned())]);
        let Transaction::Aborted { commands, exec } = read(&["-NOAUTH a", "-NOAUTH b", "-NOAUTH c"]) else {
            panic!("nothing was run");
        };
        assert_eq!((commands.len(), printable_error(&exec).as_str()), (0, "NOAUTH a"));
    }
}
