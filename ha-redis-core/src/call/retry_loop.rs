//! A call that the fast path has not finished: attempts, waits and repeats, until its end.

use std::time::Instant;

use redis::Value;

use crate::call::attempt::{AttemptBounds, Attempted};
use crate::call::caller::{Caller, Route};
use crate::call::exchange::{Awaited, Failure, LateReply, overloaded, wait_on};
use crate::call::refused::{Refusals, annotated, refused};
use crate::command::Safety;
use crate::conn::link::{Call, SubmitError};
use crate::error::{Error, Kind, Outcome};
use crate::generation::Generation;
use crate::node::shard::CallEvent;
use crate::proto::Reply;
use crate::retry::{Backoff, Decision, RetrySession};
use crate::tasks::start::{start, start_replica_probes};

impl Caller {
    /// The rest of a call whose `first` attempt, if there was one, has not ended it.
    pub(super) async fn slow_path(
        &mut self,
        call: Call<'_>,
        route: Route,
        deadline: Option<Instant>,
        first: Option<Attempted>,
    ) -> Result<Reply, Error> {
        let mut retries = RetryLoop::new(self, call, route, deadline);
        let ended = retries.run(first).await;
        let in_doubt = retries.in_doubt;
        if let (Route::Scan, Ok(reply)) = (route, &ended) {
            self.remember_cursors(call, reply);
        }
        // An earlier attempt may have run, whatever became of the last one.
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
            false => annotated(call, reply, in_doubt),
        })
    }
}

/// The state of a call between its attempts.
struct RetryLoop<'c, 'a> {
    caller: &'c mut Caller,
    call: Call<'a>,
    route: Route,
    deadline: Option<Instant>,
    session: RetrySession,
    refusals: Refusals,
    /// How long the next attempt waits for a connection.
    bound: Instant,
    /// How many attempts failed before they were sent.
    unsent: u32,
    /// The next attempt uses a connection that was fenced after this many connections had been abandoned.
    fences: u64,
    /// Whether an attempt may have run without its reply.
    in_doubt: bool,
}

/// What to do after an attempt.
enum Next {
    Attempt,
    /// The wait for a late reply is over: the reply has arrived, or it is still missing.
    Attempted(Attempted),
    Done(Result<Reply, Error>),
}

impl<'c, 'a> RetryLoop<'c, 'a> {
    fn new(caller: &'c mut Caller, call: Call<'a>, route: Route, deadline: Option<Instant>) -> Self {
        Self {
            session: caller.options().policy.session(deadline),
            refusals: Refusals::new(caller.core.runtime.now()),
            bound: caller.wait_bound(deadline),
            unsent: 0,
            fences: caller.fences.unwrap_or(0),
            in_doubt: false,
            caller,
            call,
            route,
            deadline,
        }
    }

    async fn run(&mut self, first: Option<Attempted>) -> Result<Reply, Error> {
        start(&self.caller.core, self.deadline).await?;
        if self.caller.reads_replicas() {
            start_replica_probes(&self.caller.core)?;
        }
        // Starting may have taken a while.
        self.bound = self.caller.wait_bound(self.deadline);
        self.refusals = Refusals::new(self.now());
        let mut next = first.map_or(Next::Attempt, Next::Attempted);
        loop {
            let attempted = match next {
                Next::Done(result) => return result,
                Next::Attempted(attempted) => attempted,
                Next::Attempt => match self.attempt().await {
                    Ok(attempted) => attempted,
                    Err(error) => return self.refusals.last_or(error),
                },
            };
            next = self.after(attempted).await;
        }
    }

