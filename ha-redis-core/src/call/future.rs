//! The fast path of a call: sent at once over the connection of the last call, and answered.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use redis::{Cmd, Value};

use crate::call::attempt::Attempted;
use crate::call::caller::{Caller, Route};
use crate::call::exchange::Failure;
use crate::call::refused::has_error;
use crate::call::urgent;
use crate::command::{
    Placement, Refusal, Scan, ScanStep, is_replica_read, name, pipeline_placement, placement, scan_step,
};
use crate::conn::link::{Call, ReplySlot};
use crate::error::{Error, Kind, Outcome};
use crate::proto::Reply;

/// A call, from its first poll to its end.
///
/// The fast path is written by hand: each `async fn` on it would move the reply through memory once more. Everything else
/// is in a boxed future.
pub(crate) struct CallFuture<'a> {
    call: Call<'a>,
    deadline: Option<Instant>,
    stage: Stage<'a>,
}

enum Stage<'a> {
    New(&'a mut Caller),
    /// Sent over the caller's link; the reply will be in the slot.
    Sent(&'a mut Caller, Arc<ReplySlot>),
    SlowPath(Rest<'a>),
    Ended,
}

/// The rest of a call that has left the fast path.
type Rest<'a> = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send + 'a>>;

impl<'a> CallFuture<'a> {
    pub(super) fn new(caller: &'a mut Caller, call: Call<'a>) -> Self {
        Self { call, deadline: None, stage: Stage::New(caller) }
    }

    fn begin(&mut self, caller: &'a mut Caller, cx: &mut Context<'_>) -> Poll<Result<Reply, Error>> {
        let placement = placement_of(self.call);
        caller.route(self.call);
        if caller.reads_replicas() {
            if let Err(error) = check_reads(self.call, placement) {
                return Poll::Ready(Err(error));
            }
            caller.choose_replica(scan_of(self.call));
        } else {
            caller.find_link();
        }
        let route = match placement {
            Placement::Scan if !caller.reads_replicas() => Route::Scan,
            Placement::Shared | Placement::Scan => Route::Shared,
            Placement::Urgent => return self.send_urgently(caller, cx),
            Placement::Blocking { limit } => {
                Route::Own(limit.map(|limit| limit.saturating_add(caller.options().socket_timeout)))
            }
            Placement::Refused(refusal) => return Poll::Ready(Err(not_allowed(refusal))),
        };
        self.deadline = caller.deadline();
        let mut first = None;
        if let (Some(link), Route::Shared, false) =
            (&caller.shard_route.link, route, caller.has_zero_timeout())
        {
            let slot = caller.slot.take().unwrap_or_default();
            slot.arm(cx);
            match link.submit(self.call, &slot, caller.reply_bound(self.deadline)) {
                // The connection keeps the slot and drops the reply with it.
                Ok(()) if self.call.is_no_response() => return Poll::Ready(Ok(Reply::One(Value::Nil))),
                Ok(()) => {
                    self.stage = Stage::Sent(caller, slot);
                    return Poll::Pending;
                }
                Err(error) => {
                    first = Some(Attempted {
                        result: Err(Failure::NotSubmitted(error)),
                        generation: link.generation,
                    })
                }
            }
        }
        self.leave_fast_path(caller, route, first, cx)
    }

    #[cold]
    fn send_urgently(&mut self, caller: &'a mut Caller, cx: &mut Context<'_>) -> Poll<Result<Reply, Error>> {
        let call = self.call;
        let rest = async move {
            match call {
                Call::Command(command) => urgent::ask(caller, command).await.map(Reply::One),
                // No pipeline is placed there.
                Call::Pipeline(_) => Err(Error::new(
                    Kind::Refused,
                    "this command cannot overtake waiting commands in a pipeline; send it by itself",
                )),
            }
        };
        self.poll_rest(Box::pin(rest), cx)
    }

    #[cold]
    fn leave_fast_path(
        &mut self,
        caller: &'a mut Caller,
        route: Route,
        first: Option<Attempted>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Reply, Error>> {
        self.poll_rest(Box::pin(caller.slow_path(self.call, route, self.deadline, first)), cx)
    }

    fn poll_rest(&mut self, mut rest: Rest<'a>, cx: &mut Context<'_>) -> Poll<Result<Reply, Error>> {
        let polled = rest.as_mut().poll(cx);
        if polled.is_pending() {
            self.stage = Stage::SlowPath(rest);
        }
        polled
    }
}

impl Future for CallFuture<'_> {
    type Output = Result<Reply, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Reply, Error>> {
        let future = self.get_mut();
        match mem::replace(&mut future.stage, Stage::Ended) {
            Stage::New(caller) => future.begin(caller, cx),
            Stage::Sent(caller, slot) => match slot.poll(cx) {
                Poll::Pending => {
                    future.stage = Stage::Sent(caller, slot);
                    Poll::Pending
                }
                Poll::Ready(Ok(reply)) if !has_error(future.call, &reply) => {
                    caller.slot = Some(slot);
                    Poll::Ready(Ok(reply))
                }
                Poll::Ready(reply) => {
                    let Some(link) = &caller.shard_route.link else {
                        return Poll::Ready(Err(connection_forgotten()));
                    };
                    let result = reply.map_err(|no_reply| Failure::of(no_reply, link, &slot));
                    let first = Some(Attempted { result, generation: link.generation });
                    future.leave_fast_path(caller, Route::Shared, first, cx)
                }
            },
            Stage::SlowPath(rest) => future.poll_rest(rest, cx),
            Stage::Ended => panic!("`CallFuture` polled after completion"),
        }
    }
}

/// A call keeps its connection while it waits. Without one, its outcome is not known.
fn connection_forgotten() -> Error {
    Error::new(Kind::Lost, "internal error: the connection of the call is unknown")
        .with_outcome(Outcome::MaybeApplied)
}

fn placement_of(call: Call<'_>) -> Placement {
    match call {
        Call::Command(command) => placement(command),
        Call::Pipeline(pipeline) => pipeline_placement(pipeline),
    }
}

fn scan_of(call: Call<'_>) -> Option<Scan> {
    match call {
        Call::Command(command) => scan_step(command).map(ScanStep::kind),
        Call::Pipeline(pipeline) => pipeline.cmd_iter().filter_map(scan_step).map(ScanStep::kind).max(),
    }
}

fn check_reads(call: Call<'_>, placement: Placement) -> Result<(), Error> {
    match call {
        Call::Command(command) => check_read(command, placement),
        Call::Pipeline(pipeline) => {
            pipeline.cmd_iter().try_for_each(|command| check_read(command, placement))
        }
    }
}

/// Refuses commands that a replica would refuse, and commands that would block other readers, before they are sent.
fn check_read(command: &Cmd, placement: Placement) -> Result<(), Error> {
    let objection = match placement {
        Placement::Refused(refusal) => return Err(not_allowed(refusal)),
        Placement::Blocking { .. } => "it may block on the server, and all readers share this connection",
        _ if !is_replica_read(command) => "it may write, and replicas accept no writes",
        Placement::Shared | Placement::Scan | Placement::Urgent => return Ok(()),
    };
    let message = format!(
        "{} cannot run on a connection to replicas: {objection}; use the client's connection()",
        name(command)
    );
    Err(Error::new(Kind::Refused, message))
}

/// Returns the error for a command that may not run on this kind of handle.
pub(crate) fn not_allowed(refusal: Refusal) -> Error {
    Error::new(Kind::Refused, refusal.to_string())
}
