//! Finds the keys of a command among its arguments.
//!
//! The facts are in the table of [`spec`](super::spec). Nothing here allocates: a key is looked up before each call of a
//! client with several shards. Arguments that a server would reject have no keys here, such as a number of keys that is
//! none: any server replies with the error.

use redis::Cmd;

use super::spec::{BeginSearch, FindKeys, KeySpec, Keyword, spec};
use super::{arguments, number, upper};

/// Which arguments of a command determine its hash slot.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum CommandKeys<'a> {
    /// These are keys.
    Keys(Keys<'a>),
    /// Not keys, but hashed like keys: the channels of `SPUBLISH` and `SSUBSCRIBE`, and the cursor of `CLUSTERSCAN`.
    NotKeys(Keys<'a>),
    /// There are none: any slot will do. Keys may be missing if a server would reject the command.
    Keyless,
    /// The command, or its subcommand, is not in the table. A server's `COMMAND GETKEYS` returns its keys.
    Unknown,
}

impl<'a> CommandKeys<'a> {
    /// Returns the arguments that determine the slot, whether they are keys or not.
    pub fn slot_arguments(self) -> Option<Keys<'a>> {
        match self {
            Self::Keys(keys) | Self::NotKeys(keys) => Some(keys),
            Self::Keyless | Self::Unknown => None,
        }
    }
}

/// The keys of a command, at least one.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    cmd: &'a Cmd,
    /// No command has keys in more than two places.
    ranges: [KeyRange; 2],
}

/// Every `step`-th argument from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) step: usize,
}

const EMPTY: KeyRange = KeyRange { start: 0, end: 0, step: 1 };

/// Returns the keys of `cmd`.
///
/// ```
/// use ha_redis_core::command::{CommandKeys, keys};
/// use ha_redis_core::redis::cmd;
///
/// let eval = cmd("EVAL").arg("return 1").arg(2).arg("a").arg("b").arg("c").take();
/// let CommandKeys::Keys(keys_of_eval) = keys(&eval) else { panic!("EVAL has keys") };
/// assert_eq!(keys_of_eval.iter().collect::<Vec<_>>(), [b"a", b"b"]);
/// assert!(matches!(keys(&cmd("PING")), CommandKeys::Keyless));
/// assert!(matches!(keys(&cmd("NEWCOMMAND")), CommandKeys::Unknown));
/// ```
pub fn keys(cmd: &Cmd) -> CommandKeys<'_> {
    let Some(spec) = spec(cmd) else { return CommandKeys::Unknown };
    match find(cmd, spec.keys) {
        Ok(ranges) if ranges[0] != EMPTY => {
            let keys = Keys { cmd, ranges };
            if spec.keys[0].is_not_key { CommandKeys::NotKeys(keys) } else { CommandKeys::Keys(keys) }
        }
        _ => CommandKeys::Keyless,
    }
}

impl<'a> Keys<'a> {
    /// Returns the keys in the order of the arguments.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let ranges = self.ranges;
        let end = ranges[0].end.max(ranges[1].end);
        // Only keys are looked at in a command with one key and many values.
        let arguments = arguments(self.cmd).enumerate().take(end);
        arguments
            .filter(move |(position, _)| ranges.iter().any(|range| range.contains(*position)))
            .map(|(_, argument)| argument)
    }

    /// Returns the first key.
    pub fn first(&self) -> &'a [u8] {
        arguments(self.cmd).nth(self.ranges[0].start).unwrap_or_default()
    }

    /// Returns where the keys are among the arguments, the name of the command being at 0.
    pub fn positions(&self) -> impl Iterator<Item = usize> + use<> {
        let [first, second] = self.ranges;
        first.positions().chain(second.positions())
    }

    pub(super) fn first_range(&self) -> KeyRange {
        self.ranges[0]
    }
}

impl KeyRange {
    fn one(position: usize) -> Self {
        Self { start: position, end: position + 1, step: 1 }
    }

    fn contains(self, position: usize) -> bool {
        (self.start..self.end).contains(&position) && (position - self.start).is_multiple_of(self.step)
    }

    pub(super) fn len(self) -> usize {
        self.end - self.start
    }

    pub(super) fn positions(self) -> impl ExactSizeIterator<Item = usize> {
        (self.start..self.end).step_by(self.step)
    }
}

/// A server would reject these arguments.
struct Malformed;

fn find(cmd: &Cmd, specs: &[KeySpec]) -> Result<[KeyRange; 2], Malformed> {
    let mut ranges = [EMPTY; 2];
    let mut found = 0;
    for spec in specs {
        let begin = match spec.begin {
            BeginSearch::Index(index) => Some(index),
            BeginSearch::Keyword(keyword) => keyword.find(cmd),
        };
        let Some(begin) = begin else { continue };
        let Some(range) = spec.find.range(cmd, begin)? else { continue };
        if spec.is_instead {
            (ranges, found) = ([EMPTY; 2], 0);
        }
        ranges[found] = range;
        found += 1;
    }
    Ok(ranges)
}

impl Keyword {
    /// Returns the position behind the keyword.
    fn find(&self, cmd: &Cmd) -> Option<usize> {
        let mut args = arguments(cmd).enumerate().skip(self.from);
        let mut found = None;
        while let Some((position, word)) = args.next() {
            let word = upper(word);
            if self.words.contains(&&*word) {
                found = Some(position + 1);
                if !self.is_repeatable {
                    break;
                }
                args.next();
            } else if let Some((_, values)) = self.options.iter().find(|(option, _)| *option == &*word) {
                args.by_ref().take(*values).for_each(drop);
            }
        }
        found
    }
}

impl FindKeys {
    /// Returns the range that begins at `begin`, unless nothing is there.
    fn range(&self, cmd: &Cmd, begin: usize) -> Result<Option<KeyRange>, Malformed> {
        let count = cmd.args_iter().len();
        let range = match *self {
            Self::Range { last: None, .. } => KeyRange::one(begin),
            Self::Range { last: Some(last), step } => {
                // A position, or one from the end.
                let last = usize::try_from(last).ok().or_else(|| count.checked_add_signed(last));
                KeyRange { start: begin, end: last.map_or(0, |last| last + 1), step }
            }
            Self::FirstHalf => {
                let rest = count.saturating_sub(begin);
                if !rest.is_multiple_of(2) {
                    return Err(Malformed);
                }
                KeyRange { start: begin, end: begin + rest / 2, step: 1 }
            }
            Self::KeyNum { step } => {
                let keys = arguments(cmd).nth(begin).and_then(key_number).ok_or(Malformed)?;
                let start = begin + 1;
                if keys > (count - start) / step {
                    return Err(Malformed);
                }
                KeyRange { start, end: start + keys * step, step }
            }
        };
        Ok((range.start < range.end && range.end <= count).then_some(range))
    }
}

/// Parses a number of keys. Only scripts may have none, and then no other keys either.
fn key_number(argument: &[u8]) -> Option<usize> {
    // Unlike servers, `parse` reads a plus sign and leading zeros.
    let is_plain = argument.iter().all(u8::is_ascii_digit) && !argument.starts_with(b"0");
    number(Some(argument)).filter(|_| is_plain)
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
