//! One attempt at a call: over a shared connection, over one of its own, or as a step of a scan.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Value;

use crate::call::caller::{Caller, Route};
use crate::call::checked_out::check_out;
use crate::call::exchange::{Attempt, Failure, exchange_in_turn, stage_in_turn};
use crate::call::shard_route::ShardRoute;
use crate::conn::link::{Call, ReplySlot};
use crate::error::{Error, Outcome};
use crate::generation::Generation;
use crate::proto::{Reply, ReplyBound};

/// The result of an attempt, and the generation of the connection that it used.
pub(crate) struct Attempted {
    pub(crate) result: Attempt,
    pub(crate) generation: Generation,
}

/// The bounds of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptBounds {
    /// How long it waits for a connection, and for room on it.
    pub(super) wait: Instant,
    /// The deadline of the whole call.
    pub(super) deadline: Option<Instant>,
}

impl Caller {
    /// Sends the call once and waits for the reply. `fences` is raised when another attempt has to go over a connection
    /// that was fenced behind this one.
    ///
    /// # Errors
    /// When there is no connection to send it on.
    pub(super) async fn attempt(
        &mut self,
        call: Call<'_>,
        route: Route,
        bounds: AttemptBounds,
        fences: &mut u64,
    ) -> Result<Attempted, Error> {
        if !self.reads_replicas() {
            self.shard_route.shard.check_writes(call)?;
        }
        let slot = self.slot.take().unwrap_or_default();
        // All but the common route are boxed, so that the future stays small.
        let attempted = match route {
            Route::Shared => self.attempt_shared(call, &slot, bounds).await?,
            Route::Scan => Box::pin(self.scan(call, &slot, bounds)).await?,
            Route::Own(limit) => Box::pin(self.attempt_own(call, &slot, limit, bounds, fences)).await?,
        };
        if attempted.result.is_ok() && !call.is_no_response() {
            self.slot = Some(slot);
        }
        Ok(attempted)
    }

    async fn attempt_shared(
        &mut self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bounds: AttemptBounds,
    ) -> Result<Attempted, Error> {
        let ShardRoute { shard, replica_route, .. } = &mut self.shard_route;
        let link = match replica_route {
            None => self.master_link(bounds.wait).await?,
            Some(replica_route) => {
                let link = replica_route.link(&self.core, shard, self.shared_index, bounds.wait);
                Box::pin(link).await?
            }
        };
        let reply_bound = self.reply_bound(bounds.deadline);
        let link = self.shard_route.link.insert(link);
        let result = match call.is_no_response() {
            true => {
                let staged = stage_in_turn(link, slot, call, reply_bound, &self.core, bounds.wait).await;
                staged.map(|()| Reply::One(Value::Nil)).map_err(Failure::NotSubmitted)
            }
            false => exchange_in_turn(link, slot, call, reply_bound, &self.core, bounds.wait).await,
        };
        Ok(Attempted { result, generation: link.generation })
    }

    /// Sends the call over a dedicated connection, on which it may block for `limit`, or without a limit.
    async fn attempt_own(
        &mut self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        limit: Option<Duration>,
        bounds: AttemptBounds,
        fences: &mut u64,
    ) -> Result<Attempted, Error> {
        let mut own = check_out(&self.core, &self.shard_route.shard, bounds.wait, *fences).await?;
        own.busy = true;
        let reply_bound = ReplyBound { within: limit, by: bounds.deadline };
        // Even here there may be no room at once: the connection's own check may wait for its reply.
        let result = exchange_in_turn(own.link(), slot, call, reply_bound, &self.core, bounds.wait).await;
        own.busy = matches!(result, Err(Failure::Error(_) | Failure::Late(_)));
        if let Err(Failure::Error(error)) = &result
            && error.outcome() == Outcome::MaybeApplied
        {
            *fences = self.record_abandoned(own.link());
        }
        Ok(Attempted { result, generation: own.link().generation })
    }
}
