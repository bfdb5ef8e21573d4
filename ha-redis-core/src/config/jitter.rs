//! How delays are spread at random.

use std::fmt;
use std::str::FromStr;

use crate::config::ParseChoiceError;

/// How delays are spread, so that clients that failed together do not come back together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// The delay plus up to a quarter of it.
    #[default]
    Added,
    /// Half the delay plus up to another half.
    Equal,
    /// A random time up to the delay.
    Full,
    /// The delay unchanged.
    None,
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Equal => "equal",
            Self::Full => "full",
            Self::None => "none",
        })
    }
}

impl FromStr for Jitter {
    type Err = ParseChoiceError;

    fn from_str(text: &str) -> Result<Self, ParseChoiceError> {
        let all = [Self::Added, Self::Equal, Self::Full, Self::None];
        all.into_iter().find(|jitter| jitter.to_string() == text).ok_or(ParseChoiceError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_round_trips() {
        for jitter in [Jitter::Added, Jitter::Equal, Jitter::Full, Jitter::None] {
            assert_eq!(jitter.to_string().parse(), Ok(jitter));
        }
        assert_eq!("some".parse::<Jitter>(), Err(ParseChoiceError));
    }
}
