//! Reads the replies to an atomic pipeline: those to MULTI, to each of its commands, and to EXEC.

use redis::{ServerError, Value};

use crate::error::{Outcome, outcome_of, printable_error};

/// What became of a transaction.
#[derive(Debug, PartialEq)]
pub(crate) enum Transaction {
    /// EXEC ran the transaction: the values of its commands, or nil, as EXEC returned them.
    Executed(Value),
    /// No command ran.
    Aborted {
        /// The commands that were not queued, by their positions.
        commands: Vec<(usize, ServerError)>,
        exec: ServerError,
    },
    /// The commands did not run as one transaction, and the values cannot be assigned to them: the reason, and what
    /// to do.
    NotAtomic(String),
}

impl Transaction {
    pub(crate) fn read(mut replies: Vec<Value>) -> Self {
        let Some(exec) = replies.pop() else { return Self::NotAtomic("there were no replies".into()) };
        let [multi, replies @ ..] = replies.as_mut_slice() else {
            return Self::NotAtomic("MULTI got no reply".into());
        };
        let multi = std::mem::replace(multi, Value::Nil);
        let mut refused = Vec::new();
        for (index, reply) in replies.iter().enumerate() {
            match reply {
                Value::ServerError(error) => refused.push((index, error.clone())),
                reply if is_queued(reply) => {}
                _ => {
                    return Self::NotAtomic(format!(
                        "command {index} ran outside the transaction{}",
                        why(&multi)
                    ));
                }
            }
        }
        match (multi, exec) {
            (Value::Okay, Value::ServerError(exec)) => Self::Aborted { commands: refused, exec },
            // If MULTI was refused, each command ran by itself, unless it was refused too.
            (Value::ServerError(multi), Value::ServerError(_)) => {
                if let Some((index, error)) = refused.iter().find(|(_, error)| may_have_run(error)) {
                    let multi = why(&Value::ServerError(multi));
                    return Self::NotAtomic(format!(
                        "command {index} ran outside the transaction{multi}: {}",
                        printable_error(error)
                    ));
                }
                Self::Aborted { commands: Vec::new(), exec: multi }
            }
            (Value::Okay, exec) => executed(refused, replies.len(), exec),
            (multi, _) => Self::NotAtomic(format!(
                "EXEC ran commands that were queued before the pipeline{}; end a manual transaction with EXEC or DISCARD before \
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
            Transaction::NotAtomic(format!("EXEC returned {} values for {commands} commands", values.len()))
        }
        (Some((index, error)), Value::Nil | Value::Array(_)) => Transaction::NotAtomic(format!(
            "EXEC ran the transaction without command {index}, which was refused: {}",
            printable_error(&error)
        )),
        _ => Transaction::NotAtomic("EXEC returned neither an array nor nil".into()),
    }
}

/// Scripts may fail after a part of their work is done.
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
                ", since the user may not run MULTI: {}; allow it (ACL SETUSER <user> +multi)",
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

    fn not_atomic(replies: &[&str]) -> String {
        match read(replies) {
            Transaction::NotAtomic(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_only_for_their_own_commands() {
        let values = Value::Array(vec![Value::Int(1), Value::Int(2)]);
        assert_eq!(read(&["+OK", "+QUEUED", "+QUEUED", "*2\r\n:1\r\n:2"]), Transaction::Executed(values));
        assert_eq!(read(&["+OK", "+QUEUED", "*-1"]), Transaction::Executed(Value::Nil));
        assert_eq!(read(&["+OK", "*0"]), Transaction::Executed(Value::Array(Vec::new())));
        assert!(not_atomic(&["+OK", "+QUEUED", "*2\r\n:1\r\n:2"]).contains("2 values for 1 commands"));
        assert!(
            not_atomic(&["+OK", "-ERR WATCH inside MULTI", "+QUEUED", "*1\r\n:1"])
                .contains("WATCH inside MULTI")
        );
        assert!(
            not_atomic(&["-ERR nested", "+QUEUED", "*2\r\n:1\r\n:2"])
                .contains("since MULTI was refused: ERR nested")
        );
        assert!(not_atomic(&["-NOPERM no", ":1", "-ERR EXEC without MULTI"]).contains("command 0"));
        let script = "-ERR half way script: f_1, on @user_script:2.";
        assert!(
            not_atomic(&["-NOPERM no", "-WRONGTYPE no", script, "-ERR EXEC without MULTI"])
                .contains("command 1")
        );
        assert!(not_atomic(&["+QUEUED", "+QUEUED", "*1\r\n:1"]).contains("manual transaction"));
        assert!(not_atomic(&["+OK", "+QUEUED", ":1"]).contains("neither an array"));
        assert!(not_atomic(&[]).contains("no replies") && not_atomic(&["+OK"]).contains("MULTI"));
    }

    #[test]
    fn aborted_transaction_has_errors_of_all_commands() {
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
