//! One call from its first attempt to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;
use redis::Value;

use crate::call::checked_out::borrow;
use crate::call::exchange::{
    Attempt, Awaited, Failure, LateReply, exchange_in_turn, overloaded, stage_in_turn, wait_on,
};
use crate::call::future::CallFuture;
use crate::call::refused::{Refusals, refused, told};
use crate::call::replica_route::ReplicaRoute;
use crate::call::scans::Scanning;
use crate::command::{Safety, Scan};
use crate::conn::link::{Call, Link, ReplySlot, SubmitError};
use crate::error::{Error, Kind, Outcome};
use crate::generation::Generation;
use crate::node::core::ClientGuard;
use crate::node::shard::{CallEvent, Shard};
use crate::proto::{Reply, ReplyBound};
use crate::replica_choice::ReplicaChoice;
use crate::retry::{Backoff, CallOptions, Decision, RetrySession};
use crate::routing::RoutingTable;
use crate::sync::Seen;
use crate::tasks::start::{start, start_replica_probes};
use crate::time::sleep_until;

/// Sends calls, one at a time, over the connection that is in use now, and again where that is allowed.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(super) core: Arc<ClientGuard>,
    /// The shards, as they were at the last call.
    table: Seen<RoutingTable<Shard>>,
    /// The shard of the last call.
    pub(super) shard: Arc<Shard>,
    shared_index: usize,
    /// How this handle's calls are repeated, and how long they may take. Shared, as handles are many.
    pub(super) options: Arc<CallOptions>,
    /// How this handle finds replicas to read from; `None` when it goes to the master.
    replica_route: Option<Box<ReplicaRoute>>,
    /// The connection of the last call: most likely that of the next.
    pub(super) link: Option<Arc<Link>>,
    /// Who gave this handle the cursors of its scans at the master.
    pub(super) scanning: Option<Box<Scanning>>,
    /// For a repeat that its caller makes: how many connections had been given up before.
    fences: Option<u64>,
    /// Kept from call to call. A call that is dropped on its way takes the slot with it.
    pub(super) slot: Option<Arc<ReplySlot>>,
}

/// Which connection a call goes over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    /// The one that the handle shares with others.
    Shared,
    /// The same for steps of scans, which go on at the server process that gave their cursors.
    Scan,
    /// One of its own, since the server may let it wait: at most so long, or for ever.
    Own(Option<Duration>),
}

impl Caller {
    pub(crate) fn new(core: Arc<ClientGuard>, options: Arc<CallOptions>) -> Self {
        let shared_index = core.next_shared_connection();
        let table = Seen::of(&core.routing);
        Self {
            shard: Arc::clone(table.value().first()),
            table,
            core,
            shared_index,
            options,
            replica_route: None,
            link: None,
            scanning: None,
            fences: None,
            slot: None,
        }
    }

    /// The same for one attempt of several that their caller makes, all over `shared_index`: behind so many fences.
    pub(crate) fn repeating(mut self, shared_index: usize, fences: u64) -> Self {
        (self.shared_index, self.fences) = (shared_index, Some(fences));
        self
    }

    /// The same for calls that replicas answer.
    pub(crate) fn reading_replicas(mut self, choice: Arc<dyn ReplicaChoice>) -> Self {
        self.replica_route = Some(Box::new(ReplicaRoute::new(choice, &self.shard)));
        self
    }

    pub(crate) fn fork(&self) -> Self {
        let replica_route =
            self.replica_route.as_ref().map(|replica_route| Box::new(replica_route.fork(&self.shard)));
        let fork = Self { replica_route, ..Self::new(Arc::clone(&self.core), Arc::clone(&self.options)) };
        match self.fences {
            Some(fences) => fork.repeating(self.shared_index, fences),
            None => fork,
        }
    }

    /// The options of this handle alone.
    pub(crate) fn options_mut(&mut self) -> &mut CallOptions {
        Arc::make_mut(&mut self.options)
    }

    /// Turns to the shard that owns the key of a call.
    #[inline]
    pub(super) fn route(&mut self, call: Call<'_>) {
        let table = self.table.refresh(&self.core.routing);
        if !table.owns_all(&self.shard) {
            self.turn_to_shard_of(call);
        }
    }

