//! A budget of work after which a task yields. Runtimes such as smol and async-std have none of their own: there, a
//! task whose peer always has more to send would occupy its thread, and no timer around it would ever fire.

use std::future::poll_fn;
use std::task::{Context, Poll};

/// The work between two yields. It is short, since Tokio checks timers and sockets only after 61 polls: 256 small
/// values take some 20 µs.
const UNITS: usize = 256;
/// The cost of a read, however little it returns.
const UNITS_PER_READ: usize = UNITS / 16;
/// A value costs a unit. So do a few parts of one, and this many copied bytes.
const PARTS_PER_UNIT: usize = 2;
const BYTES_PER_UNIT: usize = 1024;

/// The work to decode a value or a piece of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded {
    pub(crate) bytes: usize,
    /// The number of values inside it.
    pub(crate) parts: usize,
}

/// The work that a task may still do before it yields.
#[derive(Debug)]
pub(crate) struct CoopBudget {
    units: usize,
}

impl CoopBudget {
    pub(crate) const fn new() -> Self {
        Self { units: UNITS }
    }

    /// Charges for decoding a value or a piece of one. Small values are covered by [`CoopBudget::spend_value`].
    #[inline]
    pub(crate) fn spend_decoded(&mut self, piece: Decoded) {
        self.spend(piece.parts / PARTS_PER_UNIT + piece.bytes / BYTES_PER_UNIT);
    }

    /// Charges for handling a value of any size. Replies need not be charged if another limit bounds their number.
    #[inline]
    pub(crate) fn spend_value(&mut self) {
        self.spend(1);
    }

    /// Charges for a read.
    #[inline]
    pub(crate) fn spend_read(&mut self) {
        self.spend(UNITS_PER_READ);
    }

    /// Charges for handling an event from a queue.
    pub(crate) fn spend_event(&mut self) {
        self.spend(UNITS_PER_READ);
    }

    #[inline]
    fn spend(&mut self, units: usize) {
        self.units = self.units.saturating_sub(units);
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.units == 0
    }

    /// Restores the budget, since the task yields or has just done so.
    pub(crate) fn refill(&mut self) {
        self.units = UNITS;
    }

    /// Yields if the budget is spent: returns pending once, and wakes the task immediately.
    pub(crate) fn poll_proceed(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_spent() {
            return Poll::Ready(());
        }
        self.refill();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Like [`CoopBudget::poll_proceed`].
    pub(crate) async fn proceed(&mut self) {
        poll_fn(|cx| self.poll_proceed(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_yields_when_budget_is_spent() {
        let cx = Context::from_waker(std::task::Waker::noop());
        let mut budget = CoopBudget::new();
        for _ in 0..3 {
            for _ in 0..15 {
                budget.spend_read();
                assert!(budget.poll_proceed(&cx).is_ready());
            }
            budget.spend_value();
            budget.spend_decoded(Decoded {
                bytes: (UNITS_PER_READ - 2) * BYTES_PER_UNIT,
                parts: PARTS_PER_UNIT,
            });
            assert!(budget.poll_proceed(&cx).is_pending());
        }
        budget.spend_decoded(Decoded { bytes: 1 << 30, parts: 0 });
        budget.refill();
        assert!(budget.poll_proceed(&cx).is_ready());
    }
}
