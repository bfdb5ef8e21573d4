//! Parses values that are neither numbers nor plain strings.

use std::io::Write;

use redis::{Value, VerbatimFormat};

use super::error::NotResp;
use super::token::CRLF;

pub(super) fn verbatim(bytes: &[u8]) -> Result<Value, NotResp> {
    let string = String::from_utf8_lossy(bytes);
    let (format, text) =
        string.split_once(':').ok_or_else(|| NotResp::at("a format and `:` in a verbatim string", bytes))?;
    let format = match format {
        "txt" => VerbatimFormat::Text,
        "mkd" => VerbatimFormat::Markdown,
        other => VerbatimFormat::Unknown(other.to_owned()),
    };
    Ok(Value::VerbatimString { format, text: text.to_owned() })
}

/// Parses a line that is not a whole number.
pub(super) fn from_line(line: &[u8]) -> Result<Value, NotResp> {
    // A script may return any bytes as status or error. They reach the caller: the status unchanged, the error as
    // text.
    match line {
        b"+OK" => return Ok(Value::Okay),
        [b'+', status @ ..] => {
            return Ok(match str::from_utf8(status) {
                Ok(text) => Value::SimpleString(text.to_owned()),
                Err(_) => Value::BulkString(status.to_vec()),
            });
        }
        [b'-', error @ ..] => return server_error(error),
        _ => {}
    }
    let text = str::from_utf8(line).map_err(|_| NotResp::at("UTF-8", line))?;
    match line {
        [b'_', ..] => Ok(Value::Nil),
        b"#t" => Ok(Value::Boolean(true)),
        b"#f" => Ok(Value::Boolean(false)),
        [b'#', ..] => Err(NotResp::at("#t or #f", line)),
        [b',', ..] => text[1..].trim().parse().map(Value::Double).map_err(|_| NotResp::at("a number", line)),
        [b'(', ..] => parse_with_redis_rs(&[line, CRLF].concat()),
        _ => Err(NotResp::at("nothing behind the end of a streamed aggregate", line)),
    }
}

/// Parses an error from a line or a bulk error. As a bulk error, redis-rs reads it in one go; it reads a line byte by
/// byte.
pub(super) fn server_error(text: &[u8]) -> Result<Value, NotResp> {
    let mut bulk = Vec::with_capacity(text.len() + 16);
    // Writing to a vector does not fail.
    let _ = write!(bulk, "!{}\r\n", text.len());
    bulk.extend_from_slice(text);
    bulk.extend_from_slice(CRLF);
    parse_with_redis_rs(&bulk)
}

/// Uses redis-rs's parser for errors and big numbers: their types have no public constructors, and they are rare.
#[cold]
fn parse_with_redis_rs(bytes: &[u8]) -> Result<Value, NotResp> {
    redis::parse_redis_value(bytes).map_err(|_| NotResp::at("an error or a big number", bytes))
}