    #[cold]
    fn turn_to_shard_of(&mut self, call: Call<'_>) {
        let shard = self.table.value().shard_for(call.routing_key());
        if !Arc::ptr_eq(shard, &self.shard) {
            // What a handle has of one shard means nothing to another.
            (self.link, self.scanning) = (None, None);
            self.shard = Arc::clone(shard);
            if let Some(replica_route) = &mut self.replica_route {
                **replica_route = replica_route.fork(&self.shard);
            }
        }
    }

    /// Turns to the connection that is in use, if the one of the last call is there no more.
    pub(super) fn find_link(&mut self) {
        if self.link.is_none() {
            self.link = self.shard.ready_link(self.shared_index).and_then(Result::ok);
        }
    }

    /// Whether its calls have no time at all.
    pub(super) fn is_late(&self) -> bool {
        self.options.timeout.is_some_and(|timeout| timeout.is_zero())
    }

    #[cfg(feature = "aio")]
    pub(crate) fn config(&self) -> &crate::config::RedisConfig {
        &self.core.config
    }

    pub(crate) fn reads_replicas(&self) -> bool {
        self.replica_route.is_some()
    }

    /// Turns to the replica that the next call is to go to.
    pub(crate) fn take_turn(&mut self, scan: Option<Scan>) {
        if let Some(replica_route) = &mut self.replica_route {
            self.link = replica_route.turn(&self.shard, self.link.take(), scan);
        }
    }

    /// Runs a call to its end: at most one attempt and the policy's retries, each with the reply timeout, and
    /// waits of at most `failover_wait` for a connection before each.
    pub(crate) fn call<'a>(&'a mut self, call: Call<'a>) -> CallFuture<'a> {
        CallFuture::new(self, call)
    }

    /// The rest of a call whose `first` attempt, if there was one, has not ended it.
    pub(super) async fn slow_path(
        &mut self,
        call: Call<'_>,
        route: Route,
        deadline: Option<Instant>,
        first: Option<(Attempt, Generation)>,
    ) -> Result<Reply, Error> {
        // An earlier attempt may have run, whatever became of the last one.
        let mut in_doubt = false;
        let ended = self.retry_loop(call, route, deadline, first, &mut in_doubt).await;
        if let (Route::Scan, Ok(reply)) = (route, &ended) {
            self.remember_cursors(call, reply);
        }
        let known = |outcome| if in_doubt { Outcome::MaybeApplied } else { outcome };
        let ended = ended.map_err(|error| {
            let outcome = known(error.outcome());
            error.with_outcome(outcome)
        });
        self.record(match &ended {
            Ok(reply) if refused(call, reply).is_some() => CallEvent::Failed(known(Outcome::NotApplied)),
            Ok(_) => CallEvent::Succeeded,
            Err(error) => CallEvent::Failed(error.outcome()),
        });
        ended.map(|reply| match call.is_no_response() {
            true => Reply::One(Value::Nil),
            false => told(call, reply, in_doubt),
        })
    }

