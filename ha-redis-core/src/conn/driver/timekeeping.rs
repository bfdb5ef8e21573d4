//! Deadlines of calls, silence of the server, health checks of an idle connection, and its memory.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{Driver, OnSilence, is_awaited};
use crate::address::Address;
use crate::closing::CloseReport;
use crate::error::{Error, Kind, Outcome};

/// An idle connection gives back the memory of a burst after this time.
const AT_REST: Duration = Duration::from_secs(1);

impl Driver {
    /// Keeps the bounds of calls while the driver's task does not run: those that ended before `overdue`. Returns true if
    /// replies are owed.
    pub(crate) fn keep_bounds(&mut self, now: Instant, overdue: Instant) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.expire(overdue);
        let is_silent = self.in_flight.late_at().is_some_and(|at| at <= overdue);
        let stalled = self.link.expire_staged(now, overdue);
        if is_silent || !stalled.is_empty() {
            self.on_overdue(overdue);
        }
        for slot in stalled {
            let message = format!(
                "nothing was sent to {}: the runtime of the client does not run its tasks; do not block it, and drive it \
                 for as long as the client is used",
                self.link.address
            );
            slot.complete(Err(Error::new(Kind::Timeout, message)));
        }
        self.link.has_pending_replies()
    }

    pub(super) fn on_overdue(&mut self, overdue: Instant) {
        if self.ends_on_silence() {
            let why = unresponsive(&self.link.address, self.timeouts.value().reply);
            // Wakes the task, which ends once its runtime is driven again.
            self.link.shut(why.clone());
            self.end(&why);
        } else {
            self.report_silence(overdue);
        }
    }

    /// Something has moved: a reply, or enough bytes of one, or the server takes what is written.
    #[inline]
    pub(super) fn on_movement(&mut self, now: Instant) {
        self.moved = 0;
        self.in_flight.moved(now);
        if self.silent {
            self.silent = false;
            self.link.set_silent(false);
        }
    }

    /// Does what is due, and sets the timer for what comes next. Returns `Pending` if nothing was due.
    pub(super) fn keep_time(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.timeouts.refresh(&self.live_timeouts);
        if self.timer.is_none() || self.next_due().is_some_and(|due| due < self.timer_at) {
            self.set_timer();
        }
        if self.timer.as_mut().is_some_and(|timer| timer.poll(cx).is_pending()) {
            return Poll::Pending;
        }
        let now = self.runtime.now();
        self.expire(now);
        if self.in_flight.late_at().is_some_and(|at| at <= now) {
            if self.ends_on_silence() {
                return Poll::Ready(Err(unresponsive(&self.link.address, self.timeouts.value().reply)));
            }
            self.report_silence(now);
        }
        if self.check_at().is_some_and(|at| at <= now) {
            self.check_health(now);
        }
        if self.rest_at().is_some_and(|at| at <= now) {
            self.rest();
        }
        self.set_timer();
        Poll::Ready(Ok(()))
    }

    /// Does what is due on a connection that always has more to read, and so never waits for its timer.
    pub(super) fn keep_time_while_busy(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.in_flight.late_at() {
            Some(at) if at <= self.alive_before => self.keep_time(cx),
            _ => Poll::Pending,
        }
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = [self.in_flight.next_deadline(), self.in_flight.late_at(), self.check_at(), self.rest_at()];
        due.into_iter().flatten().min()
    }

    pub(super) fn set_timer(&mut self) {
        // With nothing due, the next request sets the timer.
        let far_future = self.runtime.now() + Duration::from_secs(3600);
        self.timer_at = self.next_due().unwrap_or(far_future);
        match &mut self.timer {
            Some(timer) => timer.reset(self.timer_at),
            None => self.timer = Some(self.runtime.timer(self.timer_at)),
        }
    }

    /// Returns true if silence ends the connection. A closing connection has no task that could decide, so silence ends it.
    pub(super) fn ends_on_silence(&self) -> bool {
        self.on_silence == OnSilence::End || self.link.is_closing()
    }

    /// Tells the callers whose replies are late, and takes nothing new until something moves.
    pub(super) fn report_silence(&mut self, now: Instant) {
        if !self.silent {
            self.silent = true;
            self.link.set_silent(true);
        }
        self.in_flight.late(now).into_iter().for_each(|slot| slot.report_late());
    }

    pub(super) fn check_at(&self) -> Option<Instant> {
        let idle = self.in_flight.is_empty() && !self.timeouts.value().health_check.is_zero();
        idle.then(|| self.alive_at.max(self.checked_at) + self.timeouts.value().health_check)
    }

    pub(super) fn rest_at(&self) -> Option<Instant> {
        let all_done = self.in_flight.is_empty() && self.reader.is_empty() && self.has_written_all();
        (all_done && !self.at_rest).then(|| self.alive_at + AT_REST)
    }

    /// Gives back the memory of a burst.
    pub(super) fn rest(&mut self) {
        self.at_rest = true;
        self.reader.shrink();
        (self.output, self.output_taken) = (Vec::new(), 0);
        self.arrivals = Vec::new();
        self.in_flight.give_back();
        self.link.give_back();
    }

    pub(super) fn check_health(&mut self, now: Instant) {
        self.checked_at = now;
        self.link.check_health(self.timeouts.value().reply);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        if self.in_flight.next_deadline().is_none_or(|at| now < at) {
            return;
        }
        let mut cut = CloseReport::default();
        for slot in self.in_flight.expire(now) {
            if is_awaited(&slot) {
                cut.count(Outcome::MaybeApplied);
            }
            let message = format!("{} did not answer in time", self.link.address);
            let error = Error::new(Kind::Timeout, message).with_outcome(Outcome::MaybeApplied);
            slot.complete(Err(error));
        }
        if self.link.is_closing() {
            self.link.record_cut(cut);
        }
    }
}

/// Returns the error for a server whose connection has made no progress for `timeout` while replies are pending.
pub(crate) fn unresponsive(address: &Address, timeout: Duration) -> Error {
    let message = format!("{address} is unresponsive: its connection has made no progress for {timeout:?}");
    Error::new(Kind::Timeout, message)
}
