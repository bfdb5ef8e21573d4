//! Which commands may be retried after they may have run.

use std::fmt;
use std::str::FromStr;

use crate::config::ParseChoiceError;

/// Which commands may be sent again after their reply was lost, although they may have run.
///
/// This is a setting of the client (`retry_safety`) and of a handle
/// ([`Connection::with_retry_safety`](crate::Connection::with_retry_safety)).
/// [`command::safety`](crate::command::safety()) classifies commands, including their options. A transaction is never
/// sent again once it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RetrySafety {
    /// Only commands that change nothing: `GET`, `HGETALL`, `SCAN`.
    ReadOnly,
    /// Also commands that give the same state and reply when they run again later: plain `SET`, `EXPIRE` by ten
    /// minutes or more.
    #[default]
    Repeatable,
    /// Every command and script. With this setting an `INCR` may count twice.
    Anything,
}

impl fmt::Display for RetrySafety {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::Repeatable => "repeatable",
            Self::Anything => "anything",
        })
    }
}

impl FromStr for RetrySafety {
    type Err = ParseChoiceError;

    fn from_str(text: &str) -> Result<Self, ParseChoiceError> {
        let all = [Self::ReadOnly, Self::Repeatable, Self::Anything];
        all.into_iter().find(|safety| safety.to_string() == text).ok_or(ParseChoiceError)
    }
}