    async fn retry_loop(
        &mut self,
        call: Call<'_>,
        route: Route,
        deadline: Option<Instant>,
        mut first: Option<(Attempt, Generation)>,
        in_doubt: &mut bool,
    ) -> Result<Reply, Error> {
        start(&self.core, deadline).await?;
        if self.reads_replicas() {
            start_replica_probes(&self.core)?;
        }
        let mut session = self.options.policy.session(deadline);
        let mut bound = self.wait_bound(deadline);
        let mut unsent = 0;
        let mut refusals = Refusals::new(self.core.runtime.now());
        let mut fences = self.fences.unwrap_or(0);
        loop {
            let sent = refusals.sent(call, self.core.runtime.now());
            let (attempt, generation) = match first.take() {
                Some(attempt) => attempt,
                None if deadline.is_some_and(|deadline| deadline <= self.core.runtime.now()) => {
                    return refusals.last_or(too_late());
                }
                None => match self.attempt(sent, route, bound, deadline, &mut fences).await {
                    Ok(attempt) => attempt,
                    Err(error) => return refusals.last_or(error),
                },
            };
            let error = match attempt {
                Ok(reply) => {
                    let Some(refusal) = refused(call, &reply) else { return Ok(reply) };
                    match self.wait_out(call, refusal, &mut refusals, deadline, generation).await {
                        Some(until) => (bound, refusals.last) = (until, Some(reply)),
                        None => return Ok(reply),
                    }
                    // Of a pipeline, what may run again has run.
                    *in_doubt |= refusal.ran > Safety::ReadOnly;
                    continue;
                }
                // The fast path has found no room; with a place in the queue, the wait has ended in vain.
                Err(Failure::NotSubmitted(SubmitError::Full)) if self.core.runtime.now() < bound => continue,
                Err(Failure::NotSubmitted(SubmitError::Full)) => return Err(overloaded()),
                Err(Failure::NotSubmitted(SubmitError::ReadOnly(why))) => return Err(why),
                // Waiting for a connection is no attempt.
                Err(Failure::NotSubmitted(
                    SubmitError::Held | SubmitError::Silent | SubmitError::Ended(_),
                )) => {
                    self.link = None;
                    continue;
                }
                Err(Failure::Late(late)) => match self.decide(&mut session, call, Outcome::MaybeApplied) {
                    Decision::RetryAt(_) if self.core.budget.take() => {
                        self.record(CallEvent::Retried);
                        first = self.await_late(late, generation, in_doubt, &mut fences).await;
                        bound = self.wait_bound(deadline);
                        continue;
                    }
                    Decision::RetryAt(_) | Decision::GiveUp => return Err(late.into_error(&self.core)),
                },
                Err(Failure::Error(error)) => {
                    self.drop_link();
                    if error.outcome() == Outcome::NotSent && self.core.runtime.now() < bound {
                        self.pace(route, unsent, bound, generation).await;
                        unsent += 1;
                        continue;
                    }
                    *in_doubt |= error.outcome() == Outcome::MaybeApplied;
                    error
                }
            };
            match self.decide(&mut session, call, error.outcome()) {
                Decision::RetryAt(at) if self.core.budget.take() => {
                    self.record(CallEvent::Retried);
                    self.pause_before(at, generation, true).await;
                }
                Decision::RetryAt(_) | Decision::GiveUp => return Err(error),
            }
            bound = self.wait_bound(deadline);
        }
    }

    /// Waits on for a reply that is late, in place of another attempt: behind itself, a copy on the same connection would
    /// only run twice. Nothing is returned when the connection has ended, so that the attempt is made on another one.
    async fn await_late(
        &mut self,
        late: LateReply,
        generation: Generation,
        in_doubt: &mut bool,
        fences: &mut u64,
    ) -> Option<(Attempt, Generation)> {
        match wait_on(&self.core, late).await {
            Awaited::Reply(reply) => Some((Ok(reply), generation)),
            Awaited::StillLate(late) => Some((Err(Failure::Late(late)), generation)),
            Awaited::Ended { link, error } => {
                *in_doubt |= error.outcome() == Outcome::MaybeApplied;
                *fences = self.record_given_up(&link);
                self.drop_link();
                None
            }
        }
    }

    /// Tells the report of an outage of the master, to which reads from replicas do not belong.
    pub(super) fn record(&self, event: CallEvent) {
        if !self.reads_replicas() {
            self.shard.on_call(event, || self.core.runtime.now());
        }
    }

    /// Waits before a connection of one's own is asked for again; the shared one is paced by its task.
    async fn pace(&self, route: Route, unsent: u32, bound: Instant, generation: Generation) {
        if let Route::Own(_) = route {
            let pause = Backoff::RECONNECT.delay(unsent, self.core.runtime.random());
            self.pause((self.core.runtime.now() + pause).min(bound), generation).await;
        }
    }

    fn decide(&self, session: &mut RetrySession, call: Call<'_>, outcome: Outcome) -> Decision {
        let (now, random) = (self.core.runtime.now(), self.core.runtime.random());
        match call {
            // Once written, a transaction is not repeated, whatever its caller allows.
            Call::Pipeline(pipeline)
                if pipeline.is_transaction()
                    && outcome == Outcome::MaybeApplied
                    && !self.reads_replicas() =>
            {
                Decision::GiveUp
            }
            _ => session.decide(outcome, self.safety_of(call), self.options.safety, now, random),
        }
    }

