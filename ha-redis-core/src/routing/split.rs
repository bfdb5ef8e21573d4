//! Splits a command by the slots of its keys, and puts the replies together.
//!
//! All arguments of a key stay with it: the value in `MSET`. What stands before the first key and after the last one
//! goes into each part, such as the path of `JSON.MGET` and the options of `MSETEX`, whose number of keys becomes that
//! of the part.
//!
//! Splitting gives up that the command runs at one moment, and as a whole: see [`Split`].

use std::collections::BTreeMap;

use redis::{Cmd, Value};

use super::Slot;
use crate::address::Address;
use crate::command::{
    NodeError, NodeReply, Replies, RequestPolicy, ResponsePolicy, is_read, key_groups, merge, policy,
};
use crate::error::Outcome;

/// A command that is split by the slots of its keys, into two parts or more.
///
/// The parts run at different moments. So the values of `MGET` and `EXISTS` are no snapshot, and the writes of others may
/// come in between. `DEL`, `UNLINK`, `TOUCH`, `MSET` and `MSETEX` may run in part: some keys are changed although
/// the command fails.
#[derive(Clone, Debug)]
pub struct Split {
    response: ResponsePolicy,
    is_read: bool,
    keys: usize,
    parts: Vec<SplitPart>,
}

/// The part of a command with the keys of one slot.
#[derive(Clone, Debug)]
pub struct SplitPart {
    slot: Slot,
    command: Cmd,
    /// Which keys of the whole command it has.
    keys: Vec<usize>,
}

impl SplitPart {
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
    /// Splits a command. Returns `None` if it goes to one node as it is: all keys have the same slot, its policy is
    /// another than [`RequestPolicy::MultiShard`], or arguments are missing, so that any server would reject it.
    pub fn of(cmd: &Cmd) -> Option<Self> {
        let policy = policy(cmd).filter(|policy| policy.request == RequestPolicy::MultiShard)?;
        let groups = key_groups(cmd)?;
        let mut keys_of_slots = BTreeMap::<Slot, Vec<usize>>::new();
        for (index, key) in groups.keys().enumerate() {
            keys_of_slots.entry(Slot::of(key)).or_default().push(index);
        }
        if keys_of_slots.len() < 2 {
            return None;
        }
        let part =
            |(slot, keys): (Slot, Vec<usize>)| SplitPart { slot, command: groups.with_keys(&keys), keys };
        let parts = keys_of_slots.into_iter().map(part).collect();
        Some(Self { response: policy.response, is_read: is_read(cmd), keys: groups.keys().len(), parts })
    }

    /// Returns the parts, in the order of their slots.
    pub fn parts(&self) -> &[SplitPart] {
        &self.parts
    }

    /// Puts the replies to the parts together, given in the order of the parts.
    ///
    /// # Errors
    ///
    /// An error among the replies, with the outcome of the whole command: [`Outcome::Ran`] if another part ran,
    /// [`Outcome::MaybeApplied`] if any part is in doubt. Or a reply that does not fit the command, or another number of
    /// replies than of parts.
    pub fn join(&self, replies: Vec<NodeReply>) -> Result<Value, NodeError> {
        if replies.len() != self.parts.len() {
            let message = format!("{} replies to a command of {} parts", replies.len(), self.parts.len());
            return Err(NodeError::misused(message, Outcome::MaybeApplied));
        }
        let replies = Replies::new(self.is_read, replies);
        match self.response {
            ResponsePolicy::KeyOrder => self.in_key_order(replies.all()?),
            response => merge(response, replies),
        }
    }

