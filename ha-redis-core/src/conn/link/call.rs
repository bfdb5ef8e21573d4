//! A caller's command or pipeline, and how it is encoded.

use redis::{Cmd, Pipeline};

use crate::command::{Safety, is_read, keys, pipeline_safety, reads_from_now_on, safety};
use crate::proto::{self, Shape};

/// The largest call that is encoded under the lock, in bytes and in commands of a pipeline.
pub(super) const MAX_SMALL_BYTES: usize = 64 << 10;
const MAX_SMALL_COMMANDS: usize = 256;

/// A command or a pipeline.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
}

impl Call<'_> {
    pub(super) fn shape(self) -> Shape {
        let commands = |pipeline: &Pipeline| u32::try_from(pipeline.len()).unwrap_or(u32::MAX - 2);
        match self {
            Self::Command(_) => Shape::One,
            Self::Pipeline(pipeline) if pipeline.is_transaction() => Shape::Atomic(commands(pipeline) + 2),
            Self::Pipeline(pipeline) => Shape::Many(commands(pipeline)),
        }
    }

    /// Returns true if the caller continues once the call is staged, and its reply is dropped. A pipeline ignores the
    /// mark of its commands.
    pub(crate) fn is_no_response(self) -> bool {
        matches!(self, Self::Command(command) if command.is_no_response())
    }

    /// Returns the key that determines the shard: the first one, or the first channel of sharded Pub/Sub. `None` if any
    /// shard will do, or if the command is unknown. A client of one shard does not call this.
    pub(crate) fn routing_key<'b>(&'b self) -> Option<&'b [u8]> {
        let first = |command: &'b Cmd| Some(keys(command).slot_arguments()?.first());
        match *self {
            Self::Command(command) => first(command),
            Self::Pipeline(pipeline) => pipeline.cmd_iter().find_map(first),
        }
    }

    pub(crate) fn safety(self) -> Safety {
        match self {
            Self::Command(command) => safety(command),
            Self::Pipeline(pipeline) => pipeline_safety(pipeline),
        }
    }

    /// Returns true if the call is known to change nothing. Transactions are not examined.
    pub(crate) fn is_read(self) -> bool {
        match self {
            Self::Command(command) => is_read(command),
            Self::Pipeline(pipeline) => !pipeline.is_transaction() && pipeline.cmd_iter().all(is_read),
        }
    }

    /// Returns true if the call waits for entries that are added after it starts: see [`reads_from_now_on`].
    pub(crate) fn reads_from_now_on(self) -> bool {
        match self {
            Self::Command(command) => reads_from_now_on(command),
            Self::Pipeline(pipeline) => pipeline.cmd_iter().any(reads_from_now_on),
        }
    }

    /// Appends the encoded call to `out` unless it is large. If it is large, returns false and leaves `out`
    /// unchanged.
    #[inline]
    pub(super) fn encode_small(self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let is_short = match self {
            Self::Command(_) => true,
            Self::Pipeline(pipeline) => pipeline.len() <= MAX_SMALL_COMMANDS,
        };
        let is_small = is_short && self.encode(out, before + MAX_SMALL_BYTES);
        if !is_small {
            out.truncate(before);
        }
        is_small
    }

    pub(super) fn encoded(self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out, usize::MAX);
        out
    }

    /// Appends the encoded call to `out`. Returns false if `out` would become longer than `end`.
    fn encode(self, out: &mut Vec<u8>, end: usize) -> bool {
        match self {
            Self::Command(command) => proto::encode(command, out, end),
            Self::Pipeline(pipeline) => {
                if pipeline.is_transaction() {
                    out.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n");
                }
                let fits = pipeline.cmd_iter().all(|command| proto::encode(command, out, end));
                if pipeline.is_transaction() {
                    out.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
                }
                fits
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::written::{args, commands_in, hostile_bytes};

    proptest! {
        #[test]
        fn any_argument_of_a_pipeline_stays_in_its_place(
            keys in prop::collection::vec((hostile_bytes(), hostile_bytes()), 1..5),
            atomic in any::<bool>(),
        ) {
            let mut pipeline = redis::pipe();
            keys.iter().for_each(|(key, value)| _ = pipeline.set(key.as_slice(), value.as_slice()));
            let mut expected: Vec<_> = keys.iter().map(|(key, value)| args([b"SET", &key[..], value])).collect();
            if atomic {
                pipeline.atomic();
                expected.insert(0, args(["MULTI"]));
                expected.push(args(["EXEC"]));
            }
            prop_assert_eq!(commands_in(&Call::Pipeline(&pipeline).encoded()), expected.clone());
            let mut small = Vec::new();
            prop_assert!(Call::Pipeline(&pipeline).encode_small(&mut small));
            prop_assert_eq!(commands_in(&small), expected);
        }
    }
}
