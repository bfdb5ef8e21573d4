//! The place where a caller waits for its reply.

use std::fmt;
use std::mem;
use std::task::{Context, Poll, Waker};

use crate::error::Error;
use crate::proto::Reply;
use crate::sync::{Mutex, lock, wake};

/// One caller's seat: a handle keeps it for all its commands, one after another.
///
/// A caller that goes away leaves its slot to the connection, which still has a reply to put into it, and
/// takes a new one for its next command: so no caller ever sees another's reply.
#[derive(Default)]
pub(crate) struct ReplySlot {
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    /// Nothing has come; this task is to be woken.
    Awaited(Waker),
    /// What the caller is to be told.
    Told(Result<Reply, NoReply>),
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum NoReply {
    /// Nothing has moved on the connection for so long that the caller may want to give up. The reply may still come
    /// into the slot.
    Late,
    /// There will be none.
    Ended(Error),
}

impl ReplySlot {
    /// Sets who is to be woken. Called before the slot is handed to a connection.
    #[inline]
    pub(crate) fn arm(&self, cx: &Context<'_>) {
        *lock(&self.state) = State::Awaited(cx.waker().clone());
    }

    #[inline]
    pub(crate) fn complete(&self, result: Result<Reply, Error>) {
        let told = State::Told(result.map_err(NoReply::Ended));
        let before = mem::replace(&mut *lock(&self.state), told);
        if let State::Awaited(waker) = before {
            wake(waker);
        }
    }

    /// Tells the caller, if it waits, that its reply is late.
    pub(crate) fn tell_late(&self) {
        let mut state = lock(&self.state);
        if let State::Awaited(_) = &*state
            && let State::Awaited(waker) = mem::replace(&mut *state, State::Told(Err(NoReply::Late)))
        {
            drop(state);
            wake(waker);
        }
    }

    #[inline]
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<Reply, NoReply>> {
        let mut state = lock(&self.state);
        match &*state {
            State::Told(_) => {}
            State::Awaited(waker) if waker.will_wake(cx.waker()) => return Poll::Pending,
            State::Awaited(_) | State::Idle => {
                *state = State::Awaited(cx.waker().clone());
                return Poll::Pending;
            }
        }
        match mem::take(&mut *state) {
            State::Told(told) => Poll::Ready(told),
            State::Awaited(_) | State::Idle => Poll::Pending,
        }
    }
}

/// Without the reply: that is the caller's data.
impl fmt::Debug for ReplySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}
