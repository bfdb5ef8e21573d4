//! Classifies Redis commands before they are sent: whether one may run twice, and where it may run.
//!
//! All of it follows from the command alone, without a server. [`safety()`] is needed when a reply was lost,
//! [`placement()`] for every call.
//!
//! `tables/commands.rs` is our table of commands: their keys, and the nodes that they are for. The other files are for
//! tests. `key_samples.txt` has calls with their keys. `redis-7.0.txt`, `redis-8.10.txt` (with its modules) and
//! `valkey-9.1.txt` have the names and flags of the servers' own command tables, which tests compare with ours. With a
//! running server of the wanted version, this command updates one of these:
//!
//! ```sh
//! redis-cli --json COMMAND \
//!   | jq -r '.[] | (., .[9][]) | [.[0], (.[2][] | select(IN("readonly", "write", "blocking")))] | join(" ")' \
//!   | LC_ALL=C sort > tables/redis-8.10.txt
//! ```
//!
//! The files `src/commands/*.json` in a server's source have the same names and flags.

// `keys`, `policy` and `aggregate` are for several shards, which the client does not support yet. They are public only for
// the tests of the testkit.
mod aggregate;
mod key_groups;
mod keys;
mod options;
mod placement;
mod policy;
mod replica;
mod safety;
mod scan;
mod spec;
#[cfg(test)]
mod tables;
mod timeout;

use std::ops::Deref;

use redis::{Arg, Cmd};

#[doc(hidden)]
pub use aggregate::{NodeError, NodeReply, aggregate};
pub(crate) use aggregate::{Replies, merge};
pub(crate) use key_groups::key_groups;
#[doc(hidden)]
pub use keys::{CommandKeys, Keys, keys};
pub use placement::{
    Placement, Refusal, pipeline_placement, pipeline_placement_on_dedicated, placement,
    placement_on_dedicated,
};
#[doc(hidden)]
pub use policy::{RequestPolicy, ResponsePolicy, RoutingPolicy, policy};
pub use replica::is_replica_read;
pub(crate) use replica::name;
pub use safety::{Safety, pipeline_safety, safety};
pub(crate) use safety::{is_read, reads_from_now_on};
pub(crate) use scan::{Scan, ScanStep, scan_step};
pub(crate) use timeout::with_time_left;

/// The arguments of a command, or the rest of them.
trait Args<'a>: Iterator<Item = &'a [u8]> + Clone {}

impl<'a, T: Iterator<Item = &'a [u8]> + Clone> Args<'a> for T {}

/// Returns the command's name and its arguments. The cursor of a scan becomes an empty argument, since no option is
/// empty.
fn arguments(cmd: &Cmd) -> impl Args<'_> {
    cmd.args_iter().map(|argument| match argument {
        Arg::Simple(bytes) => bytes,
        _ => b"",
    })
}

/// The longest name or option in the tables, `TIMESERIES.REFRESHCLUSTER`, has 25 letters.
const MAX_WORD_LENGTH: usize = 25;

/// A name or an option in upper case, on the stack. A word that is longer than any in the tables becomes empty.
struct Upper {
    letters: [u8; MAX_WORD_LENGTH],
    length: usize,
}

fn upper(word: &[u8]) -> Upper {
    let mut letters = [0; MAX_WORD_LENGTH];
    let length = if word.len() <= MAX_WORD_LENGTH { word.len() } else { 0 };
    for (letter, byte) in letters.iter_mut().zip(&word[..length]) {
        *letter = byte.to_ascii_uppercase();
    }
    Upper { letters, length }
}

impl Deref for Upper {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.letters[..self.length]
    }
}

/// Parses an argument as a number, if the server would parse one there too.
fn number<T: std::str::FromStr>(argument: Option<&[u8]>) -> Option<T> {
    std::str::from_utf8(argument?).ok()?.parse().ok()
}

#[cfg(test)]
pub(crate) fn command(text: &str) -> Cmd {
    let mut cmd = Cmd::new();
    for word in text.split_whitespace() {
        cmd.arg(word);
    }
    cmd
}
