//! The inbox through which the task of a subscriber passes events to the reader of the stream.

use std::fmt;
use std::task::{Context, Poll, Waker};

use super::backlog::Backlog;
use super::event::PubSubEvent;
use crate::error::Error;
use crate::sync::{Mutex, lock, wake};

pub(crate) struct Inbox {
    state: Mutex<State>,
}

struct State {
    backlog: Backlog,
    /// Why there is no connection.
    failure: Option<Error>,
    /// Whether no more events follow.
    ended: bool,
    reader: Option<Waker>,
}

impl Inbox {
    /// Creates an inbox for this many bytes of messages.
    pub(crate) fn new(limit: u64) -> Self {
        let backlog = Backlog::new(usize::try_from(limit).unwrap_or(usize::MAX));
        Self { state: Mutex::new(State { backlog, failure: None, ended: false, reader: None }) }
    }

    /// Adds to the backlog and wakes the reader.
    pub(crate) fn add(&self, news: impl FnOnce(&mut Backlog)) {
        let mut state = lock(&self.state);
        news(&mut state.backlog);
        let reader = if state.backlog.is_empty() { None } else { state.reader.take() };
        drop(state);
        reader.into_iter().for_each(wake);
    }

    /// Ends the stream.
    pub(crate) fn end(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(wake);
    }

    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<PubSubEvent>> {
        let mut state = lock(&self.state);
        if let Some(event) = state.backlog.take() {
            return Poll::Ready(Some(event));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Records why there is no connection; `None` when there is one.
    pub(crate) fn set_failure(&self, failure: Option<Error>) {
        lock(&self.state).failure = failure;
    }

    pub(crate) fn failure(&self) -> Option<Error> {
        lock(&self.state).failure.clone()
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Published messages do not belong in a log.
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}
