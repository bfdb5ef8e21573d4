//! Splits a command's arguments into a prefix, one group per key, and a suffix.

use redis::Cmd;

use super::arguments;
use super::keys::{CommandKeys, KeyRange, keys};
use super::spec::{FindKeys, spec};

/// The arguments of a command whose keys are in one place, each with the same number of arguments.
#[derive(Debug)]
pub(crate) struct KeyGroups<'a> {
    cmd: &'a Cmd,
    arguments: Vec<&'a [u8]>,
    range: KeyRange,
    /// The argument before the first key is the number of keys.
    is_counted: bool,
}

/// Returns the groups, or `None` if the command has no keys, has them in several places, or if the last key lacks an
/// argument.
pub(crate) fn key_groups(cmd: &Cmd) -> Option<KeyGroups<'_>> {
    let (CommandKeys::Keys(keys), [spec]) = (keys(cmd), spec(cmd)?.keys) else { return None };
    let range = keys.first_range();
    let is_counted = matches!(spec.find, FindKeys::KeyNum { .. });
    let is_whole = range.len().is_multiple_of(range.step);
    is_whole.then(|| KeyGroups { cmd, arguments: arguments(cmd).collect(), range, is_counted })
}

impl<'a> KeyGroups<'a> {
    /// Returns the keys in their order.
    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.range.positions().map(|position| self.arguments[position])
    }

    /// Returns the command with these keys alone, given by their places among the keys.
    pub(crate) fn with_keys(&self, indices: &[usize]) -> Cmd {
        let KeyRange { start, end, step } = self.range;
        let mut before = self.arguments[..start].to_vec();
        let count = indices.len().to_string();
        if let (true, Some(number)) = (self.is_counted, before.last_mut()) {
            *number = count.as_bytes();
        }
        let groups = indices.iter().map(|index| start + index * step);
        let groups = groups.flat_map(|group| &self.arguments[group..group + step]);
        let mut cmd = Cmd::new();
        for argument in before.iter().chain(groups).chain(&self.arguments[end..]) {
            cmd.arg(*argument);
        }
        cmd.set_no_response(self.cmd.is_no_response());
        cmd
    }
}
