//! The parts a value is made of: scalars, and the beginnings and ends of aggregates.

use redis::{PushKind, Value};

use super::error::{NotResp, too_long, too_many_elements};
use super::frame::Kind;
use super::limits::{Account, OverLimit};
use super::scalar;

pub(super) const CRLF: &[u8] = b"\r\n";

/// What RESP values and their parts begin with.
const MARKERS: &[u8] = b"$:*+%~>-_,#=!(|;.";

/// Those whose line holds a whole number.
const NUMBERED: &[u8] = b"$:*%~>=!|;";

/// Those whose line is a text: a status, an error or a big number.
const TEXTS: &[u8] = b"+-(";

/// Bytes of a status or an error. No real one is nearly as long, and on its way to a value it is copied.
const LONGEST_TEXT: usize = 1 << 20;

/// Bytes of any other line; big numbers are read at a slow pace.
pub(super) const LONGEST_LINE: usize = 64 << 10;

/// What is announced to be larger is no reply: no server has that much memory, and no collection so many elements.
const LONGEST_STRING: u64 = 1 << 40;
const MOST_ELEMENTS: u64 = u32::MAX as u64;

#[derive(Debug)]
pub(super) enum Token {
    Value(Value),
    /// The beginning of an aggregate: its elements or pairs, or `None` when its end will be marked.
    Open(Kind, Option<u64>),
    /// A part of a streamed string.
    Chunk(Vec<u8>),
    /// The end of a streamed string.
    LastChunk,
    /// The end of a streamed aggregate.
    End,
    /// The token that comes next is over a limit. From here on tokens come without their content.
    TooLarge(OverLimit),
}

/// Cuts bytes into tokens, and keeps the one that is half read.
#[derive(Default)]
pub(super) struct Tokens {
    /// A line whose end has not come. Of a text that is discarded, its marker and perhaps a carriage return.
    line: Vec<u8>,
    string: Option<PartialString>,
    /// Whether strings and texts come without their content, as nil.
    discards: bool,
}

impl Tokens {
    pub(super) fn is_idle(&self) -> bool {
        self.line.is_empty() && self.string.is_none()
    }

    /// From here on tokens come without their content.
    pub(super) fn discard(&mut self) {
        self.discards = true;
        self.shorten_line();
        if let Some(string) = &mut self.string {
            string.kept = None;
        }
    }

    /// From here on tokens come with their content again.
    pub(super) fn keep(&mut self) {
        self.discards = false;
    }

    /// The next token, or `None` when all of `input` was taken first.
    pub(super) fn next(
        &mut self,
        input: &mut &[u8],
        account: &mut Account,
    ) -> Result<Option<Token>, NotResp> {
        if let Some(string) = &mut self.string {
            if !string.fill(input)? {
                return Ok(None);
            }
            return self.string.take().map(PartialString::into_token).transpose();
        }
        if !self.line.is_empty() {
            return self.continue_line(input, account);
        }
        let Some((&marker, rest)) = input.split_first() else {
            return Ok(None);
        };
        if !MARKERS.contains(&marker) {
            let expected = "a reply of Redis (is this its port, and is TLS on at both ends or at none?)";
            return Err(NotResp::at(expected, input));
        }
        if NUMBERED.contains(&marker)
            && let Some((number, rest)) = plain_number(rest)
        {
            *input = rest;
            return self.numbered(marker, number, input, account);
        }
        self.continue_line(input, account)
    }

