//! What a caller allows to run twice.

use std::fmt;
use std::str::FromStr;

use crate::config::ParseChoiceError;

/// Which commands may be sent again although they may have run: those whose reply was lost.
///
/// It is a setting of the client (`retry_safety`), and of a handle
/// ([`Connection::with_retry_safety`](crate::Connection::with_retry_safety)). Which command is which, by its options
/// too, is in [`command::safety`](crate::command::safety()). A transaction is never sent again once it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RetrySafety {
    /// Only commands that change nothing: `GET`, `HGETALL`, `SCAN`.
    ReadOnly,
    /// Also those that leave the state and give the reply of one run when they run again later: plain `SET`, `EXPIRE`
    /// by ten minutes or more.
    #[default]
    Repeatable,
    /// Every command and script. Whoever says so takes it that an `INCR` may count twice.
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
