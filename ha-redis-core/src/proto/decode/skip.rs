//! Reading over a value: where it ends is found out, and nothing of it is kept.

use super::error::NotResp;
use super::frame::{Frame, Kind, values_of};
use super::token::Token;
use super::{DEEPEST, not_a_chunk};

/// A value that is read over, and what it still lacks.
///
/// Aggregates of a known length need no place of their own: their values are counted together with those that the
/// aggregate around them lacks. So however deep they nest, they take no memory.
#[derive(Debug)]
pub(super) struct Skip {
    /// The innermost last.
    open: Vec<Level>,
}

#[derive(Debug)]
enum Level {
    /// So many values are yet to come.
    Counted(u64),
    /// An aggregate whose end will be marked.
    Marked,
    /// A string that comes in chunks.
    Chunks,
}

impl Skip {
    /// The rest of a value of which these aggregates are open, the innermost last.
    pub(super) fn rest_of(open: &[Frame]) -> Self {
        let mut skip = Self { open: vec![Level::Counted(1)] };
        for frame in open {
            // What is open lacks something, so the whole value cannot be complete.
            skip.enter(frame.kind(), frame.missing());
        }
        skip
    }

    /// Takes the next part; true says that it was the last.
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
                if self.open.len() > DEEPEST {
                    let expected = format!("at most {DEEPEST} streamed aggregates inside each other");
                    return Err(NotResp::new(expected, format_args!("one more {kind:?}")));
                }
            }
            Token::Chunk(_) if in_chunks => {}
            Token::LastChunk if in_chunks => return Ok(self.leave()),
            Token::Chunk(_) | Token::LastChunk => return Err(NotResp::at("a value", b";")),
            Token::End if matches!(self.open.last(), Some(Level::Marked)) => return Ok(self.leave()),
            Token::End => return Err(NotResp::at("a value", b".")),
            // What is read over is over no limit.
            Token::TooLarge(_) => {}
        }
        Ok(false)
    }

    /// Opens an aggregate of so many values, or one whose end will be marked. True says that it is empty, and so
    /// complete already.
    fn enter(&mut self, kind: Kind, values: Option<u64>) -> bool {
        match (self.open.last_mut(), values) {
            (_, Some(0)) => return true,
            // It is itself one of those that were missing.
            (Some(Level::Counted(missing)), Some(values)) => *missing = (*missing - 1).saturating_add(values),
            (_, Some(values)) => self.open.push(Level::Counted(values)),
            (_, None) if kind == Kind::Chunks => self.open.push(Level::Chunks),
            (_, None) => self.open.push(Level::Marked),
        }
        false
    }

    /// The end of an aggregate was marked.
    fn leave(&mut self) -> bool {
        self.open.pop();
        self.complete()
    }

    /// A value is complete, and with it perhaps those around it; true says that all are.
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