    /// Takes what `input` has of a line, of which a part may have come before.
    fn continue_line(&mut self, input: &mut &[u8], account: &mut Account) -> Result<Option<Token>, NotResp> {
        let end = match (self.line.last(), input.first()) {
            (Some(b'\r'), Some(b'\n')) => Some(1),
            _ => find_crlf(input).map(|end| end + CRLF.len()),
        };
        let (part, rest) = input.split_at(end.unwrap_or(input.len()));
        let Some(&marker) = self.line.first().or(part.first()) else { return Ok(None) };
        if let Some(over) = self.check_line(marker, part, end.is_some(), account)? {
            if self.line.is_empty() {
                // The marker alone is taken, to tell what the rest is.
                self.line.push(marker);
                *input = &input[1..];
            }
            self.discard();
            return Ok(Some(Token::TooLarge(over)));
        }
        *input = rest;
        if self.line.is_empty() && end.is_some() {
            return self.line_token(&part[..part.len() - CRLF.len()], input, account);
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
        let token = self.line_token(&line, input, account);
        line.clear();
        line.shrink_to(LONGEST_LINE);
        self.line = line;
        token
    }

    /// Looks at `part` of a line before it is taken; whether it is the last. Counts what is kept of it, and says
    /// which limit that is over.
    fn check_line(
        &self,
        marker: u8,
        part: &[u8],
        is_last: bool,
        account: &mut Account,
    ) -> Result<Option<OverLimit>, NotResp> {
        let end = if is_last { CRLF.len() } else { usize::from(part.ends_with(b"\r")) };
        let length = (self.line.len() + part.len()).saturating_sub(1 + end);
        if !TEXTS.contains(&marker) {
            if length <= LONGEST_LINE {
                return Ok(None);
            }
            return Err(NotResp::at(format!("a line of at most {LONGEST_LINE} bytes"), part));
        }
        if self.discards {
            return Ok(None);
        }
        let longest = if marker == b'(' { LONGEST_LINE } else { LONGEST_TEXT };
        if length > longest {
            return Ok(Some(OverLimit::Line(longest)));
        }
        let block = if self.line.is_empty() { Account::block(0) } else { 0 };
        let fits = account.charge(block + copies(marker) * part.len());
        Ok((!fits).then(|| account.over()))
    }

    /// Of a text that is discarded, no more is kept than is needed to find its end.
    fn shorten_line(&mut self) {
        if let [marker, .., last] = self.line[..]
            && TEXTS.contains(&marker)
        {
            self.line = if last == b'\r' { vec![marker, last] } else { vec![marker] };
        }
    }

    /// What a whole line, without its end, begins or is.
    fn line_token(
        &mut self,
        line: &[u8],
        input: &mut &[u8],
        account: &mut Account,
    ) -> Result<Option<Token>, NotResp> {
        let token = match line {
            b"$?" => Token::Open(Kind::Chunks, None),
            b"*?" => Token::Open(Kind::Array, None),
            b"~?" => Token::Open(Kind::Set, None),
            b"%?" => Token::Open(Kind::Map, None),
            b"." => Token::End,
            [marker, text @ ..] if NUMBERED.contains(marker) => {
                let number = number(text).ok_or_else(|| NotResp::at("an integer", line))?;
                return self.numbered(*marker, number, input, account);
            }
            [marker, ..] if self.discards && TEXTS.contains(marker) => Token::Value(Value::Nil),
            _ => Token::Value(scalar::of_line(line)?),
        };
        Ok(Some(token))
    }

    /// What a line begins or is that holds a number.
    fn numbered(
        &mut self,
        marker: u8,
        number: i64,
        input: &mut &[u8],
        account: &mut Account,
    ) -> Result<Option<Token>, NotResp> {
        let value = |value| Ok(Some(Token::Value(value)));
        let kind = match marker {
            b':' => return value(Value::Int(number)),
            // Only -1 is RESP; redis-rs takes any negative length for nil.
            b'$' | b'*' | b'~' if number < 0 => return value(Value::Nil),
            b'$' | b'!' | b'=' | b';' => return self.string(marker, number, input, account),
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
        match u64::try_from(number) {
            Ok(length) if length <= MOST_ELEMENTS => Ok(Some(Token::Open(kind, Some(length)))),
            _ => Err(too_many_elements(MOST_ELEMENTS, format_args!("{}{number}", char::from(marker)))),
        }
    }

    fn string(
        &mut self,
        marker: u8,
        length: i64,
        input: &mut &[u8],
        account: &mut Account,
    ) -> Result<Option<Token>, NotResp> {
        let length = match u64::try_from(length) {
            Ok(length) if length <= LONGEST_STRING => length,
            _ => return Err(too_long(LONGEST_STRING, format_args!("{}{length}", char::from(marker)))),
        };
        if marker == b';' && length == 0 {
            return Ok(Some(Token::LastChunk));
        }
        let over = if self.discards { None } else { string_over(marker, length, account) };
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
            kept: (!self.discards).then(Vec::new),
            ends: 0,
        });
        match over {
            Some(over) => Ok(Some(Token::TooLarge(over))),
            None => self.next(input, account),
        }
    }
}

/// Counts a string of an announced length; says which limit it is over.
fn string_over(marker: u8, length: u64, account: &mut Account) -> Option<OverLimit> {
    if marker == b'!' && length > LONGEST_TEXT as u64 {
        return Some(OverLimit::Line(LONGEST_TEXT));
    }
    let bytes = usize::try_from(length).unwrap_or(usize::MAX).saturating_mul(copies(marker));
    (!account.charge(Account::block(bytes))).then(|| account.over())
}

