//! Whether a client is open, and how many of its connections are alive.

use event_listener::Event;

use crate::closing::CloseReport;
use crate::conn::link::Link;
use crate::error::Error;
use crate::sync::{Mutex, lock, wait_for};

#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    state: Mutex<State>,
    changed: Event,
}

#[derive(Debug, Default)]
struct State {
    /// Why the client refuses new calls.
    closed: Option<Error>,
    /// How many connections have not ended, whether callers may use them or not.
    alive: usize,
    /// The calls that closing has cut off.
    cut: CloseReport,
}

impl Lifecycle {
    /// Fails once the client is closed.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        lock(&self.state).closed.clone().map_or(Ok(()), Err)
    }

    /// Waits until the client begins to close.
    pub(crate) async fn closing(&self) {
        wait_for(&self.state, &self.changed, |state| state.closed.as_ref().map(drop)).await;
    }

    /// Refuses new connections from now on. The first reason stays.
    pub(crate) fn close(&self, why: Error) {
        lock(&self.state).closed.get_or_insert(why);
        self.changed.notify(usize::MAX);
    }

    /// Counts a connection that is ready for use.
    pub(crate) fn on_opened(&self) {
        lock(&self.state).alive += 1;
    }

    /// Counts the end of a connection.
    pub(crate) fn on_ended(&self, link: &Link) {
        let mut state = lock(&self.state);
        state.alive -= 1;
        if state.closed.is_some() {
            state.cut.add(link.cut());
        }
        drop(state);
        self.changed.notify(usize::MAX);
    }

    /// Counts a connection without a link, such as a subscriber's. `None` once the client is closed.
    pub(crate) fn count(&self) -> Option<Counted<'_>> {
        let mut state = lock(&self.state);
        if state.closed.is_some() {
            return None;
        }
        state.alive += 1;
        Some(Counted(self))
    }

    /// Waits until every connection has ended.
    pub(crate) async fn ended(&self) {
        wait_for(&self.state, &self.changed, |state| (state.alive == 0).then_some(())).await;
    }

    /// Returns the calls that closing has cut off.
    pub(crate) fn cut(&self) -> CloseReport {
        lock(&self.state).cut
    }
}

/// Counts one connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted<'a>(&'a Lifecycle);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).alive -= 1;
        self.0.changed.notify(usize::MAX);
    }
}
