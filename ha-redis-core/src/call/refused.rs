//! Refused calls: reading refusals out of replies, and waiting for those that pass.

use std::time::Instant;

use redis::{Cmd, Value};

use crate::call::caller::Caller;
use crate::command::{Safety, with_time_left};
use crate::conn::link::Call;
use crate::error::Error;
use crate::generation::Generation;
use crate::node::shard::CallEvent;
use crate::proto::Reply;
use crate::retry::RefusalWait;
use crate::retry::refusal::{self, RefusedCall};

/// The refusals of one call.
#[derive(Debug)]
pub(super) struct Refusals {
    wait: RefusalWait,
    began: Instant,
    sent_at: Instant,
    /// The reply with the last of them.
    pub(super) last: Option<Reply>,
    /// A blocking command that has waited already, with the rest of its timeout.
    shortened: Option<Cmd>,
}

impl Refusals {
    pub(super) fn new(now: Instant) -> Self {
        Self { wait: RefusalWait::default(), began: now, sent_at: now, last: None, shortened: None }
    }

    /// Records that the call is being sent, and returns it with the remaining timeout of a blocking command.
    pub(super) fn next_call<'a>(&'a mut self, call: Call<'a>, now: Instant) -> Call<'a> {
        self.sent_at = now;
        self.shortened.as_ref().map_or(call, Call::Command)
    }

    /// Returns the last refusal if there was no connection for another attempt: it says more than `error`, unless `error`
    /// needs somebody to change a setting.
    pub(super) fn last_or(&mut self, error: Error) -> Result<Reply, Error> {
        let passes = (error.is_timeout() || error.is_connection()) && !error.is_permanent();
        let last = self.last.take().filter(|_| passes);
        last.ok_or(error)
    }

    /// The server unblocked the call because it became a replica.
    fn unblocked(&mut self, call: Call<'_>, now: Instant) {
        self.wait.record_refused_after(now - self.sent_at);
        if let Call::Command(command) = call {
            self.shortened = with_time_left(command, now - self.began);
        }
    }
}

impl Caller {
    /// Waits before a refused call is sent again, and returns the bound on the next attempt. Returns `None` if the caller
    /// gets the refusal.
    pub(super) async fn handle_refusal(
        &mut self,
        call: Call<'_>,
        refusal: RefusedCall,
        refusals: &mut Refusals,
        deadline: Option<Instant>,
        generation: Generation,
    ) -> Option<Instant> {
        if self.reads_replicas() {
            self.drop_link();
        } else if refusal.not_master {
            self.shard_route.link = None;
            self.shard_route.shard.on_not_master(generation, self.core.runtime.now());
        }
        let harmless = refusal.ran == Safety::ReadOnly || self.options().safety.allows(refusal.ran);
        // A repeat would skip what arrived while the call was blocked.
        let skips = refusal.unblocked && call.reads_from_now_on();
        if !harmless || skips || !self.options().waits_for_refusals {
            return None;
        }
        let (now, random) = (self.core.runtime.now(), self.core.runtime.random());
        if refusal.unblocked {
            refusals.unblocked(call, now);
        }
        let (at, until) = refusals.wait.next(self.wait_bound(deadline), now, random)?;
        self.record(CallEvent::Retried);
        self.pause_before(at, generation, refusals.wait.is_first_refusal()).await;
        Some(until)
    }
}

/// Returns true if the reply contains a server error.
pub(crate) fn has_error(call: Call<'_>, reply: &Reply) -> bool {
    match (call, reply) {
        (_, Reply::One(value)) => is_error(value),
        (Call::Pipeline(pipeline), Reply::Many(replies)) if pipeline.is_transaction() => {
            let executed = replies.last().map_or(&[][..], values);
            replies.iter().chain(executed).any(is_error)
        }
        (_, Reply::Many(replies)) => replies.iter().any(is_error),
    }
}

/// Returns the server's refusal of the call, if it is temporary.
pub(crate) fn refused(call: Call<'_>, reply: &Reply) -> Option<RefusedCall> {
    match (call, reply) {
        (Call::Command(command), Reply::One(value)) => refusal::of_command(command, value),
        (Call::Pipeline(pipeline), Reply::Many(replies)) if pipeline.is_transaction() => {
            refusal::of_transaction(replies)
        }
        (Call::Pipeline(pipeline), Reply::Many(replies)) => refusal::of_pipeline(pipeline, replies),
        _ => None,
    }
}

/// Returns the reply for the caller: each error says what became of its command, also where its code does not.
pub(crate) fn annotated(call: Call<'_>, reply: Reply, in_doubt: bool) -> Reply {
    match (call, reply) {
        (_, Reply::One(value)) if in_doubt => Reply::One(refusal::with_doubt_note(value)),
        (_, Reply::Many(replies)) if in_doubt => {
            Reply::Many(replies.into_iter().map(refusal::with_doubt_note).collect())
        }
        (Call::Command(command), Reply::One(value)) => Reply::One(refusal::with_outcome_note(command, value)),
        (Call::Pipeline(pipeline), Reply::Many(mut replies)) => {
            let commands = pipeline.cmd_iter();
            if !pipeline.is_transaction() {
                let told =
                    commands.zip(replies).map(|(command, reply)| refusal::with_outcome_note(command, reply));
                return Reply::Many(told.collect());
            }
            if let Some(Value::Array(values)) = replies.last_mut() {
                for (command, value) in commands.zip(values) {
                    *value = refusal::with_outcome_note(command, std::mem::replace(value, Value::Nil));
                }
            }
            Reply::Many(replies)
        }
        (_, reply) => reply,
    }
}

fn is_error(value: &Value) -> bool {
    matches!(value, Value::ServerError(_))
}

fn values(executed: &Value) -> &[Value] {
    match executed {
        Value::Array(values) => values,
        _ => &[],
    }
}
