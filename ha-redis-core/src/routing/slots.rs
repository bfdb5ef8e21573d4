//! The hash slots of a whole call: a command, a pipeline or a transaction.

use std::fmt;

use redis::Cmd;

use super::Slot;
use crate::command::{CommandKeys, keys};

/// The slots of the keys of one or more commands.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Slots<'a> {
    /// There are no keys: any node will do.
    None,
    /// All keys have this slot.
    One(Slot),
    /// The keys have different slots.
    Several(CrossSlot<'a>),
    /// The keys of this command are not known. The commands before it have at most one slot.
    Unknown(&'a Cmd),
}

/// Two keys with different slots, which one node may not have both.
#[derive(Clone, Copy, Debug)]
pub struct CrossSlot<'a> {
    keys: [(&'a [u8], Slot); 2],
}

impl<'a> Slots<'a> {
    /// Returns the slots of all commands. The channels of sharded Pub/Sub count like keys.
    pub fn of(commands: impl IntoIterator<Item = &'a Cmd>) -> Self {
        let mut first = None;
        for cmd in commands {
            let arguments = match keys(cmd) {
                CommandKeys::Unknown => return Self::Unknown(cmd),
                known => known.slot_arguments(),
            };
            for key in arguments.iter().flat_map(|keys| keys.iter()) {
                let slot = Slot::of(key);
                match first {
                    None => first = Some((key, slot)),
                    Some((_, same)) if same == slot => {}
                    Some(first) => return Self::Several(CrossSlot { keys: [first, (key, slot)] }),
                }
            }
        }
        first.map_or(Self::None, |(_, slot)| Self::One(slot))
    }
}

impl<'a> CrossSlot<'a> {
    /// Returns the first key, and the first one with another slot.
    pub fn keys(&self) -> [(&'a [u8], Slot); 2] {
        self.keys
    }
}

impl fmt::Display for CrossSlot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// What is shown of a key.
        const MAX_BYTES: usize = 64;
        let [(first, first_slot), (second, second_slot)] = self.keys;
        let [first, second] = [first, second].map(|key| {
            let more = if key.len() > MAX_BYTES { "…" } else { "" };
            format!("`{}{more}`", key[..key.len().min(MAX_BYTES)].escape_ascii())
        });
        write!(
            f,
            "the keys {first} (slot {first_slot}) and {second} (slot {second_slot}) have different slots"
        )
    }
}

#[cfg(test)]
mod tests {
    use redis::{Pipeline, cmd};

    use super::*;

    fn slots(pipeline: &Pipeline) -> Slots<'_> {
        Slots::of(pipeline.cmd_iter())
    }

    #[test]
    fn slots_of_calls() {
        let mut pipeline = redis::pipe();
        pipeline.cmd("PING");
        assert!(matches!(slots(&pipeline), Slots::None));
        pipeline.cmd("EVAL").arg("s").arg(0).arg("argument").mget(&["{foo}1", "{foo}2"]);
        pipeline.cmd("SPUBLISH").arg("foo").arg("message");
        assert!(matches!(slots(&pipeline), Slots::One(slot) if slot.number() == 12182));
        pipeline.get("bar");
        let Slots::Several(cross) = slots(&pipeline) else { panic!("two slots") };
        assert_eq!(
            cross.keys().map(|(key, slot)| (key, slot.number())),
            [(&b"{foo}1"[..], 12182), (b"bar", 5061)]
        );
        let text = cross.to_string();
        assert_eq!(text, "the keys `{foo}1` (slot 12182) and `bar` (slot 5061) have different slots");
    }

    #[test]
    fn unknown_command_stands_for_its_keys() {
        let mut pipeline = redis::pipe();
        pipeline.get("foo").cmd("NEWCOMMAND").arg("bar");
        let Slots::Unknown(cmd) = slots(&pipeline) else { panic!("unknown") };
        assert_eq!(cmd.args_iter().next(), Some(redis::Arg::Simple(&b"NEWCOMMAND"[..])));
    }

    #[test]
    fn keys_are_printed_escaped_and_cut() {
        let long = "x".repeat(100);
        let mget = cmd("MGET").arg("a\n\u{1b}").arg(&long).take();
        let Slots::Several(cross) = Slots::of([&mget]) else { panic!("two slots") };
        let text = cross.to_string();
        assert!(text.contains(r"`a\n\x1b`") && text.contains(&format!("`{}…`", &long[..64])), "{text}");
    }
}
