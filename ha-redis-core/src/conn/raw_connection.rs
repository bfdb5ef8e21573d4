//! Question and answer on a connection that one task has to itself: handshakes, Sentinel queries, events.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use redis::{Cmd, Value, cmd};

use crate::conn::reply_reader::ReplyReader;
use crate::conn::tls;
use crate::coop_budget::CoopBudget;
use crate::error::{Error, Kind, may_succeed_later};
use crate::proto::{DecodeError, Incoming, Limits, Role, Skipped, TOO_LARGE, read_info_role, refused};
use crate::proto::{read_hello_role, read_role};
use crate::runtime::Transport;

/// What the replies to a handshake may take. Who is at the other end is not known before it is over.
const MAX_HANDSHAKE_BYTES: usize = 1 << 20;

/// A connection without a driver. It has no time bounds of its own: whoever asks sets one around it. However much the
/// server sends, its futures give way from time to time, so that such a bound holds and other tasks go on.
pub(crate) struct RawConnection {
    transport: Box<dyn Transport>,
    reader: ReplyReader,
    output: Vec<u8>,
    /// How much of the output the transport has taken.
    taken: usize,
    connection_id: Option<i64>,
    fences: u64,
    budget: CoopBudget,
}

/// What a driver needs to go on where a dialog ends.
pub(crate) struct ConnectionParts {
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) reader: ReplyReader,
    /// The number by which the server knows the connection.
    pub(crate) connection_id: Option<i64>,
    /// How many connections had been given up when this one was [fenced](crate::node::fence).
    pub(crate) fences: u64,
}

impl RawConnection {
    pub(crate) fn new(transport: Box<dyn Transport>) -> Self {
        let reader = ReplyReader::new(handshake_limits());
        let (output, budget) = (Vec::new(), CoopBudget::new());
        Self { transport, reader, output, taken: 0, connection_id: None, fences: 0, budget }
    }

    pub(crate) fn set_connection_id(&mut self, id: Option<i64>) {
        self.connection_id = id;
    }

    pub(crate) fn set_fences(&mut self, fences: u64) {
        self.fences = fences;
    }

