//! A connection for one caller.

use std::sync::Arc;
use std::time::Instant;

use futures_lite::future;
use redis::{Cmd, Pipeline, RedisResult, Value};

use crate::call::checked_out::{CheckedOut, check_out};
use crate::call::exchange::{Attempt, Failure, exchange_in_turn, overloaded, stage_in_turn};
use crate::call::future::not_allowed;
use crate::call::refused::{annotated, refused};
use crate::command::{
    Placement, Safety, pipeline_placement, pipeline_placement_on_dedicated, placement, placement_on_dedicated,
};
use crate::conn::driver::unresponsive;
use crate::conn::link::ReplySlot;
use crate::conn::link::{Call, SubmitError};
use crate::connection::{out_of_step, values};
use crate::error::{Error, Kind, Outcome};
use crate::node::core::ClientGuard;
use crate::node::shard::Shard;
use crate::proto::{Reply, ReplyBound};
use crate::retry::RefusalWait;
use crate::tasks::start::start;
use crate::time::{sleep_until, until};

/// A connection to the master that nobody else uses, from [`Client::dedicated`](crate::Client::dedicated): for
/// `WATCH`, for `MULTI` by hand, or for another database. [`Client::dedicated`](crate::Client::dedicated) has an
/// example.
///
/// It stays connected to the same server. When the connection ends, for example because of a failover, every further
/// call fails as not sent. The client does not retry such a call, because the server has forgotten what `WATCH`
/// watched. Drop the connection and take another one.
///
/// When the server refuses a call for a reason that is temporary on the same server, such as `NOREPLICAS`, the call
/// waits, as on other handles. It does not wait once the caller has changed the connection's own state, because a
/// refused transaction has forgotten what `WATCH` watched. A refusal that needs another master is returned at once.
///
/// Dropping the connection gives it back to the client. The client closes it when the caller has changed its state, or
/// when a reply is outstanding.
///
/// # Cancellation safety
/// A call that is dropped before its end may or may not run on the server. A later call never sees its reply. Dropping
/// the connection after that closes it, which ends a blocking command on the server.
#[derive(Debug)]
pub struct DedicatedConnection {
    core: Arc<ClientGuard>,
    shard: Arc<Shard>,
    borrowed: CheckedOut,
}

impl DedicatedConnection {
    pub(crate) async fn take(core: &Arc<ClientGuard>) -> Result<Self, Error> {
        let config = core.config();
        let wait = config.failover_wait();
        let wait = config.call_timeout().map_or(wait, |timeout| timeout.min(wait));
        let bound = core.runtime.now() + wait;
        start(core, Some(bound)).await?;
        let shard = core.first_shard();
        let borrowed = check_out(core, &shard, bound, 0).await?;
        Ok(Self { core: Arc::clone(core), shard, borrowed })
    }

    /// Sends a command and returns the reply. An error reply is a [`Value::ServerError`].
    ///
    /// # Errors
    /// When no reply came, or none could come: see [`Error`].
    pub async fn request(&mut self, command: &Cmd) -> RedisResult<Value> {
        let changes_state = matches!(placement(command), Placement::Refused(_));
        let call = Call::Command(command);
        match self.call(call, placement_on_dedicated(command), changes_state).await? {
            Reply::One(value) => Ok(value),
            Reply::Many(_) => Err(out_of_step()),
        }
    }

    /// Sends a pipeline and returns its values, as
    /// [`Connection::request_pipeline`](crate::Connection::request_pipeline) does.
    ///
    /// # Errors
    /// When no reply came, or none could come; and when the server discarded the transaction.
    pub async fn request_pipeline(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        if pipeline.is_empty() && !pipeline.is_transaction() {
            return Ok(Vec::new());
        }
        let changes_state = matches!(pipeline_placement(pipeline), Placement::Refused(_));
        let call = Call::Pipeline(pipeline);
        let placement = pipeline_placement_on_dedicated(pipeline);
        values(pipeline, self.call(call, placement, changes_state).await?).await
    }

