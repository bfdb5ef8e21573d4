//! Splits a command by the slots of its keys, and puts the replies together.
//!
//! All arguments of a key stay with it: the value in `MSET`. What stands before the first key and after the last one
//! goes into each part, such as the path of `JSON.MGET` and the options of `MSETEX`, whose number of keys becomes that
//! of the part.

use std::collections::BTreeMap;

use redis::{Cmd, Value};

use super::Slot;
use crate::command::{NodeError, NodeReply, RequestPolicy, ResponsePolicy, aggregate, key_groups, policy};

/// A command that is split by the slots of its keys.
#[derive(Debug)]
pub struct Split {
    response: ResponsePolicy,
    keys: usize,
    parts: Vec<Part>,
}

/// The part of a command with the keys of one slot.
#[derive(Debug)]
pub struct Part {
    slot: Slot,
    command: Cmd,
    /// Which keys of the whole command it has.
    keys: Vec<usize>,
}

impl Part {
    /// Returns the slot of all keys of the part.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Returns the command with these keys alone.
    pub fn command(&self) -> &Cmd {
        &self.command
    }
}

impl Split {
    /// Splits a command, or returns `None` if its policy is another than [`RequestPolicy::MultiShard`], or if arguments
    /// are missing, so that each server would refuse the whole.
    pub fn of(cmd: &Cmd) -> Option<Self> {
        let policy = policy(cmd).filter(|policy| policy.request == RequestPolicy::MultiShard)?;
        let groups = key_groups(cmd)?;
        let mut keys_of_slots = BTreeMap::<Slot, Vec<usize>>::new();
        for (index, key) in groups.keys().enumerate() {
            keys_of_slots.entry(Slot::of(key)).or_default().push(index);
        }
        let part = |(slot, keys): (Slot, Vec<usize>)| Part { slot, command: groups.with_keys(&keys), keys };
        let parts = keys_of_slots.into_iter().map(part).collect();
        Some(Self { response: policy.response, keys: groups.keys().len(), parts })
    }

    /// Returns the parts, in the order of their slots.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Puts the replies to the parts together, given in the order of the parts.
    ///
    /// # Errors
    ///
    /// The first error among the replies, or a reply that does not fit the command. Other parts may have been applied.
    pub fn join(&self, replies: Vec<NodeReply>) -> Result<Value, NodeError> {
        if self.response != ResponsePolicy::KeyOrder {
            return aggregate(self.response, replies);
        }
        let mut elements = vec![Value::Nil; self.keys];
        for (part, reply) in self.parts.iter().zip(replies) {
            match reply.into_value()? {
                (_, Value::Array(values)) if values.len() == part.keys.len() => {
                    part.keys.iter().zip(values).for_each(|(index, value)| elements[*index] = value);
                }
                (node, other) => return Err(NodeError::unexpected(node, &other, "a value for each key")),
            }
        }
        Ok(Value::Array(elements))
    }
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;
    use crate::address::Address;
    use crate::command::command;

    /// The slots and commands of the parts. `a` has slot 15495, `b` 3300, `c` 7365.
    fn parts(text: &str) -> Vec<(u16, String)> {
        let Some(split) = Split::of(&command(text)) else { return Vec::new() };
        let text_of = |part: &Part| {
            let words = part.command().args_iter().map(|argument| match argument {
                redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                _ => panic!("a cursor"),
            });
            words.collect::<Vec<_>>().join(" ")
        };
        split.parts().iter().map(|part| (part.slot().number(), text_of(part))).collect()
    }

    fn join(text: &str, replies: &[&str]) -> Result<Value, NodeError> {
        let reply = |text: &&str| parse_redis_value(text.replace(' ', "\r\n").as_bytes()).unwrap();
        let replies = replies.iter().zip(1..);
        let replies = replies.map(|(text, port)| NodeReply::new(Address::tcp("node", port), Ok(reply(text))));
        Split::of(&command(text)).unwrap().join(replies.collect())
    }

    #[test]
    fn parts_have_the_keys_of_a_slot_with_their_arguments() {
        for (text, expected) in [
            ("DEL a b {a}2", &[(3300, "DEL b"), (15495, "DEL a {a}2")][..]),
            ("mget a", &[(15495, "mget a")]),
            ("MSET a 1 b 2 {a} 3", &[(3300, "MSET b 2"), (15495, "MSET a 1 {a} 3")]),
            (
                "MSETEX 3 a 1 b 2 {b} 3 EX 5",
                &[(3300, "MSETEX 2 b 2 {b} 3 EX 5"), (15495, "MSETEX 1 a 1 EX 5")],
            ),
            ("JSON.MGET a b $.x", &[(3300, "JSON.MGET b $.x"), (15495, "JSON.MGET a $.x")]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(slot, text)| (*slot, (*text).to_owned())).collect();
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_split() {
        for text in ["MSET a 1 b", "MSET", "DEL", "MSETNX a 1 b 2", "MSETEX 2 a 1 b 2 NX", "MSETEX 2 a 1 b"] {
            assert_eq!(parts(text), [], "{text}");
        }
        for text in ["SINTER a b", "RENAME a b", "GET a", "PING", "NEWCOMMAND a b", "JSON.MSET a $ 1 b $ 2"] {
            assert_eq!(parts(text), [], "{text}");
        }
    }

    #[test]
    fn parts_of_a_command_without_response_have_none() {
        let mut cmd = command("DEL a b");
        cmd.set_no_response(true);
        let split = Split::of(&cmd).unwrap();
        assert!(split.parts().iter().all(|part| part.command().is_no_response()));
    }

    #[test]
    fn values_return_to_the_places_of_their_keys() {
        // The parts are b, c, and a with its tag.
        let joined = join("MGET a b {a} c b", &["*2 :2 :5 ", "*1 :4 ", "*2 :1 $-1 "]).unwrap();
        let expected = [Value::Int(1), Value::Int(2), Value::Nil, Value::Int(4), Value::Int(5)];
        assert_eq!(joined, Value::Array(expected.to_vec()));
    }

    #[test]
    fn replies_to_parts_are_joined() {
        assert_eq!(join("DEL a b c", &[":1 ", ":0 ", ":1 "]).unwrap(), Value::Int(2));
        assert_eq!(join("MSET a 1 b 2", &["+OK ", "+OK "]).unwrap(), Value::Okay);
        assert_eq!(join("MSETEX 2 a 1 b 2", &[":1 ", ":1 "]).unwrap(), Value::Int(1));
    }

    #[test]
    fn error_of_a_part_names_its_node() {
        for (text, replies) in [
            ("MGET a b", ["*1 :1 ", "-MOVED 15495 node:3 "]),
            ("MGET a b", ["*1 :1 ", "*2 :1 :2 "]),
            ("MGET a b", ["*1 :1 ", "+OK "]),
            ("MSET a 1 b 2", ["+OK ", "-OOM full "]),
        ] {
            assert_eq!(join(text, &replies).unwrap_err().node(), &Address::tcp("node", 2), "{text}");
        }
    }
}
