//! What a replica can serve.

use redis::Cmd;

use super::{arguments, is_read, upper};

/// Whether a replica serves `cmd`: it changes nothing, and the server knows that.
///
/// A command that is not known, of a module or of a newer server, counts as a write, and so do `EVAL`, `EVALSHA` and
/// `FCALL`; their forms with `_RO` are reads.
///
/// ```
/// use ha_redis_core::command::is_replica_read;
///
/// assert!(is_replica_read(redis::cmd("GET").arg("key")));
/// assert!(!is_replica_read(redis::cmd("SET").arg("key").arg(1)));
/// assert!(is_replica_read(redis::cmd("SORT_RO").arg("key")));
/// assert!(!is_replica_read(redis::cmd("SORT").arg("key")), "to the server it is a write: it could STORE");
/// ```
pub fn is_replica_read(cmd: &Cmd) -> bool {
    is_read(cmd) && !is_write_to_the_server(cmd)
}

/// The commands that may change nothing, by their options, and are refused by a replica all the same.
fn is_write_to_the_server(cmd: &Cmd) -> bool {
    let name = arguments(cmd).next().unwrap_or_default();
    matches!(
        &*upper(name),
        b"SORT" | b"GETEX" | b"HGETEX" | b"BITFIELD" | b"GEORADIUS" | b"GEORADIUSBYMEMBER"
    )
}

/// The command as an error names it.
pub(crate) fn name(cmd: &Cmd) -> String {
    let name = arguments(cmd).next().unwrap_or_default();
    String::from_utf8_lossy(&name[..name.len().min(32)]).to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::super::tables::entries;
    use super::*;

    #[test]
    fn what_the_server_takes_for_a_write_is_no_read() {
        for entry in entries().filter(|entry| entry.is("write")) {
            assert!(!is_replica_read(&command(&format!("{} k 1 2", entry.words()))), "{}", entry.name);
        }
    }

    #[test]
    fn what_the_server_takes_for_a_read_is_one() {
        let reads = [
            "get k",
            "MGET a b",
            "HGETALL h",
            "scan 0",
            "XREAD STREAMS s 0",
            "EVAL_RO s 0",
            "PFCOUNT k",
            "XREAD BLOCK 0 STREAMS s $",
        ];
        for text in reads.into_iter().chain(["PING", "INFO", "CLIENT LIST", "OBJECT ENCODING k"]) {
            assert!(is_replica_read(&command(text)), "{text}");
        }
        for text in
            ["SET k v", "EVAL s 0", "FCALL f 0", "PUBLISH c m", "NEWCOMMAND k", "WAIT 1 0", "CONFIG SET a b"]
        {
            assert!(!is_replica_read(&command(text)), "{text}");
        }
    }

    #[test]
    fn a_name_is_shown_in_upper_case_and_not_at_any_length() {
        assert_eq!(name(&command("set k v")), "SET");
        assert_eq!(name(&command(&"x".repeat(100))).len(), 32);
    }
}
