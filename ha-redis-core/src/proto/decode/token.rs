//! The parts of a value: scalars, and the starts and ends of aggregates.

use redis::{PushKind, Value};

use super::error::{NotResp, too_long, too_many_elements};
use super::frame::ValueKind;
use super::limits::{MemoryCounter, OverLimit};
use super::scalar;

pub(super) const CRLF: &[u8] = b"\r\n";

/// The first bytes of RESP values and their parts.
const MARKERS: &[u8] = b"$:*+%~>-_,#=!(|;.";

/// Markers of lines with a whole number.
const NUMBERED: &[u8] = b"$:*%~>=!|;";

/// Markers of lines with text: a status, an error or a big number.
const TEXTS: &[u8] = b"+-(";

/// The maximum length of a status or an error. No real one is nearly as long, and it is copied while it is parsed.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// The maximum length of any other line; big numbers are slow to parse.
pub(super) const MAX_LINE_BYTES: usize = 64 << 10;

/// The largest lengths that are accepted: no server has that much memory, and no collection so many elements.
const MAX_STRING_BYTES: u64 = 1 << 40;
const MAX_ELEMENTS: u64 = u32::MAX as u64;

#[derive(Debug)]
pub(super) enum Token {
    Value(Value),
    /// The start of an aggregate: its elements or pairs, or `None` if an end marker will follow.
    Open(ValueKind, Option<u64>),
    /// A part of a streamed string.
    Chunk(Vec<u8>),
    /// The end of a streamed string.
    LastChunk,
    /// The end of a streamed aggregate.
    End,
    /// The next token exceeds a limit. From here on tokens have no content.
    TooLarge(OverLimit),
}

/// Splits bytes into tokens, and stores the incomplete one.
#[derive(Default)]
pub(super) struct Tokens {
    /// An incomplete line. For a discarded text, only its marker and perhaps a carriage return.
    line: Vec<u8>,
    string: Option<PartialString>,
    /// True if strings and texts are returned without their content, as nil.
    discards: bool,
}

impl Tokens {
    pub(super) fn is_idle(&self) -> bool {
        self.line.is_empty() && self.string.is_none()
    }

    /// From here on tokens have no content.
    pub(super) fn discard(&mut self) {
        self.discards = true;
        self.shorten_line();
        if let Some(string) = &mut self.string {
            string.content = None;
        }
    }

    /// From here on tokens have content again.
    pub(super) fn retain_content(&mut self) {
        self.discards = false;
    }

    /// Returns the next token, or `None` if all of `input` was taken first.
    pub(super) fn next(
        &mut self,
        input: &mut &[u8],
        memory: &mut MemoryCounter,
    ) -> Result<Option<Token>, NotResp> {
        if let Some(string) = &mut self.string {
            if !string.fill(input)? {
                return Ok(None);
            }
            return self.string.take().map(PartialString::into_token).transpose();
        }
        if !self.line.is_empty() {
            return self.continue_line(input, memory);
        }
        let Some((&marker, rest)) = input.split_first() else {
            return Ok(None);
        };
        if !MARKERS.contains(&marker) {
            let expected = "a Redis reply (check the port, and that TLS is on at both ends or at neither)";
            return Err(NotResp::at(expected, input));
        }
        if NUMBERED.contains(&marker)
            && let Some((number, rest)) = plain_number(rest)
        {
            *input = rest;
            return self.numbered(marker, number, input, memory);
        }
        self.continue_line(input, memory)
    }

    /// Takes the part of a line that is in `input`. Earlier parts may have arrived before.
    fn continue_line(
        &mut self,
        input: &mut &[u8],
        memory: &mut MemoryCounter,
    ) -> Result<Option<Token>, NotResp> {
        let end = match (self.line.last(), input.first()) {
            (Some(b'\r'), Some(b'\n')) => Some(1),
            _ => find_crlf(input).map(|end| end + CRLF.len()),
        };
        let (part, rest) = input.split_at(end.unwrap_or(input.len()));
        let Some(&marker) = self.line.first().or(part.first()) else { return Ok(None) };
        if let Some(over) = self.check_line(marker, part, end.is_some(), memory)? {
            if self.line.is_empty() {
                // Only the marker is taken, which determines the type of the rest.
                self.line.push(marker);
                *input = &input[1..];
            }
            self.discard();
            return Ok(Some(Token::TooLarge(over)));
        }
        *input = rest;
        if self.line.is_empty() && end.is_some() {
            return self.line_token(&part[..part.len() - CRLF.len()], input, memory);
        }
        let text_to_discard = self.discards && TEXTS.contains(&marker);
        match (end, part.last()) {
            (Some(_), _) if text_to_discard => {
                self.line.clear();
                return Ok(Some(Token::Value(Value::Nil)));
            }
            (None, Some(last)) if text_to_discard => {
                self.line.clear();
                self.line.push(marker);
                self.line.extend((*last == b'\r').then_some(b'\r'));
            }
            _ => self.line.extend_from_slice(part),
        }
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        line.truncate(line.len() - CRLF.len());
        let token = self.line_token(&line, input, memory);
        line.clear();
        line.shrink_to(MAX_LINE_BYTES);
        self.line = line;
        token
    }

