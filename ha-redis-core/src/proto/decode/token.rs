//! The parts a value is made of: scalars, and the beginnings and ends of aggregates.

use redis::{PushKind, Value, VerbatimFormat};

use super::Limits;
use super::error::{DecodeError, too_long, too_many_elements};
use super::frame::Kind;

const CRLF: &[u8] = b"\r\n";

/// What RESP values and their parts begin with.
const MARKERS: &[u8] = b"$:*+%~>-_,#=!(|;.";

/// Those whose line holds a whole number.
const NUMBERED: &[u8] = b"$:*%~>=!|;";

/// No limit may be less, so that a number always fits.
const SHORTEST_LINE: usize = 32;

#[derive(Debug)]
pub(super) enum Token {
    Value(Value),
    /// The beginning of an aggregate: its elements or pairs, or `None` when its end will be marked.
    Open(Kind, Option<usize>),
    /// A part of a streamed string; the last one is empty.
    Chunk(Vec<u8>),
    /// The end of a streamed aggregate.
    End,
}

/// Cuts bytes into tokens, and keeps the one that is half read.
#[derive(Default)]
pub(super) struct Tokens {
    /// A line whose end has not come.
    line: Vec<u8>,
    string: Option<PartialString>,
}

impl Tokens {
    pub(super) fn is_idle(&self) -> bool {
        self.line.is_empty() && self.string.is_none()
    }

