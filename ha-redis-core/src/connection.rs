//! The handle that callers send commands through.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};

use crate::call::aborted_transaction;
use crate::call::caller::Caller;
use crate::call::future::CallFuture;
use crate::config::RetrySafety;
use crate::conn::link::Call;
use crate::error::{Error, Kind, Outcome};
use crate::proto::{Reply, Transaction};
use crate::retry::RetryPolicy;

/// A handle for commands: cheap to clone; clones share the client's connections. Its calls go to the current master.
/// A handle from [`Client::replica_connection`](crate::Client::replica_connection) reads from replicas.
///
/// With a runtime crate it implements
/// [`redis::aio::ConnectionLike`](https://docs.rs/redis/latest/redis/aio/trait.ConnectionLike.html), so
/// `redis::AsyncCommands`, `cmd`, `pipe`, `Script` and scans work on it.
///
/// # Order
/// The server receives the calls of one handle in order. Between two handles, clones or not, there is no order: they
/// may use different [shared connections](crate::RedisConfig::shared_connections).
///
/// # Waiting and retries
/// A call waits for a connection, and for a server that refuses it for a temporary reason (a failover, a missing
/// replica, loading data), up to `failover_wait`. It waits for its reply up to `socket_timeout`. The client sends it
/// again, up to `retry_attempts` times, when that can do no harm. The error of a call reports what became of it: see
/// [`Outcome`] and [`RedisErrorExt`](crate::RedisErrorExt).
///
/// # Commands with special treatment
/// - **Blocking commands** (`BLPOP`, `XREAD BLOCK`, …) use connections of their own, and take their time limit from
///   their argument.
/// - **Commands that would change the connection for everybody** (`WATCH`, `SELECT`, `SUBSCRIBE`, unknown subcommands
///   of `CLIENT`, …) are refused before they are sent. Use a [`DedicatedConnection`](crate::DedicatedConnection) or
///   [`PubSub`](crate::PubSub).
/// - **`WAIT`** by itself is refused, because it asks about the writes of its own connection. Send it in a pipeline,
///   behind them.
/// - **A scan** continues only on the server process that gave its cursor. After a failover or a restart its next step
///   fails; start again with cursor 0.
/// - **`set_no_response(true)`**: the call returns nil as soon as the command is staged for sending, and its reply is
///   read and dropped. Errors before that are returned, later ones are not. In a pipeline it has no effect, and the
///   reply of a blocking command is awaited.
///
/// # Cancellation safety
/// A call that is dropped before its end may or may not run on the server. No other call ever sees its reply.
#[derive(Debug)]
pub struct Connection {
    caller: Caller,
}

impl Clone for Connection {
    fn clone(&self) -> Self {
        Self { caller: self.caller.fork() }
    }
}

impl Connection {
    pub(crate) fn new(caller: Caller) -> Self {
        Self { caller }
    }

    /// Sets which calls of this handle may be sent again when their reply is lost. For one call:
    /// `redis.clone().with_retry_safety(RetrySafety::Anything).incr("visits", 1)`.
    #[must_use]
    pub fn with_retry_safety(mut self, safety: RetrySafety) -> Self {
        self.caller.options_mut().set_safety(safety);
        self
    }

    /// Sets the retry policy for the calls of this handle.
    #[must_use]
    pub fn with_retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.caller.options_mut().set_policy(policy);
        self
    }

    /// Sets how long a call of this handle may take, with all its waits and attempts; `None` removes the limit.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.caller.options_mut().set_timeout(timeout.into());
        self
    }

    pub(crate) fn without_retries(self) -> Self {
        self.with_retry_policy(RetryPolicy::never())
    }

    /// Returns the handle for calls that report refusals immediately, even temporary ones.
    pub(crate) fn without_refusal_waits(mut self) -> Self {
        self.caller.options_mut().report_refusals();
        self
    }

    /// Sends a command and returns the reply. An error reply is a [`Value::ServerError`].
    ///
    /// # Errors
    /// If no reply arrived, or the command could not be sent: see [`Error`].
    pub async fn request(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.requesting(command).await
    }

    fn requesting<'a>(&'a mut self, command: &'a Cmd) -> Requesting<'a> {
        Requesting(self.caller.call(Call::Command(command)))
    }

    /// Sends a pipeline and returns one value for each command. For an atomic pipeline it returns one value: the
    /// commands' values as `EXEC` returned them, or nil.
    ///
    /// # Errors
    /// When no reply came, or none could come; and when the server discarded the transaction.
    pub async fn request_pipeline(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        if pipeline.is_empty() && !pipeline.is_transaction() {
            return Ok(Vec::new());
        }
        values(pipeline, self.caller.call(Call::Pipeline(pipeline)).await?).await
    }
}

/// A command in flight. A hand-written future, like [`CallFuture`].
struct Requesting<'a>(CallFuture<'a>);

impl Future for Requesting<'_> {
    type Output = RedisResult<Value>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RedisResult<Value>> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(Reply::One(value)) => Ok(value),
            Ok(Reply::Many(_)) => Err(out_of_step()),
            Err(error) => Err(error.into()),
        })
    }
}

/// Returns the values for the caller of a pipeline.
pub(crate) async fn values(pipeline: &Pipeline, reply: Reply) -> RedisResult<Vec<Value>> {
    let replies = match reply {
        Reply::Many(replies) => replies,
        Reply::One(_) => return Err(out_of_step()),
    };
    if !pipeline.is_transaction() {
        return Ok(replies);
    }
    match Transaction::read(replies) {
        Transaction::Executed(values) => Ok(vec![values]),
        Transaction::Aborted { commands, exec } => Err(aborted_transaction::error(&commands, exec).await),
        Transaction::NotAtomic(why) => {
            let message = format!("the commands did not run as a transaction: {why}");
            Err(Error::new(Kind::Refused, message).with_outcome(Outcome::Ran).into())
        }
    }
}

pub(crate) fn out_of_step() -> RedisError {
    let error = Error::new(Kind::Protocol, "the kind of reply does not match the request");
    error.with_outcome(Outcome::Ran).into()
}

#[cfg(feature = "aio")]
impl redis::aio::ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> redis::RedisFuture<'a, Value> {
        Box::pin(self.requesting(cmd))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> redis::RedisFuture<'a, Vec<Value>> {
        // redis-rs expects what `request_pipeline` returns: all replies, or only that of EXEC.
        debug_assert!(cmd.is_transaction() || (offset == 0 && count == cmd.len()));
        Box::pin(self.request_pipeline(cmd))
    }

    fn get_db(&self) -> i64 {
        i64::from(self.caller.db())
    }
}