/// How much of a string or a text there may be on its way to a value.
fn copies(marker: u8) -> usize {
    match marker {
        // Each byte that is not UTF-8 becomes a character of three.
        b'-' | b'!' => 3,
        b'=' => 4,
        // A chunk, and the string that it is added to, of whose room half may be empty.
        b';' => 3,
        _ => 1,
    }
}

/// A value of one of the forms that nearly every reply has, if all of it stands at the front of `input` and there is
/// room for it; else nothing is taken.
// Called, it would move the value through memory once more: a fifth of what a small reply costs.
#[inline(always)]
pub(super) fn whole_scalar(input: &mut &[u8], account: &mut Account) -> Option<Value> {
    let (marker, rest) = input.split_first()?;
    let (value, rest) = match marker {
        b'$' => match plain_number(rest)? {
            (length, rest) if length < 0 => (Value::Nil, rest),
            (length, rest) => {
                let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                let rest = rest.strip_prefix(CRLF).filter(|_| account.charge(Account::block(bytes.len())))?;
                (Value::BulkString(bytes.to_vec()), rest)
            }
        },
        b':' => {
            let (number, rest) = plain_number(rest)?;
            (Value::Int(number), rest)
        }
        b'+' => {
            let rest = rest.strip_prefix(b"OK\r\n");
            (Value::Okay, rest.filter(|_| account.charge(Account::block(b"+OK\r\n".len())))?)
        }
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
    length: u64,
    missing: u64,
    /// What has come of it; `None` when it is discarded.
    kept: Option<Vec<u8>>,
    /// How much of the line end behind it has come.
    ends: usize,
}

impl PartialString {
    /// Room is made for as much again as has come, or for this much if that is more; never for more than is
    /// missing.
    const ROOM: usize = 1024 * 1024;

    /// Takes what `input` has of it; `true` says that this was all.
    fn fill(&mut self, input: &mut &[u8]) -> Result<bool, NotResp> {
        let missing = usize::try_from(self.missing).unwrap_or(usize::MAX);
        let (part, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        self.missing -= part.len() as u64;
        if let Some(bytes) = &mut self.kept {
            if bytes.capacity() - bytes.len() < part.len() {
                bytes.reserve_exact(bytes.len().max(part.len()).max(Self::ROOM).min(missing));
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
        match self.kept {
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

/// The number of a line in any form that redis-rs takes.
fn number(text: &[u8]) -> Option<i64> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(tokens: &Tokens) -> usize {
        tokens.string.as_ref().unwrap().kept.as_ref().unwrap().capacity()
    }

    fn next(tokens: &mut Tokens, mut input: &[u8]) -> Option<Token> {
        tokens.next(&mut input, &mut Account::new(1 << 30)).unwrap()
    }

    #[test]
    fn a_small_string_gets_exactly_its_room() {
        let mut tokens = Tokens::default();
        assert!(next(&mut tokens, b"$1000\r\nabc").is_none());
        assert_eq!(capacity(&tokens), 1000);
    }

    #[test]
    fn a_length_alone_reserves_little() {
        let mut tokens = Tokens::default();
        assert!(next(&mut tokens, b"$536870911\r\nabc").is_none());
        assert!(capacity(&tokens) <= PartialString::ROOM);

        let mebibyte = vec![b'x'; 1024 * 1024];
        for come in 1..=5 {
            assert!(next(&mut tokens, &mebibyte).is_none());
            assert!(capacity(&tokens) <= (2 * come + 1) * mebibyte.len());
        }
    }

    #[test]
    fn a_line_leaves_nothing_behind() {
        let mut tokens = Tokens::default();
        assert!(next(&mut tokens, b"+hello").is_none());
        assert!(!tokens.is_idle());
        assert!(next(&mut tokens, b"\r\n").is_some());
        assert!(tokens.is_idle());
        for _ in 0..15 {
            assert!(next(&mut tokens, &[b"+"[0]; 64 << 10]).is_none());
        }
        assert!(next(&mut tokens, b"\r\n").is_some());
        assert!(tokens.is_idle() && tokens.line.capacity() <= LONGEST_LINE);
    }

    #[test]
    fn what_is_discarded_takes_no_memory() {
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
        assert!(tokens.string.as_ref().unwrap().kept.is_none());
    }
}