    /// The next token, or `None` when all of `input` was taken first.
    pub(super) fn next(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Option<Token>, DecodeError> {
        if let Some(string) = &mut self.string {
            if !string.fill(input)? {
                return Ok(None);
            }
            return self.string.take().map(|string| string_token(string.marker, string.bytes)).transpose();
        }
        if !self.line.is_empty() {
            return self.continue_line(input, limits);
        }
        let Some((&marker, rest)) = input.split_first() else {
            return Ok(None);
        };
        if !MARKERS.contains(&marker) {
            let expected = "a reply of Redis (is this its port, and is TLS on at both ends or at none?)";
            return Err(DecodeError::at(expected, input));
        }
        if NUMBERED.contains(&marker)
            && let Some((number, rest)) = plain_number(rest)
        {
            *input = rest;
            return self.numbered(marker, number, input, limits);
        }
        match find_crlf(input) {
            Some(end) => {
                let line = &input[..end];
                *input = &input[end + CRLF.len()..];
                self.line_token(line, input, limits)
            }
            None => self.continue_line(input, limits),
        }
    }

    /// Adds what `input` has of the line that is half read.
    fn continue_line(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Option<Token>, DecodeError> {
        let end = match (self.line.last(), input.first()) {
            (Some(b'\r'), Some(b'\n')) => Some(1),
            _ => find_crlf(input).map(|end| end + CRLF.len()),
        };
        let (part, rest) = input.split_at(end.unwrap_or(input.len()));
        *input = rest;
        self.line.extend_from_slice(part);
        if end.is_none() {
            let without_end = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
            check_line(without_end, limits)?;
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        line.truncate(line.len() - CRLF.len());
        let token = self.line_token(&line, input, limits);
        line.clear();
        self.line = line;
        token
    }

    /// What a whole line, without its end, begins or is.
    fn line_token(
        &mut self,
        line: &[u8],
        input: &mut &[u8],
        limits: &Limits,
    ) -> Result<Option<Token>, DecodeError> {
        check_line(line, limits)?;
        let token = match line {
            b"$?" => Token::Open(Kind::Chunks, None),
            b"*?" => Token::Open(Kind::Array, None),
            b"~?" => Token::Open(Kind::Set, None),
            b"%?" => Token::Open(Kind::Map, None),
            b"." => Token::End,
            [marker, text @ ..] if NUMBERED.contains(marker) => {
                let number = number(text).ok_or_else(|| DecodeError::at("an integer", line))?;
                return self.numbered(*marker, number, input, limits);
            }
            _ => Token::Value(scalar(line)?),
        };
        Ok(Some(token))
    }

    /// What a line begins or is that holds a number.
    fn numbered(
        &mut self,
        marker: u8,
        number: i64,
        input: &mut &[u8],
        limits: &Limits,
    ) -> Result<Option<Token>, DecodeError> {
        let value = |value| Ok(Some(Token::Value(value)));
        let kind = match marker {
            b':' => return value(Value::Int(number)),
            // Only -1 is RESP; redis-rs takes any negative length for nil.
            b'$' | b'*' | b'~' if number < 0 => return value(Value::Nil),
            b'$' | b'!' | b'=' | b';' => return self.string(marker, number, input, limits),
            // redis-rs gives this for a push without a kind.
            b'>' if number <= 0 => {
                return value(Value::Push { kind: PushKind::Other(String::new()), data: Vec::new() });
            }
            b'*' => Kind::Array,
            b'%' => Kind::Map,
            b'~' => Kind::Set,
            b'>' => Kind::Push,
            _ => Kind::Attribute,
        };
        match usize::try_from(number) {
            Ok(length) if length <= limits.max_elements => Ok(Some(Token::Open(kind, Some(length)))),
            _ => Err(too_many_elements(limits, format_args!("{}{number}", char::from(marker)))),
        }
    }

    fn string(
        &mut self,
        marker: u8,
        length: i64,
        input: &mut &[u8],
        limits: &Limits,
    ) -> Result<Option<Token>, DecodeError> {
        // redis-rs makes errors at a slow pace, and no real one is long.
        let max = if marker == b'!' { limits.max_line } else { limits.max_bulk };
        let length = match usize::try_from(length) {
            Ok(length) if length <= max => length,
            _ => return Err(too_long(max, format_args!("{}{length}", char::from(marker)))),
        };
        if marker == b';' && length == 0 {
            return Ok(Some(Token::Chunk(Vec::new())));
        }
        if let Some((bytes, rest)) = input.split_at_checked(length)
            && let Some(rest) = rest.strip_prefix(CRLF)
        {
            *input = rest;
            return string_token(marker, bytes.to_vec()).map(Some);
        }
        self.string = Some(PartialString { marker, length, bytes: Vec::new(), ends: 0 });
        self.next(input, limits)
    }
}

/// A value of one of the forms that nearly every reply has, if all of it stands at the front of `input`; else
/// nothing is taken.
// Called, it would move the value through memory once more: a fifth of what a small reply costs.
#[inline(always)]
pub(super) fn whole_scalar(input: &mut &[u8], limits: &Limits) -> Option<Value> {
    let (marker, rest) = input.split_first()?;
    let (value, rest) = match marker {
        b'$' => match plain_number(rest)? {
            (length, rest) if length < 0 => (Value::Nil, rest),
            (length, rest) => {
                let length = usize::try_from(length).ok().filter(|&length| length <= limits.max_bulk)?;
                let (bytes, rest) = rest.split_at_checked(length)?;
                let rest = rest.strip_prefix(CRLF)?;
                (Value::BulkString(bytes.to_vec()), rest)
            }
        },
        b':' => {
            let (number, rest) = plain_number(rest)?;
            (Value::Int(number), rest)
        }
        b'+' => (Value::Okay, rest.strip_prefix(b"OK\r\n")?),
        b'_' => (Value::Nil, rest.strip_prefix(CRLF)?),
        _ => return None,
    };
    *input = rest;
    Some(value)
}

/// The number of a line in its usual form, digits behind at most a minus, and what follows the line.
#[inline]
fn plain_number(line: &[u8]) -> Option<(i64, &[u8])> {
    let negative = line.first() == Some(&b'-');
    let digits = if negative { &line[1..] } else { line };
    let (mut number, mut rest) = (0_i64, digits);
    while let Some((byte @ b'0'..=b'9', after)) = rest.split_first() {
        number = number.wrapping_mul(10).wrapping_add(i64::from(byte - b'0'));
        rest = after;
    }
    // 18 digits have not wrapped.
    let length = digits.len() - rest.len();
    if length == 0 || length > 18 {
        return None;
    }
    Some((if negative { -number } else { number }, rest.strip_prefix(CRLF)?))
}

/// A string whose end has not come.
struct PartialString {
    marker: u8,
    length: usize,
    bytes: Vec<u8>,
    /// How much of the line end behind it has come.
    ends: usize,
}

impl PartialString {
    /// Room is made for as much again as has come, or for this much if that is more; never for more than is
    /// missing.
    const ROOM: usize = 1024 * 1024;

    /// Takes what `input` has of it; `true` says that this was all.
    fn fill(&mut self, input: &mut &[u8]) -> Result<bool, DecodeError> {
        let missing = self.length - self.bytes.len();
        let (part, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        if self.bytes.capacity() - self.bytes.len() < part.len() {
            let room = self.bytes.len().max(part.len()).max(Self::ROOM).min(missing);
            self.bytes.reserve_exact(room);
        }
        self.bytes.extend_from_slice(part);
        if self.bytes.len() < self.length {
            return Ok(false);
        }
        while let Some(&expected) = CRLF.get(self.ends) {
            match input.split_first() {
                None => return Ok(false),
                Some((&byte, rest)) if byte == expected => *input = rest,
                Some(_) => {
                    let expected = format!("a line end after a string of {} bytes", self.length);
                    return Err(DecodeError::at(expected, input));
                }
            }
            self.ends += 1;
        }
        Ok(true)
    }
}

fn string_token(marker: u8, bytes: Vec<u8>) -> Result<Token, DecodeError> {
    Ok(match marker {
        b'$' => Token::Value(Value::BulkString(bytes)),
        b'!' => Token::Value(bulk_error(&bytes)?),
        b'=' => Token::Value(verbatim(&bytes)?),
        _ => Token::Chunk(bytes),
    })
}

fn verbatim(bytes: &[u8]) -> Result<Value, DecodeError> {
    let string = String::from_utf8_lossy(bytes);
    let (format, text) = string
        .split_once(':')
        .ok_or_else(|| DecodeError::at("a format and `:` in a verbatim string", bytes))?;
    let format = match format {
        "txt" => VerbatimFormat::Text,
        "mkd" => VerbatimFormat::Markdown,
        other => VerbatimFormat::Unknown(other.to_owned()),
    };
    Ok(Value::VerbatimString { format, text: text.to_owned() })
}

/// The value that a line without a whole number is.
fn scalar(line: &[u8]) -> Result<Value, DecodeError> {
    // A script may return any bytes as status or error. They reach the caller: the status as it is, the error
    // as text.
    match line {
        b"+OK" => return Ok(Value::Okay),
        [b'+', status @ ..] => {
            return Ok(match str::from_utf8(status) {
                Ok(text) => Value::SimpleString(text.to_owned()),
                Err(_) => Value::BulkString(status.to_vec()),
            });
        }
        [b'-', ..] => return by_redis(&[String::from_utf8_lossy(line).as_bytes(), CRLF].concat()),
        _ => {}
    }
    let text = str::from_utf8(line).map_err(|_| DecodeError::at("UTF-8", line))?;
    match line {
        [b'_', ..] => Ok(Value::Nil),
        b"#t" => Ok(Value::Boolean(true)),
        b"#f" => Ok(Value::Boolean(false)),
        [b'#', ..] => Err(DecodeError::at("#t or #f", line)),
        [b',', ..] => {
            text[1..].trim().parse().map(Value::Double).map_err(|_| DecodeError::at("a number", line))
        }
        [b'(', ..] => by_redis(&[line, CRLF].concat()),
        _ => Err(DecodeError::at("nothing behind the end of a streamed aggregate", line)),
    }
}

fn bulk_error(text: &[u8]) -> Result<Value, DecodeError> {
    by_redis(&[format!("!{}", text.len()).as_bytes(), CRLF, text, CRLF].concat())
}

/// Errors and big numbers are rare, and only redis-rs can make them: their types have no public constructors.
#[cold]
fn by_redis(bytes: &[u8]) -> Result<Value, DecodeError> {
    redis::parse_redis_value(bytes).map_err(|_| DecodeError::at("an error or a big number", bytes))
}

fn check_line(line: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    let max_line = limits.max_line.max(SHORTEST_LINE);
    // Its marker is not counted.
    if line.len() > max_line.saturating_add(1) {
        return Err(DecodeError::at(format!("a line of at most {max_line} bytes"), line));
    }
    Ok(())
}

fn find_crlf(bytes: &[u8]) -> Option<usize> {
    bytes.windows(CRLF.len()).position(|pair| matches!(pair, b"\r\n"))
}

/// The number of a line in any form that redis-rs takes.
fn number(text: &[u8]) -> Option<i64> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(tokens: &Tokens) -> usize {
        tokens.string.as_ref().unwrap().bytes.capacity()
    }

    #[test]
    fn a_small_string_gets_exactly_its_room() {
        let (mut tokens, limits) = (Tokens::default(), Limits::default());
        assert!(tokens.next(&mut &b"$1000\r\nabc"[..], &limits).unwrap().is_none());
        assert_eq!(capacity(&tokens), 1000);
    }

    #[test]
    fn a_length_alone_reserves_little() {
        let (mut tokens, limits) = (Tokens::default(), Limits::default());
        assert!(tokens.next(&mut &b"$536870911\r\nabc"[..], &limits).unwrap().is_none());
        assert!(capacity(&tokens) <= PartialString::ROOM);

        let mebibyte = vec![b'x'; 1024 * 1024];
        for come in 1..=5 {
            assert!(tokens.next(&mut &mebibyte[..], &limits).unwrap().is_none());
            assert!(capacity(&tokens) <= (2 * come + 1) * mebibyte.len());
        }
    }

    #[test]
    fn a_line_leaves_nothing_behind() {
        let (mut tokens, limits) = (Tokens::default(), Limits::default());
        assert!(tokens.next(&mut &b"+hello"[..], &limits).unwrap().is_none());
        assert!(!tokens.is_idle());
        assert!(tokens.next(&mut &b"\r\n"[..], &limits).unwrap().is_some());
        assert!(tokens.is_idle());
    }
}
