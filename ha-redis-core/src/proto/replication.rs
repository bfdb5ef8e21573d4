//! Reads a server's replication status.

use std::collections::BTreeMap;

use redis::{Cmd, Value, cmd};

use crate::address::Address;
use crate::error::{Error, Kind};
use crate::proto::{Role, Secrets};

/// The replication status that a server reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replication {
    pub(crate) role: Role,
    pub(crate) position: Position,
    /// Whether a replica is connected to its master.
    pub(crate) link_up: bool,
    /// The master of a replica.
    pub(crate) master: Option<Address>,
    /// The connected replicas.
    pub(crate) replicas: Vec<Address>,
}

impl Replication {
    /// Removes the addresses that contain a password.
    pub(crate) fn without(mut self, secrets: &Secrets) -> Self {
        self.replicas.retain(|replica| !secrets.are_in(replica));
        self.master = self.master.filter(|master| !secrets.are_in(master));
        self
    }
}

/// The position of a server in a replication history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The replication ID. A master and its replicas report the same one; a promoted replica starts another.
    /// Addresses cannot replace it, since servers know each other by other names than clients do.
    pub(crate) history: String,
    /// How many bytes of the history the server has applied.
    pub(crate) offset: u64,
}

/// A reply that lists a thousand replicas takes half of this.
const MAX_BYTES: usize = 256 << 10;
/// A replication ID has 40 characters.
const MAX_HISTORY: usize = 64;

const FIELDS: [&str; 7] = [
    "role",
    "master_repl_offset",
    "slave_repl_offset",
    "master_replid",
    "master_link_status",
    "master_host",
    "master_port",
];

/// Returns the command that reports the replication status.
pub(crate) fn replication_command() -> Cmd {
    cmd("INFO").arg("replication").take()
}

/// Reads the reply to [`replication_command`].
pub(crate) fn read_replication(reply: &Value) -> Result<Replication, Error> {
    let text = match reply {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => Some(text.as_str()),
        _ => None,
    };
    let text = text.ok_or_else(|| unreadable("text"))?;
    // The command runs every second, and parsing blocks all other tasks.
    if text.len() > MAX_BYTES {
        let message =
            format!("the reply to INFO replication has {} bytes, more than {MAX_BYTES}", text.len());
        return Err(Error::new(Kind::Protocol, message));
    }
    let (mut fields, mut replicas) = (BTreeMap::new(), Vec::new());
    for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
        if FIELDS.contains(&name) {
            fields.entry(name).or_insert(value);
        } else {
            replicas.extend(read_replica(name, value));
        }
    }
    let field = |name: &str| fields.get(name).copied().ok_or_else(|| unreadable(name));
    let history = field("master_replid")?;
    if history.len() > MAX_HISTORY {
        return Err(unreadable("master_replid"));
    }
    let (role, offset) = match field("role")? {
        "master" => (Role::Master, "master_repl_offset"),
        "slave" => (Role::Replica, "slave_repl_offset"),
        _ => return Err(unreadable("role")),
    };
    // A replica that has never reached its master reports -1.
    let offset: i64 = field(offset)?.parse().map_err(|_| unreadable(offset))?;
    Ok(Replication {
        role,
        position: Position { history: history.to_owned(), offset: u64::try_from(offset).unwrap_or(0) },
        link_up: field("master_link_status").is_ok_and(|status| status == "up"),
        master: field("master_host").ok().zip(field("master_port").ok()).and_then(read_address),
        replicas,
    })
}

/// Reads `slave0:ip=127.0.0.1,port=6380,state=online,offset=14,lag=0`.
fn read_replica(name: &str, fields: &str) -> Option<Address> {
    name.strip_prefix("slave")?.parse::<u32>().ok()?;
    let field = |name: &str| fields.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    read_address((field("ip")?, field("port")?))
}

fn read_address((host, port): (&str, &str)) -> Option<Address> {
    Address::announced(host, port)
}

fn unreadable(what: &str) -> Error {
    Error::new(Kind::Protocol, format!("the reply to INFO replication has no valid `{what}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Result<Replication, Error> {
        let text = lines.split_whitespace().collect::<Vec<_>>().join("\r\n");
        read_replication(&Value::BulkString(format!("# Replication\r\n{text}\r\n").into_bytes()))
    }

    #[test]
    fn reads_replicas_of_master() {
        let replication = read(
            "role:master connected_slaves:2 slave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=0 \
             slave1:ip=fd00::2,port=6380,state=online,offset=14,lag=1 slave2:ip=10.0.0.9,port=0 \
             master_replid:abc master_repl_offset:28",
        );
        let replication = replication.unwrap();
        assert_eq!(replication.role, Role::Master);
        assert_eq!(replication.position, Position { history: "abc".to_owned(), offset: 28 });
        assert_eq!(replication.replicas, [Address::tcp("10.0.0.2", 6379), Address::tcp("fd00::2", 6380)]);
    }

    #[test]
    fn reads_link_of_replica() {
        let read = |status: &str, offset: &str| {
            let rest = "master_replid:abc master_repl_offset:99";
            let replication = format!(
                "role:slave master_host:10.0.0.1 master_port:6379 master_link_status:{status} \
                 slave_repl_offset:{offset} slave_read_only:1 {rest}"
            );
            self::read(&replication).unwrap()
        };
        let up = read("up", "14");
        assert_eq!((up.role, up.link_up, up.position.offset), (Role::Replica, true, 14));
        assert!(up.replicas.is_empty());
        assert_eq!(up.master, Some(Address::tcp("10.0.0.1", 6379)));
        let down = read("down", "-1");
        assert_eq!((down.link_up, down.position.offset), (false, 0));
    }

    #[test]
    fn invalid_reply_is_protocol_error() {
        assert!(read("").unwrap_err().is_protocol());
        assert!(read("role:queen master_replid:a").unwrap_err().is_protocol());
        assert!(read("role:master master_replid:a master_repl_offset:soon").unwrap_err().is_protocol());
        assert!(read_replication(&Value::Int(1)).unwrap_err().is_protocol());
    }
}
