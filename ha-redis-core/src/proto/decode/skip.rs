//! Skips a value: finds its end without storing any of it.

use super::error::NotResp;
use super::frame::{Frame, ValueKind, values_of};
use super::token::Token;
use super::{MAX_DEPTH, not_a_chunk};

/// A value that is being skipped, and what is missing of it.
///
/// Aggregates of a known length need no level of their own: their values are added to the missing values of the
/// aggregate around them. So they take no memory, however deep they nest.
#[derive(Debug)]
pub(super) struct Skip {
    /// The innermost last.
    open: Vec<Level>,
}

#[derive(Debug)]
enum Level {
    /// This many values are missing.
    Counted(u64),
    /// An aggregate with an end marker.
    Streamed,
    /// A string that arrives in chunks.
    Chunks,
}

impl Skip {
    /// Returns the rest of a value of which these aggregates are open, the innermost last.
    pub(super) fn rest_of(open: &[Frame]) -> Self {
        let mut skip = Self { open: vec![Level::Counted(1)] };
        for frame in open {
            // An open aggregate lacks values, so the whole value cannot be complete.
            skip.enter(frame.kind(), frame.missing());
        }
        skip
    }

    /// Processes the next part; returns true if it was the last.
    pub(super) fn take(&mut self, token: &Token) -> Result<bool, NotResp> {
        let in_chunks = matches!(self.open.last(), Some(Level::Chunks));
        match token {
            Token::Value(_) | Token::Open(..) if in_chunks => {
                return Err(not_a_chunk(token));
            }
            Token::Value(_) => return Ok(self.complete()),
            Token::Open(kind, length) => {
                if self.enter(*kind, length.map(|length| values_of(*kind, length))) {
                    return Ok(self.complete());
                }
                if self.open.len() > MAX_DEPTH {
                    let expected = format!("at most {MAX_DEPTH} streamed aggregates inside each other");
                    return Err(NotResp::new(expected, format_args!("one more {kind:?}")));
                }
            }
            Token::Chunk(_) if in_chunks => {}
            Token::LastChunk if in_chunks => return Ok(self.leave()),
            Token::Chunk(_) | Token::LastChunk => return Err(NotResp::at("a value", b";")),
            Token::End if matches!(self.open.last(), Some(Level::Streamed)) => return Ok(self.leave()),
            Token::End => return Err(NotResp::at("a value", b".")),
            // Limits do not apply to a skipped value.
            Token::TooLarge(_) => {}
        }
        Ok(false)
    }

    /// Opens an aggregate of `values` values, or one with an end marker. Returns true if it is empty, and so complete
    /// already.
    fn enter(&mut self, kind: ValueKind, values: Option<u64>) -> bool {
        match (self.open.last_mut(), values) {
            (_, Some(0)) => return true,
            // The aggregate itself is one of the missing values.
            (Some(Level::Counted(missing)), Some(values)) => *missing = (*missing - 1).saturating_add(values),
            (_, Some(values)) => self.open.push(Level::Counted(values)),
            (_, None) if kind == ValueKind::Chunks => self.open.push(Level::Chunks),
            (_, None) => self.open.push(Level::Streamed),
        }
        false
    }

    /// Ends an aggregate at its end marker.
    fn leave(&mut self) -> bool {
        self.open.pop();
        self.complete()
    }

    /// Completes a value, and perhaps those around it; returns true if all are complete.
    fn complete(&mut self) -> bool {
        while let Some(Level::Counted(missing)) = self.open.last_mut() {
            *missing -= 1;
            if *missing > 0 {
                return false;
            }
            self.open.pop();
        }
        self.open.is_empty()
    }
}
