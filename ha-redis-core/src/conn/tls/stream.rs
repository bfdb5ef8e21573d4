//! A transport that encrypts another.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ClientConnection;

use super::explain;
use super::session::Details;
use crate::runtime::Transport;

/// A TLS session on a socket.
///
/// It ends without a `close_notify`: RESP marks the end of each reply, so a truncated one is noticed.
pub(super) struct TlsStream {
    session: ClientConnection,
    socket: Box<dyn Transport>,
    details: Arc<Details>,
    /// An error that came after bytes that were returned first.
    failed: Option<io::Error>,
    /// The error of a write on a connection that the server has closed.
    closed: Option<io::Error>,
}

impl TlsStream {
    /// Runs the handshake.
    pub(super) async fn open(
        session: ClientConnection,
        socket: Box<dyn Transport>,
        details: Arc<Details>,
    ) -> io::Result<Self> {
        let mut stream = Self { session, socket, details, failed: None, closed: None };
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let flushed = self.poll_flush(cx)?;
            if !self.session.is_handshaking() {
                return flushed.map(Ok);
            }
            // Read even while a write is stuck: the server may have sent an alert.
            if ready!(self.poll_receive(cx))? == 0 {
                let message = "the server closed the connection during the TLS handshake";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
            }
        }
    }

    /// Reads from the socket and decrypts. Zero means that the server has closed its side.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut socket = Nonblocking { socket: &mut *self.socket, cx };
        let read = ready!(would_block_is_pending(self.session.read_tls(&mut socket)))?;
        if let Err(error) = self.session.process_new_packets() {
            // The server gets an alert, if it can be written immediately.
            let _ = self.session.write_tls(&mut Nonblocking { socket: &mut *self.socket, cx });
            return Poll::Ready(Err(explain::error(&error, &self.details)));
        }
        Poll::Ready(Ok(read))
    }

    /// Writes the encrypted bytes. When the server has closed the connection, the error is its last alert, if it sent
    /// one.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.closed.is_none() && self.session.wants_write() {
            let mut socket = Nonblocking { socket: &mut *self.socket, cx };
            match ready!(would_block_is_pending(self.session.write_tls(&mut socket))) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if is_close(&error) => self.closed = Some(error),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let Some(error) = self.closed.take() else { return Poll::Ready(Ok(())) };
        match self.poll_last_alert(cx) {
            Poll::Ready(alert) => Poll::Ready(Err(alert.unwrap_or(error))),
            Poll::Pending => {
                self.closed = Some(error);
                Poll::Pending
            }
        }
    }

    /// Returns the alert that a server sent before it closed the connection. It can still be read when writing fails,
    /// but the runtime may notice that later than the end of the connection.
    fn poll_last_alert(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Error>> {
        loop {
            match ready!(self.poll_receive(cx)) {
                Ok(read) if read > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Poll::Ready(Some(error)),
                _ => return Poll::Ready(None),
            }
        }
    }
}

impl Transport for TlsStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let mut filled = 0;
        while filled < buf.len() {
            // Decrypted bytes come first; rustls reads no more from the socket while it holds many of them.
            match self.session.reader().read(&mut buf[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.poll_receive(cx) {
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) if filled > 0 => {
                        self.failed = Some(error);
                        break;
                    }
                    Poll::Pending if filled > 0 => break,
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                },
                // An end without `close_notify` is an ordinary end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(filled))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // Bytes that the session holds are written first, which makes room. Those that it accepts now are
        // written by the next write or flush: an error here would mean that none of them were accepted.
        ready!(self.poll_send(cx))?;
        Poll::Ready(self.session.writer().write(buf))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        self.socket.poll_flush(cx)
    }

    fn reset_on_drop(&mut self) {
        self.socket.reset_on_drop();
    }
}

/// The socket as rustls expects it: pending operations fail with `WouldBlock`.
struct Nonblocking<'a, 'b> {
    socket: &'a mut dyn Transport,
    cx: &'a mut Context<'b>,
}

impl Read for Nonblocking<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        pending_would_block(self.socket.poll_read(self.cx, buf))
    }
}

impl Write for Nonblocking<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        pending_would_block(self.socket.poll_write(self.cx, buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        pending_would_block(self.socket.poll_flush(self.cx))
    }
}

/// Returns true if a write failed because the server has closed the connection, so that reading ends as well.
fn is_close(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn pending_would_block<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn would_block_is_pending<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}
