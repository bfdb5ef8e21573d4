//! Reads the role of a server from its reply to HELLO, ROLE or INFO.

use std::fmt;

use redis::Value;

use crate::error::{Error, Kind};
use crate::peer_text::describe;

/// A server's role in replication, as it reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The server accepts writes.
    Master,
    /// The server replicates a master.
    Replica,
    /// The server is a Sentinel and holds no data.
    Sentinel,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Replica => "replica",
            Self::Sentinel => "Sentinel",
        })
    }
}

/// Reads the reply to ROLE.
pub(crate) fn read_role(reply: &Value) -> Result<Role, Error> {
    let Value::Array(parts) = reply else { return Err(no_role(reply)) };
    match parts.first() {
        Some(Value::BulkString(role)) if role == b"master" => Ok(Role::Master),
        Some(Value::BulkString(role)) if role == b"slave" => Ok(Role::Replica),
        Some(Value::BulkString(role)) if role == b"sentinel" => Ok(Role::Sentinel),
        _ => Err(no_role(reply)),
    }
}

/// Reads the role from the reply to `INFO replication`.
pub(crate) fn read_info_role(reply: &Value) -> Result<Role, Error> {
    let text = match reply {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::VerbatimString { text, .. } => text.clone(),
        reply => return Err(no_role(reply)),
    };
    match text.lines().find_map(|line| line.trim_end().strip_prefix("role:")) {
        Some("master") => Ok(Role::Master),
        Some("slave") => Ok(Role::Replica),
        _ => Err(no_role(reply)),
    }
}

/// Returns a field of the reply to HELLO: a map in RESP3, a flat list in RESP2.
pub(crate) fn hello_field<'a>(reply: &'a Value, name: &str) -> Option<&'a Value> {
    match reply {
        Value::Map(pairs) => pairs.iter().find(|(key, _)| is(key, name)).map(|(_, value)| value),
        Value::Array(flat) => flat.chunks_exact(2).find(|pair| is(&pair[0], name)).map(|pair| &pair[1]),
        _ => None,
    }
}

/// Reads the role from the reply to HELLO. `None` if it is missing.
pub(crate) fn read_hello_role(reply: &Value) -> Option<Role> {
    let field = |name: &str| hello_field(reply, name);
    if field("mode").is_some_and(|mode| is(mode, "sentinel")) {
        return Some(Role::Sentinel);
    }
    let role = field("role")?;
    match () {
        () if is(role, "master") => Some(Role::Master),
        () if is(role, "replica") || is(role, "slave") => Some(Role::Replica),
        () => None,
    }
}

fn is(value: &Value, word: &str) -> bool {
    match value {
        Value::BulkString(bytes) => bytes == word.as_bytes(),
        Value::SimpleString(text) => text == word,
        _ => false,
    }
}

fn no_role(reply: &Value) -> Error {
    let reply = describe(reply);
    Error::new(Kind::Protocol, format!("the server replied with an invalid role: {reply}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        redis::parse_redis_value(text.as_bytes()).unwrap()
    }

    #[test]
    fn reads_role_from_role() {
        assert_eq!(read_role(&value("*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n")).unwrap(), Role::Master);
        assert_eq!(read_role(&value("*1\r\n$5\r\nslave\r\n")).unwrap(), Role::Replica);
        assert_eq!(read_role(&value("*1\r\n$8\r\nsentinel\r\n")).unwrap(), Role::Sentinel);
        assert!(read_role(&value("*1\r\n$5\r\nqueen\r\n")).unwrap_err().is_protocol());
        assert!(read_role(&value(":1\r\n")).unwrap_err().is_protocol());
    }

    #[test]
    fn reads_role_from_info() {
        let info = |text: &str| read_info_role(&Value::BulkString(text.into()));
        assert_eq!(info("# Replication\r\nrole:master\r\nconnected_slaves:0\r\n").unwrap(), Role::Master);
        assert_eq!(info("# Replication\r\nrole:slave\r\n").unwrap(), Role::Replica);
        assert!(info("# Replication\r\n").unwrap_err().is_protocol());
        assert!(read_info_role(&Value::Int(1)).unwrap_err().is_protocol());
    }

    #[test]
    fn reads_role_from_hello() {
        let hello = |fields: &str| {
            let words = fields.split(' ').map(|word| format!("${}\r\n{word}\r\n", word.len()));
            let words: String = words.collect();
            let count = fields.split(' ').count();
            let map = read_hello_role(&value(&format!("%{}\r\n{words}", count / 2)));
            assert_eq!(map, read_hello_role(&value(&format!("*{count}\r\n{words}"))), "{fields}");
            map
        };
        assert_eq!(hello("server redis mode standalone role master"), Some(Role::Master));
        assert_eq!(hello("server redis mode cluster role replica"), Some(Role::Replica));
        assert_eq!(hello("server redis mode sentinel"), Some(Role::Sentinel));
        assert_eq!(hello("server something"), None);
        assert_eq!(hello("role queen"), None);
        assert_eq!(read_hello_role(&Value::Okay), None);
    }
}