    /// Checks `part` of a line before it is taken; `is_last` is true for the end of the line. Counts what is stored
    /// of it, and returns the limit that it exceeds.
    fn check_line(
        &self,
        marker: u8,
        part: &[u8],
        is_last: bool,
        memory: &mut MemoryCounter,
    ) -> Result<Option<OverLimit>, NotResp> {
        let end = if is_last { CRLF.len() } else { usize::from(part.ends_with(b"\r")) };
        let length = (self.line.len() + part.len()).saturating_sub(1 + end);
        if !TEXTS.contains(&marker) {
            if length <= MAX_LINE_BYTES {
                return Ok(None);
            }
            return Err(NotResp::at(format!("a line of at most {MAX_LINE_BYTES} bytes"), part));
        }
        if self.discards {
            return Ok(None);
        }
        let max = if marker == b'(' { MAX_LINE_BYTES } else { MAX_TEXT_BYTES };
        if length > max {
            return Ok(Some(OverLimit::Line(max)));
        }
        let block = if self.line.is_empty() { MemoryCounter::block(0) } else { 0 };
        let fits = memory.charge(block + copies(marker) * part.len());
        Ok((!fits).then(|| memory.over()))
    }

    /// Keeps of a discarded text only what is needed to find its end.
    fn shorten_line(&mut self) {
        if let [marker, .., last] = self.line[..]
            && TEXTS.contains(&marker)
        {
            self.line = if last == b'\r' { vec![marker, last] } else { vec![marker] };
        }
    }

    /// Returns what a complete line, without its end, is or starts.
    fn line_token(
        &mut self,
        line: &[u8],
        input: &mut &[u8],
        memory: &mut MemoryCounter,
    ) -> Result<Option<Token>, NotResp> {
        let token = match line {
            b"$?" => Token::Open(ValueKind::Chunks, None),
            b"*?" => Token::Open(ValueKind::Array, None),
            b"~?" => Token::Open(ValueKind::Set, None),
            b"%?" => Token::Open(ValueKind::Map, None),
            b"." => Token::End,
            [marker, text @ ..] if NUMBERED.contains(marker) => {
                let number = number(text).ok_or_else(|| NotResp::at("an integer", line))?;
                return self.numbered(*marker, number, input, memory);
            }
            [marker, ..] if self.discards && TEXTS.contains(marker) => Token::Value(Value::Nil),
            _ => Token::Value(scalar::from_line(line)?),
        };
        Ok(Some(token))
    }

    /// Returns what a line with a number is or starts.
    fn numbered(
        &mut self,
        marker: u8,
        number: i64,
        input: &mut &[u8],
        memory: &mut MemoryCounter,
    ) -> Result<Option<Token>, NotResp> {
        let value = |value| Ok(Some(Token::Value(value)));
        let kind = match marker {
            b':' => return value(Value::Int(number)),
            // Only -1 is RESP; redis-rs treats any negative length as nil.
            b'$' | b'*' | b'~' if number < 0 => return value(Value::Nil),
            b'$' | b'!' | b'=' | b';' => return self.string(marker, number, input, memory),
            // redis-rs returns this for a push without a kind.
            b'>' if number <= 0 => {
                return value(Value::Push { kind: PushKind::Other(String::new()), data: Vec::new() });
            }
            b'*' => ValueKind::Array,
            b'%' => ValueKind::Map,
            b'~' => ValueKind::Set,
            b'>' => ValueKind::Push,
            _ => ValueKind::Attribute,
        };
        match u64::try_from(number) {
            Ok(length) if length <= MAX_ELEMENTS => Ok(Some(Token::Open(kind, Some(length)))),
            _ => Err(too_many_elements(MAX_ELEMENTS, format_args!("{}{number}", char::from(marker)))),
        }
    }

