//! Determines what a replica can serve.

use redis::Cmd;

use super::{arguments, is_read, upper};

/// Returns true if a replica serves `cmd`: it changes nothing, and the server flags it so.
///
/// An unknown command, of a module or of a newer server, counts as a write, and so do `EVAL`, `EVALSHA` and `FCALL`;
/// their `_RO` forms are reads.
///
/// ```
/// use ha_redis_core::command::is_replica_read;
///
/// assert!(is_replica_read(redis::cmd("GET").arg("key")));
/// assert!(!is_replica_read(redis::cmd("SET").arg("key").arg(1)));
/// assert!(is_replica_read(redis::cmd("SORT_RO").arg("key")));
/// assert!(!is_replica_read(redis::cmd("SORT").arg("key")), "the server flags it as a write: it could STORE");
/// ```
pub fn is_replica_read(cmd: &Cmd) -> bool {
    is_read(cmd) && !is_flagged_write(cmd)
}

/// Returns true for commands that may change nothing, depending on their options, but that a replica always refuses.
fn is_flagged_write(cmd: &Cmd) -> bool {
    let name = arguments(cmd).next().unwrap_or_default();
    matches!(
        &*upper(name),
        b"SORT" | b"GETEX" | b"HGETEX" | b"BITFIELD" | b"GEORADIUS" | b"GEORADIUSBYMEMBER"
    )
}

/// Returns the command's name for an error message.
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
    fn flagged_writes_are_not_replica_reads() {
        for entry in entries().filter(|entry| entry.is("write")) {
            assert!(!is_replica_read(&command(&format!("{} k 1 2", entry.words()))), "{}", entry.name);
        }
    }

    #[test]
    fn replica_reads() {
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
    fn name_is_upper_case_and_cut() {
        assert_eq!(name(&command("set k v")), "SET");
        assert_eq!(name(&command(&"x".repeat(100))).len(), 32);
    }
}
