//! The version of TLS.

use std::fmt;
use std::str::FromStr;

use crate::config::ParseChoiceError;

/// A version of TLS: the settings `ssl_min_version` and `sentinel_ssl_min_version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        })
    }
}

/// Reads what `Display` writes, and `TLSv1.2` and `TLSv1.3` as in redis.conf.
impl FromStr for TlsVersion {
    type Err = ParseChoiceError;

    fn from_str(text: &str) -> Result<Self, ParseChoiceError> {
        match text {
            "1.2" | "TLSv1.2" => Ok(Self::Tls12),
            "1.3" | "TLSv1.3" => Ok(Self::Tls13),
            _ => Err(ParseChoiceError),
        }
    }
}