    fn string(
        &mut self,
        marker: u8,
        length: i64,
        input: &mut &[u8],
        memory: &mut MemoryCounter,
    ) -> Result<Option<Token>, NotResp> {
        let length = match u64::try_from(length) {
            Ok(length) if length <= MAX_STRING_BYTES => length,
            _ => return Err(too_long(MAX_STRING_BYTES, format_args!("{}{length}", char::from(marker)))),
        };
        if marker == b';' && length == 0 {
            return Ok(Some(Token::LastChunk));
        }
        let over = if self.discards { None } else { string_over(marker, length, memory) };
        self.discards |= over.is_some();
        if !self.discards
            && let Some((bytes, rest)) = input.split_at_checked(length as usize)
            && let Some(rest) = rest.strip_prefix(CRLF)
        {
            *input = rest;
            return string_token(marker, bytes.to_vec()).map(Some);
        }
        self.string = Some(PartialString {
            marker,
            length,
            missing: length,
            content: (!self.discards).then(Vec::new),
            ends: 0,
        });
        match over {
            Some(over) => Ok(Some(Token::TooLarge(over))),
            None => self.next(input, memory),
        }
    }
}

/// Counts a string of an announced length; returns the limit that it exceeds.
fn string_over(marker: u8, length: u64, memory: &mut MemoryCounter) -> Option<OverLimit> {
    if marker == b'!' && length > MAX_TEXT_BYTES as u64 {
        return Some(OverLimit::Line(MAX_TEXT_BYTES));
    }
    let bytes = usize::try_from(length).unwrap_or(usize::MAX).saturating_mul(copies(marker));
    (!memory.charge(MemoryCounter::block(bytes))).then(|| memory.over())
}

/// Returns how many times a string or a text may be in memory while it is parsed.
fn copies(marker: u8) -> usize {
    match marker {
        // Each byte that is not UTF-8 becomes a character of three bytes.
        b'-' | b'!' => 3,
        b'=' => 4,
        // A chunk, and the string to which it is added, half of whose capacity may be unused.
        b';' => 3,
        _ => 1,
    }
}

/// Returns a value of one of the forms that nearly every reply has, if all of it is at the front of `input` and
/// within the limit; otherwise takes nothing.
// Without inlining, the value would be copied once more: a fifth of the cost of a small reply.
#[inline(always)]
pub(super) fn whole_scalar(input: &mut &[u8], memory: &mut MemoryCounter) -> Option<Value> {
    let (marker, rest) = input.split_first()?;
    let (value, rest) = match marker {
        b'$' => match plain_number(rest)? {
            (length, rest) if length < 0 => (Value::Nil, rest),
            (length, rest) => {
                let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                let rest =
                    rest.strip_prefix(CRLF).filter(|_| memory.charge(MemoryCounter::block(bytes.len())))?;
                (Value::BulkString(bytes.to_vec()), rest)
            }
        },
        b':' => {
            let (number, rest) = plain_number(rest)?;
            (Value::Int(number), rest)
        }
        b'+' => {
            let rest = rest.strip_prefix(b"OK\r\n");
            (Value::Okay, rest.filter(|_| memory.charge(MemoryCounter::block(b"+OK\r\n".len())))?)
        }
        b'_' => (Value::Nil, rest.strip_prefix(CRLF)?),
        _ => return None,
    };
    *input = rest;
    Some(value)
}

/// Parses a number in its usual form, digits after an optional minus. Returns it and what follows the line.
#[inline]
fn plain_number(line: &[u8]) -> Option<(i64, &[u8])> {
    let negative = line.first() == Some(&b'-');
    let digits = if negative { &line[1..] } else { line };
    let (mut number, mut rest) = (0_i64, digits);
    while let Some((byte @ b'0'..=b'9', after)) = rest.split_first() {
        number = number.wrapping_mul(10).wrapping_add(i64::from(byte - b'0'));
        rest = after;
    }
    // Up to 18 digits cannot wrap.
    let length = digits.len() - rest.len();
    if length == 0 || length > 18 {
        return None;
    }
    Some((if negative { -number } else { number }, rest.strip_prefix(CRLF)?))
}

/// An incomplete string.
struct PartialString {
    marker: u8,
    length: u64,
    missing: u64,
    /// The content so far; `None` if it is discarded.
    content: Option<Vec<u8>>,
    /// How many bytes of the line end after it have arrived.
    ends: usize,
}

impl PartialString {
    /// The minimum capacity that is reserved. It grows by as much as has arrived, but never by more than is missing.
    const MIN_RESERVE: usize = 1024 * 1024;

