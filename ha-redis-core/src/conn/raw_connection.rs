//! A connection that a single task uses: for handshakes, Sentinel queries and events.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use redis::{Cmd, Value, cmd};

use crate::conn::login::LoginVersion;
use crate::conn::reply_reader::ReplyReader;
use crate::conn::tls;
use crate::coop_budget::CoopBudget;
use crate::error::{Error, Kind, may_succeed_later};
use crate::proto::{DecodeError, Form, Incoming, Limits, Role, Skipped, TOO_LARGE, read_info_role, refused};
use crate::proto::{read_hello_role, read_role};
use crate::runtime::Transport;

/// The limit of the replies to a handshake. The peer is unknown until it is over.
const MAX_HANDSHAKE_BYTES: usize = 1 << 20;

/// A connection without a driver. It has no timeouts of its own: the caller sets one around it. However much the
/// server sends, its futures yield from time to time, so that the timeout fires and other tasks continue.
pub(crate) struct RawConnection {
    transport: Box<dyn Transport>,
    reader: ReplyReader,
    output: Vec<u8>,
    /// How many bytes of the output are written.
    written: usize,
    connection_id: Option<i64>,
    fences: u64,
    login_version: LoginVersion,
    tls_session: u64,
    is_resp3: bool,
    budget: CoopBudget,
}

/// What a driver needs to take over a connection.
pub(crate) struct ConnectionParts {
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) reader: ReplyReader,
    /// The server's ID of the connection.
    pub(crate) connection_id: Option<i64>,
    /// How many connections had been abandoned when this one was [fenced](crate::node::fence).
    pub(crate) fences: u64,
    /// Which credentials it has logged in with.
    pub(crate) login_version: LoginVersion,
    /// The number of its TLS session, 0 without TLS.
    pub(crate) tls_session: u64,
}

impl RawConnection {
    pub(crate) fn new(transport: Box<dyn Transport>) -> Self {
        let reader = ReplyReader::new(handshake_limits());
        let (output, budget) = (Vec::new(), CoopBudget::new());
        Self {
            transport,
            reader,
            output,
            written: 0,
            connection_id: None,
            fences: 0,
            login_version: 0,
            tls_session: 0,
            is_resp3: false,
            budget,
        }
    }

    /// Records which TLS session it uses.
    pub(crate) fn with_tls_session(mut self, id: u64) -> Self {
        self.tls_session = id;
        self
    }

    /// Returns the number of its TLS session, 0 without TLS.
    #[cfg(feature = "sentinel")]
    pub(crate) fn tls_session(&self) -> u64 {
        self.tls_session
    }

    /// Records that the handshake in this form has succeeded.
    pub(crate) fn set_ready(&mut self, form: Form, login_version: LoginVersion) {
        (self.is_resp3, self.login_version) = (form == Form::Hello, login_version);
    }

    /// Returns true if replies and pushes are told apart, so that any command may be sent while it is subscribed.
    pub(crate) fn is_resp3(&self) -> bool {
        self.is_resp3
    }

    /// Returns which credentials it has logged in with.
    pub(crate) fn login_version(&self) -> LoginVersion {
        self.login_version
    }

    pub(crate) fn set_login_version(&mut self, version: LoginVersion) {
        self.login_version = version;
    }

    pub(crate) fn set_connection_id(&mut self, id: Option<i64>) {
        self.connection_id = id;
    }

    pub(crate) fn set_fences(&mut self, fences: u64) {
        self.fences = fences;
    }

