//! The driver's side of a link: what it takes from callers, and what it tells them.

use std::mem;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use super::gate::Gate;
use super::{DriverStep, KEPT_BUFFER, Link, ReplySlot, Request};
use crate::closing::CloseReport;
use crate::error::Error;
use crate::proto::ReplyBound;
use crate::sync::{lock, wake};

impl Link {
    /// Says whether the server is silent although it owes replies.
    pub(crate) fn set_silent(&self, silent: bool) {
        let mut state = lock(&self.state);
        state.silences += u32::from(silent && !state.silent);
        state.silent = silent;
        let waiting = state.queue.notify_all();
        drop(state);
        waiting.into_iter().for_each(wake);
        self.silence_changed.notify(usize::MAX);
    }

    /// Books `answered` replies, hands over the requests that have come since, and says what to do next.
    pub(crate) fn report(&self, answered: usize, requests: &mut Vec<Request>) -> DriverStep {
        let mut state = lock(&self.state);
        state.owed -= answered;
        state.answered += answered as u64;
        requests.append(&mut state.requests);
        state.stalled_since = None;
        let orders = match &state.gate {
            Gate::Draining(why) if state.owed == 0 => DriverStep::End(why.clone()),
            Gate::Shut(why) => DriverStep::End(why.clone()),
            _ => DriverStep::Carry { staged: !state.staged.is_empty() },
        };
        let next = state.next_in_turn();
        drop(state);
        if let Some(next) = next {
            wake(next);
        }
        orders
    }

    /// Whether replies are owed.
    pub(crate) fn owes(&self) -> bool {
        lock(&self.state).owed > 0
    }

    /// For the watchdog: takes back the requests that the driver has not taken since before they were due, and that
    /// so were never sent.
    pub(crate) fn expire_staged(&self, now: Instant, overdue: Instant) -> Vec<Arc<ReplySlot>> {
        let mut state = lock(&self.state);
        if state.requests.is_empty() {
            state.stalled_since = None;
            return Vec::new();
        }
        // They may have been staged just now: the first look only takes the time.
        let since = *state.stalled_since.get_or_insert(now);
        let is_due = |bound: ReplyBound| {
            let late = bound.within.and_then(|within| since.checked_add(within));
            late.into_iter().chain(bound.by).any(|at| at <= overdue)
        };
        // The bytes of requests that the driver knows already stand before theirs.
        let staged = state.requests.iter().map(|request| request.bytes).sum::<usize>();
        let mut at = state.staged.len() - staged;
        let mut expired = Vec::new();
        for request in mem::take(&mut state.requests) {
            if is_due(request.bound) {
                state.staged.remove(at, request.bytes);
                state.owed -= 1;
                expired.push(request.waiter);
            } else {
                at += request.bytes;
                state.requests.push(request);
            }
        }
        expired
    }

    /// Swaps the staged bytes for the buffer that was written, and hands over their requests.
    pub(crate) fn take(&self, written: &mut Vec<u8>, requests: &mut Vec<Request>) {
        let (used, room) = (written.len(), written.capacity());
        written.clear();
        if room > KEPT_BUFFER && used < room / 4 {
            written.shrink_to(room / 2);
        }
        let mut state = lock(&self.state);
        let (first, spare) = state.staged.take(mem::take(written));
        requests.append(&mut state.requests);
        let next = state.next_in_turn();
        drop(state);
        drop(spare);
        *written = first;
        if let Some(next) = next {
            wake(next);
        }
    }

    /// Gives back the memory that a burst has grown, when nothing is staged.
    pub(crate) fn give_back(&self) {
        let mut state = lock(&self.state);
        state.staged.shrink();
        state.requests.shrink_to_fit();
    }

    /// Has the driver's task woken by whatever comes next. False when it has come already.
    pub(crate) fn park(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        let ends = match state.gate {
            Gate::Open | Gate::ReadOnly(_) | Gate::Held => false,
            Gate::Draining(_) => state.owed == 0,
            Gate::Shut(_) => true,
        };
        if ends || !state.requests.is_empty() {
            return false;
        }
        state.driver = Some(cx.waker().clone());
        true
    }

    /// The driver has ended: closes the gate for good and returns what was never taken.
    pub(crate) fn end(&self, why: Error, owing: bool) -> Vec<Request> {
        let mut state = lock(&self.state);
        state.owing = owing;
        // The first reason is the true one.
        if !matches!(state.gate, Gate::Shut(_)) {
            state.gate = Gate::Shut(why);
        }
        state.owed = 0;
        let staged = mem::take(&mut state.staged);
        let requests = mem::take(&mut state.requests);
        let waiting = state.queue.notify_all();
        drop(state);
        drop(staged);
        waiting.into_iter().for_each(wake);
        requests
    }

    /// Whether the connection ended while the server owed replies to what was written.
    pub(crate) fn ended_owing(&self) -> bool {
        lock(&self.state).owing
    }

    /// What the end of the connection has cut off.
    pub(crate) fn cut(&self) -> CloseReport {
        lock(&self.state).cut
    }

    /// Whether the client is closed, and what is in flight may finish.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(&lock(&self.state).gate, Gate::Draining(why) if why.is_closed())
    }

    pub(crate) fn record_cut(&self, cut: CloseReport) {
        lock(&self.state).cut.add(cut);
    }
}
