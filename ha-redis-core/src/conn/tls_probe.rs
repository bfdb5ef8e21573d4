//! Detects whether a port speaks TLS, to improve the error of a connection without TLS.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use crate::runtime::{Endpoint, Runtime, Transport};
use crate::time::until;

/// The timeout of the probe. It is short, since only the wording of an error depends on it.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The first message of a TLS client: a record of version 3.1 with a ClientHello of TLS 1.2, without a session, with
/// the cipher suites of ECDHE and AES-GCM, and without extensions. A TLS server replies with a record, whatever it
/// supports.
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03ha-redis asks if the port is TLS\
    \x00\x00\x04\xc0\x2b\xc0\x2f\x01\x00";

/// Returns true if the server at this endpoint replies with a TLS handshake or alert.
pub(crate) async fn speaks_tls(runtime: &dyn Runtime, endpoint: Endpoint<'_>) -> bool {
    let probing = async {
        let mut socket = runtime.connect(endpoint).await?;
        probe(&mut *socket).await
    };
    let reply = until(runtime, runtime.now() + TIMEOUT, probing).await;
    matches!(reply, Ok(Ok([0x15 | 0x16, 0x03])))
}

/// Returns the first two bytes of the reply.
async fn probe(socket: &mut dyn Transport) -> io::Result<[u8; 2]> {
    let mut written = 0;
    while written < CLIENT_HELLO.len() {
        match poll_fn(|cx| socket.poll_write(cx, &CLIENT_HELLO[written..])).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            taken => written += taken,
        }
    }
    poll_fn(|cx| socket.poll_flush(cx)).await?;
    let (mut reply, mut filled) = ([0; 2], 0);
    while filled < reply.len() {
        match poll_fn(|cx| socket.poll_read(cx, &mut reply[filled..])).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_hello_lengths() {
        let length = |at: usize| usize::from(u16::from_be_bytes([CLIENT_HELLO[at], CLIENT_HELLO[at + 1]]));
        assert_eq!(length(3), CLIENT_HELLO.len() - 5, "length of the record");
        assert_eq!(length(7), CLIENT_HELLO.len() - 9, "length of the message");
        // Two bytes of version and 32 random ones come before the session, the suites and the compression.
        assert_eq!(&CLIENT_HELLO[11 + 32..], b"\x00\x00\x04\xc0\x2b\xc0\x2f\x01\x00");
    }
}