    /// Takes the part of the string that is in `input`; returns true if the string is complete.
    fn fill(&mut self, input: &mut &[u8]) -> Result<bool, NotResp> {
        let missing = usize::try_from(self.missing).unwrap_or(usize::MAX);
        let (part, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        self.missing -= part.len() as u64;
        if let Some(bytes) = &mut self.content {
            if bytes.capacity() - bytes.len() < part.len() {
                bytes.reserve_exact(bytes.len().max(part.len()).max(Self::MIN_RESERVE).min(missing));
            }
            bytes.extend_from_slice(part);
        }
        if self.missing > 0 {
            return Ok(false);
        }
        while let Some(&expected) = CRLF.get(self.ends) {
            match input.split_first() {
                None => return Ok(false),
                Some((&byte, rest)) if byte == expected => *input = rest,
                Some(_) => {
                    let expected = format!("a line end after a string of {} bytes", self.length);
                    return Err(NotResp::at(expected, input));
                }
            }
            self.ends += 1;
        }
        Ok(true)
    }

    fn into_token(self) -> Result<Token, NotResp> {
        match self.content {
            Some(bytes) => string_token(self.marker, bytes),
            None if self.marker == b';' => Ok(Token::Chunk(Vec::new())),
            None => Ok(Token::Value(Value::Nil)),
        }
    }
}

fn string_token(marker: u8, bytes: Vec<u8>) -> Result<Token, NotResp> {
    Ok(match marker {
        b'$' => Token::Value(Value::BulkString(bytes)),
        b'!' => Token::Value(scalar::server_error(&bytes)?),
        b'=' => Token::Value(scalar::verbatim(&bytes)?),
        _ => Token::Chunk(bytes),
    })
}

fn find_crlf(bytes: &[u8]) -> Option<usize> {
    bytes.windows(CRLF.len()).position(|pair| matches!(pair, b"\r\n"))
}

/// Parses a number in any form that redis-rs accepts.
fn number(text: &[u8]) -> Option<i64> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(tokens: &Tokens) -> usize {
        tokens.string.as_ref().unwrap().content.as_ref().unwrap().capacity()
    }

    fn next(tokens: &mut Tokens, mut input: &[u8]) -> Option<Token> {
        tokens.next(&mut input, &mut MemoryCounter::new(1 << 30)).unwrap()
    }

    #[test]
    fn small_string_has_exact_capacity() {
        let mut tokens = Tokens::default();
        assert!(next(&mut tokens, b"$1000\r\nabc").is_none());
        assert_eq!(capacity(&tokens), 1000);
    }

    #[test]
    fn announced_length_reserves_little() {
        let mut tokens = Tokens::default();
        assert!(next(&mut tokens, b"$536870911\r\nabc").is_none());
        assert!(capacity(&tokens) <= PartialString::MIN_RESERVE);

        let mebibyte = vec![b'x'; 1024 * 1024];
        for arrived in 1..=5 {
            assert!(next(&mut tokens, &mebibyte).is_none());
            assert!(capacity(&tokens) <= (2 * arrived + 1) * mebibyte.len());
        }
    }

    #[test]
    fn line_buffer_is_emptied() {
        let mut tokens = Tokens::default();
        assert!(next(&mut tokens, b"+hello").is_none());
        assert!(!tokens.is_idle());
        assert!(next(&mut tokens, b"\r\n").is_some());
        assert!(tokens.is_idle());
        for _ in 0..15 {
            assert!(next(&mut tokens, &[b"+"[0]; 64 << 10]).is_none());
        }
        assert!(next(&mut tokens, b"\r\n").is_some());
        assert!(tokens.is_idle() && tokens.line.capacity() <= MAX_LINE_BYTES);
    }

    #[test]
    fn discarded_text_takes_no_memory() {
        let mut tokens = Tokens::default();
        let text = [b"+".to_vec(), vec![b'x'; 1 << 20]].concat();
        for part in text.chunks(1000) {
            assert!(next(&mut tokens, part).is_none());
        }
        tokens.discard();
        assert!(tokens.line.capacity() < 10);
        for _ in 0..100 {
            assert!(next(&mut tokens, &text).is_none());
            assert!(tokens.line.capacity() < 10);
        }
        assert!(tokens.line.len() < 3);
        assert!(matches!(next(&mut tokens, b"\r\n"), Some(Token::Value(Value::Nil))));
        assert!(next(&mut tokens, b"$536870911\r\nabc").is_none());
        assert!(tokens.string.as_ref().unwrap().content.is_none());
    }
}