    fn safety_of(&self, call: Call<'_>) -> Safety {
        match self.reads_replicas() {
            // Nothing else is sent to a replica.
            true => Safety::ReadOnly,
            false => call.safety(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        // Too far away to be told is no deadline.
        self.options.timeout.and_then(|timeout| self.core.runtime.now().checked_add(timeout))
    }

    pub(super) fn wait_bound(&self, deadline: Option<Instant>) -> Instant {
        let bound = self.core.runtime.now() + self.core.config.failover_wait();
        deadline.map_or(bound, |deadline| deadline.min(bound))
    }

    pub(super) fn reply_bound(&self, deadline: Option<Instant>) -> ReplyBound {
        ReplyBound { within: Some(self.core.config.socket_timeout()), by: deadline }
    }

    async fn attempt(
        &mut self,
        call: Call<'_>,
        route: Route,
        bound: Instant,
        deadline: Option<Instant>,
        fences: &mut u64,
    ) -> Result<(Attempt, Generation), Error> {
        if !self.reads_replicas() {
            self.shard.check_writes(call)?;
        }
        let slot = self.slot.take().unwrap_or_default();
        let attempt = match route {
            Route::Shared => {
                let link = match &mut self.replica_route {
                    None => self.master_link(bound).await?,
                    // Boxed for the same reason as below.
                    Some(replica_route) => {
                        Box::pin(replica_route.link(&self.core, &self.shard, self.shared_index, bound))
                            .await?
                    }
                };
                let reply_bound = self.reply_bound(deadline);
                let link = self.link.insert(link);
                if call.is_no_response() {
                    let staged = stage_in_turn(link, &slot, call, reply_bound, &self.core, bound).await;
                    let generation = link.generation;
                    return Ok((
                        staged.map(|()| Reply::One(Value::Nil)).map_err(Failure::NotSubmitted),
                        generation,
                    ));
                }
                (exchange_in_turn(link, &slot, call, reply_bound, &self.core, bound).await, link.generation)
            }
            // Boxed for the same reason as below.
            Route::Scan => Box::pin(self.scan(call, &slot, bound, deadline)).await?,
            Route::Own(limit) => {
                let mut borrowed = borrow(&self.core, &self.shard, bound, *fences).await?;
                borrowed.busy = true;
                let reply_bound = ReplyBound { within: limit, by: deadline };
                // Even here there may be no room at once: the connection's own check may wait for its answer.
                let link = borrowed.link();
                let attempt = exchange_in_turn(link, &slot, call, reply_bound, &self.core, bound).await;
                borrowed.busy = matches!(attempt, Err(Failure::Error(_) | Failure::Late(_)));
                if let Err(Failure::Error(error)) = &attempt
                    && error.outcome() == Outcome::MaybeApplied
                {
                    *fences = self.record_given_up(borrowed.link());
                }
                (attempt, borrowed.link().generation)
            }
        };
        if attempt.0.is_ok() {
            self.slot = Some(slot);
        }
        Ok(attempt)
    }

    /// The shared connection to the master that this handle uses.
    pub(super) async fn master_link(&self, bound: Instant) -> Result<Arc<Link>, Error> {
        if let Some(ready) = self.shard.ready_link(self.shared_index) {
            return ready;
        }
        let link = self.shard.link(self.shared_index, &*self.core.runtime, bound).await?;
        self.record(CallEvent::Held);
        Ok(link)
    }

    /// What was sent over this connection may still reach the server: a repeat goes over one that is fenced behind so many.
    fn record_given_up(&self, link: &Link) -> u64 {
        self.core.fences.add(link);
        self.core.fences.count()
    }

    /// Leaves a connection on which an attempt has failed.
    pub(super) fn drop_link(&mut self) {
        let left = self.link.take();
        if let Some(replica_route) = &mut self.replica_route {
            replica_route.avoid(left);
        }
    }

    /// Waits before the next attempt, unless the call may `move_on` and another server can answer it at once.
    pub(super) async fn pause_before(&mut self, at: Instant, generation: Generation, move_on: bool) {
        let Some(replica_route) = &mut self.replica_route else {
            return self.pause(at, generation).await;
        };
        if !(move_on && replica_route.can_move_on(&self.core, &self.shard)) {
            sleep_until(&*self.core.runtime, at).await;
        }
    }

    /// Waits until `until`; news of another master ends the wait.
    async fn pause(&self, until: Instant, generation: Generation) {
        let runtime = &*self.core.runtime;
        future::or(sleep_until(runtime, until), self.shard.master_changed(generation)).await;
    }
}

fn too_late() -> Error {
    Error::new(Kind::Timeout, "the time of the call was over before it was sent")
}
