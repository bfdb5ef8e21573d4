//! Identifies a server's process, to notice a restart at the same address.

use redis::{Cmd, Value, cmd};

use crate::peer_text::text_of;

/// Returns the command that reports the run ID.
pub(crate) fn run_id_command() -> Cmd {
    cmd("INFO").arg("server").take()
}

/// The reply of a server takes a tenth of this.
const MAX_BYTES: usize = 64 << 10;
/// A run ID has 40 characters.
const MAX_ID: usize = 64;

/// Reads the reply to [`run_id_command`]: an ID that a process draws when it starts. `None` if the server does not
/// report it.
pub(crate) fn read_run_id(reply: &Value) -> Option<String> {
    let text = text_of(reply, MAX_BYTES)?;
    let id = text.lines().find_map(|line| line.strip_prefix("run_id:"))?.trim();
    (!id.is_empty() && id.len() <= MAX_ID).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_run_id() {
        let read = |text: &str| read_run_id(&Value::BulkString(text.into()));
        assert_eq!(read("# Server\r\nredis_mode:standalone\r\nrun_id:a5\r\n"), Some("a5".to_owned()));
        assert_eq!(read("# Server\r\nrun_id:\r\n"), None);
        assert_eq!(read("# Server\r\n"), None);
        assert_eq!(read_run_id(&redis::parse_redis_value(b"-NOPERM no\r\n").unwrap()), None);
    }
}