    async fn attempt(&mut self) -> Result<Attempted, Error> {
        let now = self.now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Error::new(Kind::Timeout, "the call timed out before this attempt was sent"));
        }
        let bounds = AttemptBounds { wait: self.bound, deadline: self.deadline };
        let call = self.refusals.next_call(self.call, now);
        self.caller.attempt(call, self.route, bounds, &mut self.fences).await
    }

    async fn after(&mut self, Attempted { result, generation }: Attempted) -> Next {
        match result {
            Ok(reply) => self.on_reply(reply, generation).await,
            Err(Failure::NotSubmitted(error)) => self.on_not_submitted(error),
            Err(Failure::Late(late)) => self.on_late(late, generation).await,
            Err(Failure::Error(error)) => self.on_error(error, generation).await,
        }
    }

    /// A refusal that passes by itself is waited for.
    async fn on_reply(&mut self, reply: Reply, generation: Generation) -> Next {
        let Some(refusal) = refused(self.call, &reply) else { return Next::Done(Ok(reply)) };
        let waited = self
            .caller
            .handle_refusal(self.call, refusal, &mut self.refusals, self.deadline, generation)
            .await;
        let Some(bound) = waited else { return Next::Done(Ok(reply)) };
        (self.bound, self.refusals.last) = (bound, Some(reply));
        // A part of the pipeline has run, and the repeat runs it again.
        self.in_doubt |= refusal.ran > Safety::ReadOnly;
        Next::Attempt
    }

    fn on_not_submitted(&mut self, error: SubmitError) -> Next {
        match error {
            // The fast path found no capacity. If the call was queued already, its wait has timed out.
            SubmitError::Full if self.now() < self.bound => Next::Attempt,
            SubmitError::Full => Next::Done(Err(overloaded())),
            SubmitError::ReadOnly(why) => Next::Done(Err(why)),
            // Waiting for a connection is no attempt.
            SubmitError::Held | SubmitError::Silent | SubmitError::Ended(_) => {
                self.caller.shard_route.link = None;
                Next::Attempt
            }
        }
    }

    /// Waits on for a reply that is late, in place of another attempt: behind itself, a copy on the same connection would
    /// only run twice.
    async fn on_late(&mut self, late: LateReply, generation: Generation) -> Next {
        if self.may_retry(Outcome::MaybeApplied).is_none() {
            return Next::Done(Err(late.into_error(&self.caller.core)));
        }
        self.caller.record(CallEvent::Retried);
        let next = match wait_on(&self.caller.core, late).await {
            Awaited::Reply(reply) => Next::Attempted(Attempted { result: Ok(reply), generation }),
            Awaited::StillLate(late) => {
                Next::Attempted(Attempted { result: Err(Failure::Late(late)), generation })
            }
            Awaited::Ended { link, error } => {
                self.in_doubt |= error.outcome() == Outcome::MaybeApplied;
                self.fences = self.caller.record_abandoned(&link);
                self.caller.drop_link();
                Next::Attempt
            }
        };
        self.bound = self.caller.wait_bound(self.deadline);
        next
    }

    async fn on_error(&mut self, error: Error, generation: Generation) -> Next {
        self.caller.drop_link();
        if error.outcome() == Outcome::NotSent && self.now() < self.bound {
            self.pace_unsent(generation).await;
            return Next::Attempt;
        }
        self.in_doubt |= error.outcome() == Outcome::MaybeApplied;
        let Some(at) = self.may_retry(error.outcome()) else { return Next::Done(Err(error)) };
        self.caller.record(CallEvent::Retried);
        self.caller.pause_before(at, generation, true).await;
        self.bound = self.caller.wait_bound(self.deadline);
        Next::Attempt
    }

    /// Waits before requesting another dedicated connection. The task of a shared connection paces its own attempts.
    async fn pace_unsent(&mut self, generation: Generation) {
        if let Route::Own(_) = self.route {
            let pause = Backoff::RECONNECT.delay(self.unsent, self.caller.core.runtime.random());
            self.caller.pause((self.now() + pause).min(self.bound), generation).await;
        }
        self.unsent += 1;
    }

    /// When the call may be sent again after an attempt with this outcome. `None` when its caller gets the error.
    fn may_retry(&mut self, outcome: Outcome) -> Option<Instant> {
        let core = &self.caller.core;
        let is_written = outcome == Outcome::MaybeApplied && !self.caller.reads_replicas();
        if is_written && matches!(self.call, Call::Pipeline(pipeline) if pipeline.is_transaction()) {
            // Once written, a transaction is not repeated, whatever its caller allows.
            return None;
        }
        // Nothing else than reads is sent to a replica.
        let safety = if self.caller.reads_replicas() { Safety::ReadOnly } else { self.call.safety() };
        let (now, random) = (core.runtime.now(), core.runtime.random());
        match self.session.decide(outcome, safety, self.caller.options().safety, now, random) {
            Decision::RetryAt(at) if core.budget.take() => Some(at),
            Decision::RetryAt(_) | Decision::GiveUp => None,
        }
    }

    fn now(&self) -> Instant {
        self.caller.core.runtime.now()
    }
}
