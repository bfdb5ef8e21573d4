//! The place where a caller waits for its reply.

use std::fmt;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use crate::error::Error;
use crate::proto::Reply;
use crate::sync::lock;

/// One caller's seat: a handle keeps it for all its commands, one after another.
///
/// A caller that goes away leaves its slot to the connection, which still has a reply to put into it, and
/// takes a new one for its next command: so no caller ever sees another's reply.
#[derive(Default)]
pub(crate) struct Slot {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    result: Option<Result<Reply, Error>>,
    waker: Option<Waker>,
}

impl Slot {
    /// Sets who is to be woken. Called before the slot is handed to a connection.
    pub(crate) fn arm(&self, cx: &Context<'_>) {
        let mut state = lock(&self.state);
        state.result = None;
        state.waker = Some(cx.waker().clone());
    }

    pub(crate) fn complete(&self, result: Result<Reply, Error>) {
        let waker = {
            let mut state = lock(&self.state);
            state.result = Some(result);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<Result<Reply, Error>> {
        let mut state = lock(&self.state);
        if let Some(result) = state.result.take() {
            return Poll::Ready(result);
        }
        match &state.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => state.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// Without the reply: that is the caller's data.
impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}
