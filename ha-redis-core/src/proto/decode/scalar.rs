//! The values that are no numbers and no plain strings.

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

/// The value that a line without a whole number is.
pub(super) fn of_line(line: &[u8]) -> Result<Value, NotResp> {
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
        [b'(', ..] => by_redis(&[line, CRLF].concat()),
        _ => Err(NotResp::at("nothing behind the end of a streamed aggregate", line)),
    }
}

/// An error, from a line or from a bulk error. redis-rs reads the latter in one go, and a line byte by byte.
pub(super) fn server_error(text: &[u8]) -> Result<Value, NotResp> {
    let mut bulk = Vec::with_capacity(text.len() + 16);
    // Writing to a vector does not fail.
    let _ = write!(bulk, "!{}\r\n", text.len());
    bulk.extend_from_slice(text);
    bulk.extend_from_slice(CRLF);
    by_redis(&bulk)
}

/// Errors and big numbers are rare, and only redis-rs can make them: their types have no public constructors.
#[cold]
fn by_redis(bytes: &[u8]) -> Result<Value, NotResp> {
    redis::parse_redis_value(bytes).map_err(|_| NotResp::at("an error or a big number", bytes))
}