    fn in_key_order(&self, replies: Vec<(Address, Value)>) -> Result<Value, NodeError> {
        let mut elements = vec![Value::Nil; self.keys];
        for (part, reply) in self.parts.iter().zip(replies) {
            match reply {
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
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;
    use redis::parse_redis_value;

    use super::*;
    use crate::command::command;
    use crate::error::{Error, Kind};
    use crate::proto::written::hostile_bytes;

    /// The slots and commands of the parts. `a` has slot 15495, `b` 3300, `c` 7365.
    fn parts(text: &str) -> Vec<(u16, String)> {
        let Some(split) = Split::of(&command(text)) else { return Vec::new() };
        let text_of = |part: &SplitPart| {
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
            ("mget a b", &[(3300, "mget b"), (15495, "mget a")]),
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
        for text in ["MGET a", "DEL a {a}2 a", "MSET a 1 {a} 2", "MSETEX 2 a 1 {a} 2"] {
            assert_eq!(parts(text), [], "{text} has one slot");
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
            assert_eq!(join(text, &replies).unwrap_err().node(), Some(&Address::tcp("node", 2)), "{text}");
        }
    }

    #[test]
    fn failed_part_has_outcome_of_whole_command() {
        for (text, replies, outcome) in [
            ("MSET a 1 b 2", ["+OK ", "-OOM full "], Outcome::Ran),
            ("MSET a 1 b 2", ["-OOM full ", "+OK "], Outcome::Ran),
            ("MSET a 1 b 2", ["-OOM full ", "-OOM full "], Outcome::NotApplied),
            ("DEL a b", [":1 ", "-READONLY no "], Outcome::Ran),
            ("MGET a b", ["*1 :1 ", "-LOADING it "], Outcome::NotApplied),
        ] {
            assert_eq!(join(text, &replies).unwrap_err().error().outcome(), outcome, "{text}: {replies:?}");
        }
        let split = Split::of(&command("MSET a 1 b 2")).unwrap();
        let replies = [
            Ok(parse_redis_value(b"-OOM full\r\n").unwrap()),
            Err(Error::new(Kind::Lost, "lost").with_outcome(Outcome::MaybeApplied)),
        ];
        let replies = replies.map(|reply| NodeReply::new(Address::tcp("node", 1), reply));
        assert_eq!(split.join(replies.into()).unwrap_err().error().outcome(), Outcome::MaybeApplied);
    }

    #[test]
    fn each_part_needs_its_reply() {
        for (text, replies) in [
            ("MGET a b", &["*1 :1 "][..]),
            ("MGET a b", &["*1 :1 ", "*1 :2 ", "*1 :3 "]),
            ("DEL a b", &[":1 "]),
            ("DEL a b", &[":1 ", ":1 ", ":1 "]),
            ("MSET a 1 b 2", &[]),
        ] {
            let error = join(text, replies).unwrap_err();
            assert_eq!(error.error().outcome(), Outcome::MaybeApplied, "{text}: {replies:?}");
            assert!(error.to_string().contains("replies to a command of 2 parts"), "{error}");
        }
    }

    type Data = HashMap<Vec<u8>, Vec<u8>>;

    /// Runs a command as a server does.
    fn run(cmd: &Cmd, data: &mut Data) -> Value {
        let args: Vec<_> = cmd
            .args_iter()
            .map(|argument| match argument {
                redis::Arg::Simple(bytes) => bytes.to_vec(),
                _ => panic!("a cursor"),
            })
            .collect();
        let set = |data: &mut Data, pairs: &[Vec<u8>]| {
            pairs.chunks(2).for_each(|pair| _ = data.insert(pair[0].clone(), pair[1].clone()));
        };
        let value = |key: &Vec<u8>, data: &Data| data.get(key).cloned().map_or(Value::Nil, Value::BulkString);
        match &args[0][..] {
            b"MGET" => Value::Array(args[1..].iter().map(|key| value(key, data)).collect()),
            b"DEL" => Value::Int(args[1..].iter().map(|key| i64::from(data.remove(key).is_some())).sum()),
            b"MSET" => {
                set(data, &args[1..]);
                Value::Okay
            }
            b"MSETEX" => {
                let keys: usize = std::str::from_utf8(&args[1]).unwrap().parse().unwrap();
                assert_eq!(args[2 + 2 * keys..], [b"EX".to_vec(), b"5".to_vec()]);
                set(data, &args[2..2 + 2 * keys]);
                Value::Int(1)
            }
            other => panic!("{other:?}"),
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        let few = prop::sample::select(&["a", "b", "c", "{a}b", "{b}a", ""][..]);
        prop_oneof![2 => few.prop_map(|key| key.as_bytes().to_vec()), 1 => hostile_bytes()]
    }

    proptest! {
        #[test]
        fn joined_parts_are_the_command(
            name in prop::sample::select(&["MGET", "DEL", "MSET", "MSETEX"][..]),
            groups in prop::collection::vec((key(), hostile_bytes()), 1..9),
            existing in prop::collection::vec((key(), hostile_bytes()), 0..9),
        ) {
            let mut cmd = redis::cmd(name);
            if name == "MSETEX" {
                cmd.arg(groups.len());
            }
            for (key, value) in &groups {
                cmd.arg(&key[..]);
                if name.starts_with("MSET") {
                    cmd.arg(&value[..]);
                }
            }
            if name == "MSETEX" {
                cmd.arg("EX").arg(5);
            }
            let mut whole: Data = existing.into_iter().chain(groups.first().cloned()).collect();
            let mut in_parts = whole.clone();
            let slots: BTreeSet<_> = groups.iter().map(|(key, _)| Slot::of(key)).collect();
            let split = Split::of(&cmd);
            prop_assert_eq!(split.as_ref().map_or(1, |split| split.parts().len()), slots.len());
            if let Some(split) = split {
                // The order in which the parts run does not matter.
                let mut replies: Vec<_> = split.parts().iter().rev().map(|part| {
                    let reply = run(part.command(), &mut in_parts);
                    NodeReply::new(Address::tcp("node", part.slot().number()), Ok(reply))
                }).collect();
                replies.reverse();
                let expected = run(&cmd, &mut whole);
                prop_assert_eq!(split.join(replies).unwrap(), expected);
                prop_assert_eq!(in_parts, whole);
            }
        }
    }
}
