//! The error of a transaction that the server did not run, in the form of redis-rs.

use redis::{RedisError, ServerError};

/// Returns the error for a transaction in which the commands at these positions were refused, or EXEC itself if none
/// was.
///
/// redis-rs has an error with the errors of all commands in it, which only its own connections can create. So one of those
/// reads the replies once more, from memory.
#[cfg(feature = "aio")]
pub(crate) async fn error(commands: &[(usize, ServerError)], exec: ServerError) -> RedisError {
    match replay::read(commands, &exec).await {
        Some(error) => error,
        None => exec.into(),
    }
}

/// Without redis-rs's connections, returns EXEC's own error.
#[cfg(not(feature = "aio"))]
pub(crate) async fn error(_commands: &[(usize, ServerError)], exec: ServerError) -> RedisError {
    exec.into()
}

#[cfg(feature = "aio")]
mod replay {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use futures_lite::future;
    use redis::aio::MultiplexedConnection;
    use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisError, ServerError};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use crate::error::verbatim;

    /// Returns redis-rs's error for a transaction in which these commands were refused; `None` if there are none.
    pub(super) async fn read(commands: &[(usize, ServerError)], exec: &ServerError) -> Option<RedisError> {
        let (last, _) = commands.last()?;
        let mut replies = b"+OK\r\n".to_vec();
        let mut refused = commands.iter().peekable();
        // Commands after the last of them make no difference.
        for index in 0..=*last {
            match refused.next_if(|(at, _)| *at == index) {
                Some((_, error)) => push_error(error, &mut replies),
                None => replies.extend_from_slice(b"+QUEUED\r\n"),
            }
        }
        push_error(exec, &mut replies);
        // In RESP2 and without a client name, the connection sends nothing before the transaction.
        let info =
            RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let replay = Replay { replies, read: 0, written: false, reader: None };
        let (mut connection, driver) =
            MultiplexedConnection::new_with_config(&info, replay, config).await.ok()?;
        // It skips MULTI's reply and those of the commands. What it sends goes nowhere.
        let transaction = redis::pipe().atomic().to_owned();
        let exchange = async { connection.send_packed_commands(&transaction, last + 2, 1).await.err() };
        let driven = async {
            driver.await;
            None
        };
        future::or(exchange, driven).await
    }

    /// Encodes an error with its length, since its text may have several lines.
    fn push_error(error: &ServerError, replies: &mut Vec<u8>) {
        let said = verbatim(error);
        replies.extend_from_slice(format!("!{}\r\n{said}\r\n", said.len()).as_bytes());
    }

    /// Replies in place of a socket. They are available once something was written.
    struct Replay {
        replies: Vec<u8>,
        read: usize,
        written: bool,
        reader: Option<Waker>,
    }

    impl AsyncRead for Replay {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let left = &self.replies[self.read..];
            if !self.written || left.is_empty() {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let now = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..now]);
            self.read += now;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Replay {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.written = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}
