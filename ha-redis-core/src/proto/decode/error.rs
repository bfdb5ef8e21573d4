//! What is wrong with the bytes.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};

use super::Limits;

/// The bytes of a connection are not RESP, or exceed one of the decoder's limits.
///
/// Its text says what was expected and what came instead, as an escaped excerpt of at most 32 characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's reply cannot be understood: expected {expected}, got \"{found}\"")]
pub struct DecodeError {
    expected: Cow<'static, str>,
    found: Excerpt,
}

impl DecodeError {
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
pub(super) fn too_long(max: usize, found: impl Display) -> DecodeError {
    DecodeError::new(format!("at most {max} bytes in a string"), found)
}

#[cold]
pub(super) fn too_many_elements(limits: &Limits, found: impl Display) -> DecodeError {
    DecodeError::new(format!("at most {} elements in an aggregate", limits.max_elements), found)
}
