//! The version of the Redis protocol.

use std::fmt;
use std::str::FromStr;

use crate::config::ParseChoiceError;

/// The version of the Redis protocol that connections use: the setting `protocol`.
///
/// It determines the types of replies: with RESP3 `HGETALL` returns a [`redis::Value::Map`] and `ZSCORE` a
/// [`redis::Value::Double`], with RESP2 an array and a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// RESP3, or RESP2 with a server or proxy that refuses `HELLO`.
    #[default]
    Auto,
    /// RESP3, or an error if the server refuses it.
    Resp3,
    /// RESP2; `HELLO` is not sent.
    Resp2,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Resp3 => "resp3",
            Self::Resp2 => "resp2",
        })
    }
}

/// Reads what `Display` writes, and `3` and `2` as in the URLs of redis-rs.
impl FromStr for Protocol {
    type Err = ParseChoiceError;

    fn from_str(text: &str) -> Result<Self, ParseChoiceError> {
        match text {
            "auto" => Ok(Self::Auto),
            "resp3" | "3" => Ok(Self::Resp3),
            "resp2" | "2" => Ok(Self::Resp2),
            _ => Err(ParseChoiceError),
        }
    }
}