    /// Sets the limits of replies after the handshake.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.reader.set_limits(limits);
    }

    /// Restores the limits of a handshake.
    pub(crate) fn limit_to_handshake(&mut self) {
        self.reader.set_limits(handshake_limits());
    }

    /// Sends the commands in one go and reads one reply to each. Pushes in between are ignored. A reply that exceeds
    /// a limit becomes a server error, since its content is not available.
    ///
    /// If the future is dropped, replies no longer match commands: drop the connection as well.
    pub(crate) async fn query(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, Error> {
        let mut replies = Vec::with_capacity(commands.len());
        self.query_into(commands, &mut replies).await?;
        Ok(replies)
    }

    /// Like [`RawConnection::query`]. After an error, `replies` contains the replies before it.
    pub(crate) async fn query_into(
        &mut self,
        commands: &[Cmd],
        replies: &mut Vec<Value>,
    ) -> Result<(), Error> {
        self.send(commands).await?;
        self.reader.begin_answer();
        while replies.len() < commands.len() {
            match self.receive_next(&|incoming| incoming == Incoming::Reply).await? {
                Ok(reply) => replies.push(reply),
                Err(skipped) if skipped.incoming == Incoming::Push => {}
                Err(skipped) => replies.push(refusal(skipped)),
            }
        }
        Ok(())
    }

    /// Queries the server's role, after its handshake. `None` if the server does not report it.
    pub(crate) async fn role(&mut self) -> Result<Option<Role>, Error> {
        if let Some(role) = self.query_optional(cmd("ROLE")).await? {
            return read_role(&role).map(Some);
        }
        if let Some(role) = self.role_by_info().await? {
            return Ok(Some(role));
        }
        // Every user may run HELLO, on every server that supports it.
        Ok(self.query_optional(cmd("HELLO").arg(3).take()).await?.as_ref().and_then(read_hello_role))
    }

    /// Queries the role by INFO, if the server does not report it otherwise. `None` if it refuses INFO, too.
    pub(crate) async fn role_by_info(&mut self) -> Result<Option<Role>, Error> {
        let info = self.query_optional(cmd("INFO").arg("replication").take()).await?;
        info.as_ref().map(read_info_role).transpose()
    }

    /// Queries a single reply. `None` if the server does not support the command, or does not allow it to this user.
    async fn query_optional(&mut self, command: Cmd) -> Result<Option<Value>, Error> {
        match self.query(&[command]).await?.pop() {
            Some(Value::ServerError(error)) if may_succeed_later(&error) => {
                Err(refused("the query for its role", &error))
            }
            Some(Value::ServerError(_)) | None => Ok(None),
            reply => Ok(reply),
        }
    }

    /// Sends the commands in one go. If the future is dropped, [`RawConnection::receive`] sends the rest.
    pub(crate) async fn send(&mut self, commands: &[Cmd]) -> Result<(), Error> {
        self.buffer(commands);
        poll_fn(|cx| self.poll_send(cx)).await
    }

    /// Buffers the commands, which [`RawConnection::receive`] sends.
    pub(crate) fn buffer(&mut self, commands: &[Cmd]) {
        commands.iter().for_each(|command| command.write_packed_command(&mut self.output));
    }

    /// Waits for the next value, a push or a reply, and sends the buffered commands meanwhile. Dropping the future
    /// loses nothing.
    pub(crate) async fn receive_value(&mut self) -> Result<Value, Error> {
        let too_large = |skipped: Skipped| Error::new(Kind::ReplyTooLarge, skipped.to_string());
        self.receive().await?.map_err(too_large)
    }

    /// Like [`RawConnection::receive_value`], and reports skipped values too; the connection continues after them.
    pub(crate) async fn receive(&mut self) -> Result<Result<Value, Skipped>, Error> {
        let received = self.receive_next(&|_| true).await?;
        self.reader.begin_answer();
        Ok(received)
    }

    /// Like [`RawConnection::receive`], but returns `None` if no complete value has been read or if it is time to
    /// yield.
    pub(crate) fn try_receive(&mut self) -> Result<Option<Result<Value, Skipped>>, Error> {
        if self.budget.is_spent() {
            return Ok(None);
        }
        let received = self.try_decode(&|_| true)?;
        if received.is_some() {
            self.reader.begin_answer();
        }
        Ok(received)
    }

    async fn receive_next(
        &mut self,
        wanted: &(dyn Fn(Incoming) -> bool + Sync),
    ) -> Result<Result<Value, Skipped>, Error> {
        loop {
            self.budget.proceed().await;
            if let Some(value) = self.try_decode(wanted)? {
                return Ok(value);
            }
            if !self.reader.is_empty() {
                // A large value continues.
                continue;
            }
            poll_fn(|cx| self.poll_exchange(cx)).await?;
        }
    }

    fn try_decode(
        &mut self,
        wanted: &dyn Fn(Incoming) -> bool,
    ) -> Result<Option<Result<Value, Skipped>>, Error> {
        let next = self.reader.next(wanted);
        self.budget.spend_value();
        self.budget.spend_decoded(self.reader.decoded());
        match next {
            Ok(value) => Ok(value.map(Ok)),
            Err(DecodeError::Skipped(skipped)) => Ok(Some(Err(skipped))),
            Err(DecodeError::NotResp(error)) => Err(Error::new(Kind::Protocol, error.to_string())),
        }
    }

    /// Reads once, and sends the buffered commands.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        let Poll::Ready(read) = self.reader.poll_read(&mut *self.transport, cx) else {
            self.budget.refill();
            return Poll::Pending;
        };
        self.budget.spend_read();
        let read = read.map_err(lost)?;
        if read == 0 {
            return Poll::Ready(Err(Error::new(Kind::Lost, "the server closed the connection")));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.written < self.output.len() {
            let written =
                ready!(self.transport.poll_write(cx, &self.output[self.written..])).map_err(lost)?;
            if written == 0 {
                return Poll::Ready(Err(lost(io::ErrorKind::WriteZero.into())));
            }
            self.written += written;
        }
        (self.output, self.written) = (Vec::new(), 0);
        self.transport.poll_flush(cx).map_err(lost)
    }

    /// Hands the connection over to a driver. No reply may be left unread.
    pub(crate) fn into_parts(self) -> Result<ConnectionParts, Error> {
        if !self.reader.is_between_values() {
            return Err(Error::new(Kind::Protocol, "the server sent more replies than there were commands"));
        }
        let Self { transport, reader, connection_id, fences, login_version, tls_session, .. } = self;
        Ok(ConnectionParts { transport, reader, connection_id, fences, login_version, tls_session })
    }
}

fn handshake_limits() -> Limits {
    Limits { max_reply_bytes: MAX_HANDSHAKE_BYTES, ..Limits::default() }
}

/// Returns a server error in place of a skipped reply.
fn refusal(skipped: Skipped) -> Value {
    redis::parse_redis_value(format!("-{TOO_LARGE} {skipped}\r\n").as_bytes()).unwrap_or(Value::Nil)
}

fn lost(cause: io::Error) -> Error {
    let kind = if tls::is_permanent(&cause) { Kind::Tls } else { Kind::Lost };
    Error::caused(kind, "the connection was lost", cause)
}