    /// The handshake is over: from here on these limits hold.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.reader.set_limits(limits);
    }

    /// The limits of a handshake hold again.
    pub(crate) fn limit_to_handshake(&mut self) {
        self.reader.set_limits(handshake_limits());
    }

    /// Sends the commands at once and reads one reply to each. Pushes that come between are passed over. A reply that
    /// is over a limit is an error of the server: the answer cannot be had.
    ///
    /// Dropping the future leaves the dialog out of step: drop the dialog as well.
    pub(crate) async fn query(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, Error> {
        let mut replies = Vec::with_capacity(commands.len());
        self.query_into(commands, &mut replies).await?;
        Ok(replies)
    }

    /// As [`RawConnection::ask`]; what came before an error is in `replies`.
    pub(crate) async fn query_into(
        &mut self,
        commands: &[Cmd],
        replies: &mut Vec<Value>,
    ) -> Result<(), Error> {
        self.send(commands).await?;
        self.reader.begin_answer();
        while replies.len() < commands.len() {
            match self.next_of(&|incoming| incoming == Incoming::Reply).await? {
                Ok(reply) => replies.push(reply),
                Err(skipped) if skipped.incoming == Incoming::Push => {}
                Err(skipped) => replies.push(refusal(skipped)),
            }
        }
        Ok(())
    }

    /// Asks the server for its role, once its handshake is over. `None`: it does not say.
    pub(crate) async fn role(&mut self) -> Result<Option<Role>, Error> {
        if let Some(role) = self.one(cmd("ROLE")).await? {
            return read_role(&role).map(Some);
        }
        if let Some(role) = self.role_by_info().await? {
            return Ok(Some(role));
        }
        // Every user may say this, on every server that knows it.
        Ok(self.one(cmd("HELLO").arg(3).take()).await?.as_ref().and_then(read_hello_role))
    }

    /// Asks a server for its role that does not tell it otherwise. `None`: it does not tell it by INFO, either.
    pub(crate) async fn role_by_info(&mut self) -> Result<Option<Role>, Error> {
        let info = self.one(cmd("INFO").arg("replication").take()).await?;
        info.as_ref().map(read_info_role).transpose()
    }

    /// Asks one thing. `None`: the server does not have it, or not for this user.
    async fn one(&mut self, question: Cmd) -> Result<Option<Value>, Error> {
        match self.query(&[question]).await?.pop() {
            Some(Value::ServerError(error)) if may_succeed_later(&error) => {
                Err(refused("the question for its role", &error))
            }
            Some(Value::ServerError(_)) | None => Ok(None),
            reply => Ok(reply),
        }
    }

    /// Sends the commands at once. Dropping the future leaves the rest to [`RawConnection::next`].
    pub(crate) async fn send(&mut self, commands: &[Cmd]) -> Result<(), Error> {
        self.stage(commands);
        poll_fn(|cx| self.poll_send(cx)).await
    }

    /// Leaves the commands for [`RawConnection::next`] to send.
    pub(crate) fn stage(&mut self, commands: &[Cmd]) {
        commands.iter().for_each(|command| command.write_packed_command(&mut self.output));
    }

    /// Waits for the next value, a push or a reply, and sends meanwhile what is staged. Dropping the future loses
    /// nothing.
    pub(crate) async fn receive_value(&mut self) -> Result<Value, Error> {
        let too_large = |skipped: Skipped| Error::new(Kind::ReplyTooLarge, skipped.to_string());
        self.receive().await?.map_err(too_large)
    }

    /// As [`RawConnection::next`]. Tells also what was read over; the dialog goes on behind it.
    pub(crate) async fn receive(&mut self) -> Result<Result<Value, Skipped>, Error> {
        let heard = self.next_of(&|_| true).await?;
        self.reader.begin_answer();
        Ok(heard)
    }

    /// As [`RawConnection::heard`], if all of it has been read and it is not for others to have their turn.
    pub(crate) fn try_receive(&mut self) -> Result<Option<Result<Value, Skipped>>, Error> {
        if self.budget.is_spent() {
            return Ok(None);
        }
        let received = self.decoded(&|_| true)?;
        if received.is_some() {
            self.reader.begin_answer();
        }
        Ok(received)
    }

    async fn next_of(
        &mut self,
        wanted: &(dyn Fn(Incoming) -> bool + Sync),
    ) -> Result<Result<Value, Skipped>, Error> {
        loop {
            self.budget.proceed().await;
            if let Some(value) = self.decoded(wanted)? {
                return Ok(value);
            }
            if !self.reader.is_empty() {
                // There is more of a large value.
                continue;
            }
            poll_fn(|cx| self.poll_exchange(cx)).await?;
        }
    }

    fn decoded(
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

    /// Reads once, and sends what is staged.
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
            return Poll::Ready(Err(Error::new(Kind::Lost, "it closed the connection")));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.taken < self.output.len() {
            let taken = ready!(self.transport.poll_write(cx, &self.output[self.taken..])).map_err(lost)?;
            if taken == 0 {
                return Poll::Ready(Err(lost(io::ErrorKind::WriteZero.into())));
            }
            self.taken += taken;
        }
        (self.output, self.taken) = (Vec::new(), 0);
        self.transport.poll_flush(cx).map_err(lost)
    }

    /// Gives the connection to a driver. The server must have nothing more to say.
    pub(crate) fn into_parts(self) -> Result<ConnectionParts, Error> {
        if !self.reader.is_between_values() {
            return Err(Error::new(Kind::Protocol, "it sent more replies than it was asked for"));
        }
        let Self { transport, reader, connection_id, fences, .. } = self;
        Ok(ConnectionParts { transport, reader, connection_id, fences })
    }
}

fn handshake_limits() -> Limits {
    Limits { max_reply_bytes: MAX_HANDSHAKE_BYTES, ..Limits::default() }
}

/// An answer that cannot be had, as if the server had refused it.
fn refusal(skipped: Skipped) -> Value {
    redis::parse_redis_value(format!("-{TOO_LARGE} {skipped}\r\n").as_bytes()).unwrap_or(Value::Nil)
}

fn lost(cause: io::Error) -> Error {
    let kind = if tls::is_lasting(&cause) { Kind::Tls } else { Kind::Lost };
    Error::caused(kind, "the connection was lost", cause)
}
