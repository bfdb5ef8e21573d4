//! The slot in which a caller receives its reply.

use std::fmt;
use std::mem;
use std::task::{Context, Poll, Waker};

use crate::error::Error;
use crate::proto::Reply;
use crate::sync::{Mutex, lock, wake};

/// The slot of one caller. A handle uses it for all its commands, one after another.
///
/// A caller that goes away leaves its slot to the connection, which still stores the reply in it, and takes a new one
/// for its next command. So no caller ever gets another's reply.
#[derive(Default)]
pub(crate) struct ReplySlot {
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    /// There is no reply yet; this task must be woken.
    Waiting(Waker),
    /// The result for the caller.
    Ready(Result<Reply, NoReply>),
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum NoReply {
    /// The connection has made no progress for so long that the caller may give up. The reply may still arrive in the
    /// slot.
    Late,
    /// There will be no reply.
    Ended(Error),
}

impl ReplySlot {
    /// Sets the task to wake. Called before the slot is passed to a connection.
    #[inline]
    pub(crate) fn arm(&self, cx: &Context<'_>) {
        *lock(&self.state) = State::Waiting(cx.waker().clone());
    }

    #[inline]
    pub(crate) fn complete(&self, result: Result<Reply, Error>) {
        let ready = State::Ready(result.map_err(NoReply::Ended));
        let before = mem::replace(&mut *lock(&self.state), ready);
        if let State::Waiting(waker) = before {
            wake(waker);
        }
    }

    /// Wakes the caller, if it waits, since its reply is late.
    pub(crate) fn report_late(&self) {
        let mut state = lock(&self.state);
        if let State::Waiting(_) = &*state
            && let State::Waiting(waker) = mem::replace(&mut *state, State::Ready(Err(NoReply::Late)))
        {
            drop(state);
            wake(waker);
        }
    }

    #[inline]
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<Reply, NoReply>> {
        let mut state = lock(&self.state);
        match &*state {
            State::Ready(_) => {}
            State::Waiting(waker) if waker.will_wake(cx.waker()) => return Poll::Pending,
            State::Waiting(_) | State::Idle => {
                *state = State::Waiting(cx.waker().clone());
                return Poll::Pending;
            }
        }
        match mem::take(&mut *state) {
            State::Ready(result) => Poll::Ready(result),
            State::Waiting(_) | State::Idle => Poll::Pending,
        }
    }
}

/// Omits the reply: it is the caller's data.
impl fmt::Debug for ReplySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplySlot")
    }
}