    async fn call(
        &mut self,
        call: Call<'_>,
        placement: Placement,
        changes_state: bool,
    ) -> Result<Reply, Error> {
        let config = self.core.config();
        let timeout = config.socket_timeout();
        let within = match placement {
            Placement::Shared | Placement::Scan | Placement::Urgent => Some(timeout),
            Placement::Blocking { limit } => limit.map(|limit| limit.saturating_add(timeout)),
            Placement::Refused(refusal) => return Err(not_allowed(refusal)),
        };
        self.borrowed.tainted |= changes_state;
        let now = self.core.runtime.now();
        let by = config.call_timeout().map(|timeout| now + timeout);
        let bound = now + config.failover_wait();
        let bound = by.map_or(bound, |by| by.min(bound));
        let reply_bound = ReplyBound { within, by };
        let slot = Arc::new(ReplySlot::default());
        let mut refusals = RefusalWait::default();
        loop {
            let attempt = match placement {
                Placement::Shared if call.is_no_response() => {
                    self.send(call, &slot, reply_bound, bound).await
                }
                _ => self.exchange(call, &slot, reply_bound, bound).await,
            };
            match attempt {
                Ok(_) if call.is_no_response() => return Ok(Reply::One(Value::Nil)),
                Ok(reply) if self.handle_refusal(call, &reply, &mut refusals, by).await => {}
                Ok(reply) => return Ok(annotated(call, reply, false)),
                Err(Failure::Error(error)) => return Err(error),
                Err(Failure::Late(late)) => return Err(late.into_error(&self.core)),
                Err(Failure::NotSubmitted(SubmitError::Ended(why) | SubmitError::ReadOnly(why))) => {
                    return Err(why.with_outcome(Outcome::NotSent));
                }
                Err(Failure::NotSubmitted(SubmitError::Full)) => return Err(overloaded()),
                Err(Failure::NotSubmitted(SubmitError::Silent)) => {
                    let why = unresponsive(&self.borrowed.link().address, timeout);
                    return Err(why.with_outcome(Outcome::NotSent));
                }
                // A failover is in progress: it ends this connection, or is aborted.
                Err(Failure::NotSubmitted(SubmitError::Held)) => {
                    let released = until(&*self.core.runtime, bound, self.shard.released()).await;
                    if released.is_err() || self.core.runtime.now() >= bound {
                        return Err(Error::new(
                            Kind::Timeout,
                            "timed out while commands were held during a failover",
                        ));
                    }
                }
            }
        }
    }

    /// Returns true if the call should be sent again: the refusal was temporary, and its wait is over.
    async fn handle_refusal(
        &self,
        call: Call<'_>,
        reply: &Reply,
        refusals: &mut RefusalWait,
        by: Option<Instant>,
    ) -> bool {
        let Some(refusal) = refused(call, reply) else { return false };
        let core = &self.core;
        let generation = self.borrowed.link().generation;
        if refusal.not_master {
            // Share what this call found out. Its own connection stays where it is.
            self.shard.on_not_master(generation, core.runtime.now());
            return false;
        }
        // A refused EXEC has dropped the watched keys and the queued commands: sent again, it would be another
        // transaction.
        if refusal.ran > Safety::ReadOnly || self.borrowed.tainted {
            return false;
        }
        let (now, random) = (core.runtime.now(), core.runtime.random());
        let bound = now + core.config().failover_wait();
        let bound = by.map_or(bound, |by| by.min(bound));
        let Some((at, _)) = refusals.next(bound, now, random) else { return false };
        future::or(sleep_until(&*core.runtime, at), self.shard.master_changed(generation)).await;
        true
    }

    async fn exchange(
        &mut self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        reply_bound: ReplyBound,
        bound: Instant,
    ) -> Attempt {
        // An earlier call may still have a reply outstanding, which arrives first.
        let owed = std::mem::replace(&mut self.borrowed.busy, true);
        let link = self.borrowed.link();
        let attempt = exchange_in_turn(link, slot, call, reply_bound, &self.core, bound).await;
        self.borrowed.busy = match &attempt {
            Ok(_) => false,
            Err(Failure::Error(_) | Failure::Late(_)) => true,
            Err(Failure::NotSubmitted(_)) => owed,
        };
        // Replies come in order.
        self.borrowed.has_unread_replies &= attempt.is_err();
        attempt
    }

    /// Sends a call without waiting for its reply.
    async fn send(
        &mut self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        reply_bound: ReplyBound,
        bound: Instant,
    ) -> Attempt {
        let link = self.borrowed.link();
        let staged = stage_in_turn(link, slot, call, reply_bound, &self.core, bound).await;
        self.borrowed.has_unread_replies |= staged.is_ok();
        staged.map(|()| Reply::One(Value::Nil)).map_err(Failure::NotSubmitted)
    }
}

#[cfg(feature = "aio")]
impl redis::aio::ConnectionLike for DedicatedConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> redis::RedisFuture<'a, Value> {
        Box::pin(self.request(cmd))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> redis::RedisFuture<'a, Vec<Value>> {
        debug_assert!(cmd.is_transaction() || (offset == 0 && count == cmd.len()));
        Box::pin(self.request_pipeline(cmd))
    }

    fn get_db(&self) -> i64 {
        i64::from(self.core.config().db())
    }
}
