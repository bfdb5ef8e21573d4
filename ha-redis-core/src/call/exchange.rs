//! One exchange over one connection: staging a call and waiting for its reply, also when that is late.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use crate::conn::driver::unresponsive;
use crate::conn::link::{Call, Link, NoReply, ReplySlot, SubmitError};
use crate::error::{Error, Kind, Outcome};
use crate::node::core::Core;
use crate::proto::{Reply, ReplyBound};
use crate::time::{Elapsed, until};

/// The result of one attempt.
pub(crate) type Attempt = Result<Reply, Failure>;

#[derive(Debug)]
pub(crate) enum Failure {
    NotSubmitted(SubmitError),
    Late(LateReply),
    Error(Error),
}

/// A reply that is late: its connection has made no progress for `socket_timeout`. It may still come.
#[derive(Debug)]
pub(crate) struct LateReply {
    pub(crate) link: Arc<Link>,
    pub(crate) slot: Arc<ReplySlot>,
}

impl LateReply {
    /// Returns the error for a caller that does not wait any longer.
    pub(crate) fn into_error(self, core: &Core) -> Error {
        unresponsive(&self.link.address, core.config().socket_timeout()).with_outcome(Outcome::MaybeApplied)
    }
}

impl Failure {
    pub(crate) fn of(no_reply: NoReply, link: &Arc<Link>, slot: &Arc<ReplySlot>) -> Self {
        match no_reply {
            NoReply::Late => Self::Late(LateReply { link: Arc::clone(link), slot: Arc::clone(slot) }),
            NoReply::Ended(error) => Self::Error(error),
        }
    }
}

/// The result of waiting on for a late reply.
pub(super) enum Awaited {
    Reply(Reply),
    StillLate(LateReply),
    /// The connection has ended, so the reply cannot come.
    Ended {
        link: Arc<Link>,
        error: Error,
    },
}

/// Sends a call over `link`, waiting until `bound` for capacity, and waits for its reply in `slot`.
///
/// Dropping the future leaves the connection in step: the reply goes to the slot, which nobody reads.
pub(crate) async fn exchange_in_turn(
    link: &Arc<Link>,
    slot: &Arc<ReplySlot>,
    call: Call<'_>,
    reply_bound: ReplyBound,
    core: &Core,
    bound: Instant,
) -> Attempt {
    stage_in_turn(link, slot, call, reply_bound, core, bound).await.map_err(Failure::NotSubmitted)?;
    poll_fn(|cx| slot.poll(cx)).await.map_err(|no_reply| Failure::of(no_reply, link, slot))
}

/// Stages a call, waiting until `bound` for capacity: the first half of [`exchange_in_turn`].
pub(crate) async fn stage_in_turn(
    link: &Link,
    slot: &Arc<ReplySlot>,
    call: Call<'_>,
    reply_bound: ReplyBound,
    core: &Core,
    bound: Instant,
) -> Result<(), SubmitError> {
    let at_once = poll_fn(|cx| {
        slot.arm(cx);
        Poll::Ready(link.submit(call, slot, reply_bound))
    });
    match at_once.await {
        Err(SubmitError::Full) => {
            Box::pin(link.submit_in_turn(call, slot, reply_bound, &*core.runtime, bound)).await
        }
        submitted => submitted,
    }
}

/// Waits for a late reply as long as bytes move on its connection, and for `socket_timeout` while none do.
pub(super) async fn wait_on(core: &Core, late: LateReply) -> Awaited {
    let runtime = &*core.runtime;
    loop {
        let bound = runtime.now() + core.config().socket_timeout();
        match until(runtime, bound, poll_fn(|cx| late.slot.poll(cx))).await {
            Ok(Ok(reply)) => return Awaited::Reply(reply),
            Ok(Err(NoReply::Ended(error))) => return Awaited::Ended { link: late.link, error },
            Ok(Err(NoReply::Late)) => return Awaited::StillLate(late),
            Err(Elapsed) if late.link.is_silent() => return Awaited::StillLate(late),
            Err(Elapsed) => {}
        }
    }
}

pub(crate) fn overloaded() -> Error {
    Error::new(Kind::Overloaded, "too many commands were waiting for their replies")
}
