//! What tells one process of a server from the next at the same address.

use redis::{Cmd, Value, cmd};

use crate::peer_text::text_of;

/// What to ask.
pub(crate) fn run_id_question() -> Cmd {
    cmd("INFO").arg("server").take()
}

/// What servers say of themselves takes a tenth of it.
const MAX_BYTES: usize = 64 << 10;
/// An id has 40 characters.
const MAX_ID: usize = 64;

/// Reads the reply to [`run_id_question`]: an id that is drawn when a process starts. `None` where it is not told.
pub(crate) fn read_run_id(reply: &Value) -> Option<String> {
    let text = text_of(reply, MAX_BYTES)?;
    let id = text.lines().find_map(|line| line.strip_prefix("run_id:"))?.trim();
    (!id.is_empty() && id.len() <= MAX_ID).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_id_is_found_where_it_is_told() {
        let read = |text: &str| read_run_id(&Value::BulkString(text.into()));
        assert_eq!(read("# Server\r\nredis_mode:standalone\r\nrun_id:a5\r\n"), Some("a5".to_owned()));
        assert_eq!(read("# Server\r\nrun_id:\r\n"), None);
        assert_eq!(read("# Server\r\n"), None);
        assert_eq!(read_run_id(&redis::parse_redis_value(b"-NOPERM no\r\n").unwrap()), None);
    }
}
