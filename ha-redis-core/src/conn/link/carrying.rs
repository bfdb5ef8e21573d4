//! The driver's side of a link: what it takes from callers, and what it reports to them.

use std::mem;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use super::gate::Gate;
use super::{DriverStep, Link, MAX_IDLE_BUFFER, ReplySlot, Request};
use crate::closing::CloseReport;
use crate::error::Error;
use crate::proto::ReplyBound;
use crate::sync::{lock, wake};

impl Link {
    /// Sets whether the server is silent although replies are pending.
    pub(crate) fn set_silent(&self, silent: bool) {
        let mut state = lock(&self.state);
        state.silences += u32::from(silent && !state.silent);
        state.silent = silent;
        let waiting = state.queue.notify_all();
        drop(state);
        waiting.into_iter().for_each(wake);
        self.silence_changed.notify(usize::MAX);
    }

    /// Records `answered` replies, hands over the new requests, and returns what to do next.
    pub(crate) fn report(&self, answered: usize, requests: &mut Vec<Request>) -> DriverStep {
        let mut state = lock(&self.state);
        state.pending -= answered;
        state.answered += answered as u64;
        requests.append(&mut state.requests);
        state.stalled_since = None;
        let step = match &state.gate {
            Gate::Draining(why) if state.pending == 0 => DriverStep::End(why.clone()),
            Gate::Shut(why) => DriverStep::End(why.clone()),
            _ => DriverStep::Continue { has_staged: !state.staged.is_empty() },
        };
        let next = state.next_waiter();
        drop(state);
        if let Some(next) = next {
            wake(next);
        }
        step
    }

    /// For the watchdog: takes back the requests that are overdue and that the driver has not taken. They were never
    /// sent.
    pub(crate) fn expire_staged(&self, now: Instant, overdue: Instant) -> Vec<Arc<ReplySlot>> {
        let mut state = lock(&self.state);
        if state.requests.is_empty() {
            state.stalled_since = None;
            return Vec::new();
        }
        // They may be new: the first check only records the time.
        let since = *state.stalled_since.get_or_insert(now);
        let is_due = |bound: ReplyBound| {
            let late = bound.within.and_then(|within| since.checked_add(within));
            late.into_iter().chain(bound.by).any(|at| at <= overdue)
        };
        // The bytes of requests that the driver has taken already come first.
        let staged = state.requests.iter().map(|request| request.bytes).sum::<usize>();
        let mut at = state.staged.len() - staged;
        let mut expired = Vec::new();
        for request in mem::take(&mut state.requests) {
            if is_due(request.bound) {
                state.staged.remove(at, request.bytes);
                state.pending -= 1;
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
        let (used, capacity) = (written.len(), written.capacity());
        written.clear();
        if capacity > MAX_IDLE_BUFFER && used < capacity / 4 {
            written.shrink_to(capacity / 2);
        }
        let mut state = lock(&self.state);
        let (first, spare) = state.staged.take(mem::take(written));
        requests.append(&mut state.requests);
        let next = state.next_waiter();
        drop(state);
        drop(spare);
        *written = first;
        if let Some(next) = next {
            wake(next);
        }
    }

    /// Frees the memory that a burst has taken; nothing is staged.
    pub(crate) fn give_back(&self) {
        let mut state = lock(&self.state);
        state.staged.shrink();
        state.requests.shrink_to_fit();
    }

    /// Registers the driver's task to be woken by the next request. Returns false if there is work already.
    pub(crate) fn park(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        let ends = match state.gate {
            Gate::Open | Gate::ReadOnly(_) | Gate::Held => false,
            Gate::Draining(_) => state.pending == 0,
            Gate::Shut(_) => true,
        };
        if std::mem::take(&mut state.settings_changed) || ends || !state.requests.is_empty() {
            return false;
        }
        state.driver = Some(cx.waker().clone());
        true
    }

    /// Closes the gate for good, since the driver has ended. Returns the requests that were never taken.
    pub(crate) fn end(&self, why: Error, with_pending: bool) -> Vec<Request> {
        let mut state = lock(&self.state);
        state.ended_with_pending = with_pending;
        // The first reason is the actual one.
        if !matches!(state.gate, Gate::Shut(_)) {
            state.gate = Gate::Shut(why);
        }
        state.pending = 0;
        let staged = mem::take(&mut state.staged);
        let requests = mem::take(&mut state.requests);
        let waiting = state.queue.notify_all();
        drop(state);
        drop(staged);
        waiting.into_iter().for_each(wake);
        requests
    }

    /// Returns true if the connection ended while written requests had no reply.
    pub(crate) fn ended_with_pending_replies(&self) -> bool {
        lock(&self.state).ended_with_pending
    }

    /// Returns which calls the end of the connection has cut off.
    pub(crate) fn cut(&self) -> CloseReport {
        lock(&self.state).cut
    }

    /// Returns true if the client is closed and calls in flight may finish.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(&lock(&self.state).gate, Gate::Draining(why) if why.is_closed())
    }

    pub(crate) fn record_cut(&self, cut: CloseReport) {
        lock(&self.state).cut.add(cut);
    }
}
