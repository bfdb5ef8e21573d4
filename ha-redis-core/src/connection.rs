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

/// A connection to the master, whichever server that is: cheap to clone, and shared underneath. One from
/// [`Client::replica_connection`](crate::Client::replica_connection) reads from its replicas.
///
/// A handle sends its calls one after another over one connection. Between two handles, clones or not, there is no
/// order: they may use different [lanes](crate::RedisConfig::shared_connections).
///
/// With a runtime crate it implements [`redis::aio::ConnectionLike`], so that `redis::AsyncCommands`, `cmd`,
/// `pipe`, `Script` and scans work on it. A scan goes on only at the server process that gave its cursor: after a failover
/// or a restart its next step fails, and it is to begin again with cursor 0.
///
/// A call waits for a connection as long as `failover_wait`, and as long for a server that refuses it for a reason that
/// passes (a failover, a replica that is missing, data that is loaded); for its reply it waits as long as
/// `socket_timeout`. It is sent again, up to `retry_attempts` times, when that can do no harm. A call that fails tells
/// what became of it: see [`Outcome`] and [`RedisErrorExt`](crate::RedisErrorExt).
///
/// A command that is marked `set_no_response(true)` is sent; its reply is read and dropped, and the call returns nil as
/// soon as the command is on its way. What goes wrong before that is told, what goes wrong later is not. In a
/// pipeline the mark means nothing, and a command that waits on the server is waited for.
///
/// Commands that wait on the server (`BLPOP`, `XREAD BLOCK`, …) leave the shared connection by themselves
/// for one of their own, and take their time limit from their own argument. Those that would change the
/// connection for everybody (`WATCH`, `SELECT`, `SUBSCRIBE`, subcommands of `CLIENT` that are not known, …) are refused
/// before they are sent: see
/// [`DedicatedConnection`](crate::DedicatedConnection) and [`PubSub`](crate::PubSub). So is `WAIT` by itself, which asks about the writes of its own
/// connection: it belongs into a pipeline behind them.
///
/// # Cancellation safety
/// A call that is dropped before its end may or may not run on the server. The connection stays in step: no
/// other call ever sees its reply.
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

    /// The same connection for calls of which more, or fewer, may be sent again when their reply is lost. For one
    /// call: `redis.clone().with_retry_safety(RetrySafety::Anything).incr("visits", 1)`.
    #[must_use]
    pub fn with_retry_safety(mut self, safety: RetrySafety) -> Self {
        self.caller.options_mut().safety = safety;
        self
    }

    /// The same connection for calls by another retry policy.
    #[must_use]
    pub fn with_retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.caller.options_mut().policy = policy;
        self
    }

    /// The same connection for calls that take at most so long, with all their waits and attempts; `None` for no such
    /// bound.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.caller.options_mut().timeout = timeout.into();
        self
    }

    pub(crate) fn without_retries(self) -> Self {
        self.with_retry_policy(RetryPolicy::never())
    }

    /// The same connection for calls that tell of a refusal also when it may pass.
    pub(crate) fn without_refusal_waits(mut self) -> Self {
        self.caller.options_mut().waits_for_refusals = false;
        self
    }

    /// Sends a command. An error that the server answers with is a [`Value::ServerError`].
    ///
    /// # Errors
    /// When no reply came, or none could come: see [`Error`].
    pub async fn request(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.requesting(command).await
    }

    fn requesting<'a>(&'a mut self, command: &'a Cmd) -> Requesting<'a> {
        Requesting(self.caller.call(Call::Command(command)))
    }

    /// Sends a pipeline: one value a command, or, when it is atomic, the commands' values as EXEC gave them (or
    /// nil), as one.
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

/// A command on its way. By hand, as [`CallFuture`] is.
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

/// The values that a pipeline's caller gets.
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
        Transaction::Torn(why) => {
            let message = format!("the transaction did not run as one: {why}");
            Err(Error::new(Kind::Refused, message).with_outcome(Outcome::Ran).into())
        }
    }
}

pub(crate) fn out_of_step() -> RedisError {
    let error = Error::new(Kind::Protocol, "a reply had another shape than its request");
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
        // redis-rs asks for what `request_pipeline` returns: all replies, or EXEC's alone.
        debug_assert!(cmd.is_transaction() || (offset == 0 && count == cmd.len()));
        Box::pin(self.request_pipeline(cmd))
    }

    fn get_db(&self) -> i64 {
        i64::from(self.caller.config().db())
    }
}
