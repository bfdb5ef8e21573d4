//! What comes in place of a value.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

use super::limits::OverLimit;

/// Why a [`Decoder`](super::Decoder) returns no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A reply or a push was read over. The decoder goes on with what comes behind it.
    #[error(transparent)]
    Skipped(#[from] Skipped),
    /// The bytes are not RESP. Nothing that comes behind them can be understood.
    #[error(transparent)]
    NotResp(#[from] NotResp),
}

/// What a server may send: the answer to a command, or something that it says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incoming {
    /// The reply to a command.
    Reply,
    /// A push, of RESP3.
    Push,
}

/// A reply or a push was read over to its end, and nothing of it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{} was read over: {}", .incoming.text(), .over.map_or_else(|| "nobody waited for it".to_owned(), |over| over.to_string()))]
pub struct Skipped {
    /// Which of the two it was.
    pub incoming: Incoming,
    /// The limit that it is over; `None` when nobody waited for it.
    pub over: Option<OverLimit>,
}

impl Incoming {
    fn text(self) -> &'static str {
        match self {
            Self::Reply => "a reply",
            Self::Push => "a push",
        }
    }
}

/// The bytes of a connection are not RESP.
///
/// Its text says what was expected and what came instead, as an escaped excerpt of at most 32 characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's reply cannot be understood: expected {expected}, got \"{found}\"")]
pub struct NotResp {
    expected: Cow<'static, str>,
    found: Excerpt,
}

impl NotResp {
    #[cold]
    pub(super) fn new(expected: impl Into<Cow<'static, str>>, found: impl Display) -> Self {
        Self { expected: expected.into(), found: Excerpt::of(found) }
    }

    /// `found` is where the bytes go wrong; it may be long.
    #[cold]
    pub(super) fn at(expected: impl Into<Cow<'static, str>>, found: &[u8]) -> Self {
        Self::new(expected, found.escape_ascii())
    }
}

/// The first characters of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Excerpt(String);

impl Excerpt {
    const LONGEST: usize = 32;

    fn of(text: impl Display) -> Self {
        let mut excerpt = Self::default();
        if write!(excerpt, "{text}").is_err() {
            excerpt.0.push('…');
        }
        excerpt
    }
}

impl fmt::Write for Excerpt {
    /// Fails when the excerpt is full, so that no more of a long text is even formatted.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.len() + character.len_utf8() > Self::LONGEST {
                return Err(fmt::Error);
            }
            self.0.push(character);
        }
        Ok(())
    }
}

impl Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cold]
pub(super) fn too_long(most: u64, found: impl Display) -> NotResp {
    NotResp::new(format!("at most {most} bytes in a string"), found)
}

#[cold]
pub(super) fn too_many_elements(most: u64, found: impl Display) -> NotResp {
    NotResp::new(format!("at most {most} elements in an aggregate"), found)
}
