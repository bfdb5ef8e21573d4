//! Whether a port speaks TLS, to tell so where it was spoken to without.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use crate::runtime::{Endpoint, Runtime, Transport};
use crate::time::until;

/// No longer than this is waited for an answer: it is only about the words of an error.
const PATIENCE: Duration = Duration::from_millis(500);

/// What clients of TLS begin with: a record of version 3.1 with a ClientHello of TLS 1.2, without a session, with the
/// cipher suites of ECDHE and AES-GCM, and without extensions. Whatever the server supports, it answers with a record.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03ha-redis asks if the port is TLS\
    \x00\x00\x04\xc0\x2b\xc0\x2f\x01\x00";

/// Whether the server at this endpoint answers with a handshake of TLS, or with an alert.
pub(crate) async fn speaks_tls(runtime: &dyn Runtime, endpoint: Endpoint<'_>) -> bool {
    let asked = async {
        let mut socket = runtime.connect(endpoint).await?;
        ask(&mut *socket).await
    };
    let answer = until(runtime, runtime.now() + PATIENCE, asked).await;
    matches!(answer, Ok(Ok([0x15 | 0x16, 0x03])))
}

/// The first two bytes of the answer.
async fn ask(socket: &mut dyn Transport) -> io::Result<[u8; 2]> {
    let mut said = 0;
    while said < CLIENT_HELLO.len() {
        match poll_fn(|cx| socket.poll_write(cx, &CLIENT_HELLO[said..])).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            taken => said += taken,
        }
    }
    poll_fn(|cx| socket.poll_flush(cx)).await?;
    let (mut answer, mut heard) = ([0; 2], 0);
    while heard < answer.len() {
        match poll_fn(|cx| socket.poll_read(cx, &mut answer[heard..])).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => heard += read,
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_lengths_are_right() {
        let length = |at: usize| usize::from(u16::from_be_bytes([CLIENT_HELLO[at], CLIENT_HELLO[at + 1]]));
        assert_eq!(length(3), CLIENT_HELLO.len() - 5, "of the record");
        assert_eq!(length(7), CLIENT_HELLO.len() - 9, "of the message");
        // Two bytes of version and 32 of chance come before the session, the suites and the compression.
        assert_eq!(&CLIENT_HELLO[11 + 32..], b"\x00\x00\x04\xc0\x2b\xc0\x2f\x01\x00");
    }
}
