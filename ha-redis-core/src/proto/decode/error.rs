//! Why the decoder returns no value.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

use super::limits::OverLimit;

/// Why a [`Decoder`](super::Decoder) returns no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A reply or a push was skipped. The decoder continues after it.
    #[error(transparent)]
    Skipped(#[from] Skipped),
    /// The bytes are not RESP. Nothing after them can be decoded.
    #[error(transparent)]
    NotResp(#[from] NotResp),
}

/// What a server sends: the reply to a command, or a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incoming {
    /// The reply to a command.
    Reply,
    /// A push of RESP3.
    Push,
}

/// A reply or a push was skipped to its end without storing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{} was skipped: {}", .incoming.text(), .over.map_or_else(|| "nobody waited for it".to_owned(), |over| over.to_string()))]
pub struct Skipped {
    /// Whether a reply or a push was skipped.
    pub incoming: Incoming,
    /// The limit that it exceeds; `None` if nobody waited for it.
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
/// The message gives what was expected and what came instead, as an escaped excerpt of at most 32 characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid reply from the server: expected {expected}, got \"{found}\"")]
pub struct NotResp {
    expected: Cow<'static, str>,
    found: Excerpt,
}

impl NotResp {
    #[cold]
    pub(super) fn new(expected: impl Into<Cow<'static, str>>, found: impl Display) -> Self {
        Self { expected: expected.into(), found: Excerpt::of(found) }
    }

    /// Creates an error at the position `found` of the input, which may be long.
    #[cold]
    pub(super) fn at(expected: impl Into<Cow<'static, str>>, found: &[u8]) -> Self {
        Self::new(expected, found.escape_ascii())
    }
}

/// The first characters of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Excerpt(String);

impl Excerpt {
    const MAX_BYTES: usize = 32;

    fn of(text: impl Display) -> Self {
        let mut excerpt = Self::default();
        if write!(excerpt, "{text}").is_err() {
            excerpt.0.push('…');
        }
        excerpt
    }
}

impl fmt::Write for Excerpt {
    /// Fails when the excerpt is full, so that the rest of a long text is not even formatted.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.0.len() + character.len_utf8() > Self::MAX_BYTES {
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
pub(super) fn too_long(max: u64, found: impl Display) -> NotResp {
    NotResp::new(format!("at most {max} bytes in a string"), found)
}

#[cold]
pub(super) fn too_many_elements(max: u64, found: impl Display) -> NotResp {
    NotResp::new(format!("at most {max} elements in an aggregate"), found)
}
