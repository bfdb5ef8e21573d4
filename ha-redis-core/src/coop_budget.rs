//! A budget of work between two points at which a task gives way. Runtimes such as smol and async-std have none of their
//! own: there, a task whose peer always has more to say would keep its thread for itself, and no timer around it would
//! ever fire.

use std::future::poll_fn;
use std::task::{Context, Poll};

/// A turn. It is short, since Tokio looks at timers and sockets after 61 turns only: 256 small values are some 20 µs.
const UNITS: usize = 256;
/// What a read counts for, however little it brings.
const READ: usize = UNITS / 16;
/// A value is a unit. So are a few parts of one, and so many bytes, which are copied.
const PARTS_OF_A_UNIT: usize = 4;
const BYTES_OF_A_UNIT: usize = 1024;

/// What it took to decode a value, or a piece of one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoded {
    pub(crate) bytes: usize,
    /// Values inside it.
    pub(crate) parts: usize,
}

/// What a task may still do before other tasks get their turn.
#[derive(Debug)]
pub(crate) struct CoopBudget {
    units: usize,
}

impl CoopBudget {
    pub(crate) const fn new() -> Self {
        Self { units: UNITS }
    }

    /// A value was decoded, or a piece of one. What is small is paid by [`CoopBudget::spend_value`].
    #[inline]
    pub(crate) fn spend_decoded(&mut self, piece: Decoded) {
        self.spend(piece.parts / PARTS_OF_A_UNIT + piece.bytes / BYTES_OF_A_UNIT);
    }

    /// A value was handled, whatever its size. Replies need not be counted where their number has a bound of its own.
    #[inline]
    pub(crate) fn spend_value(&mut self) {
        self.spend(1);
    }

    /// A read has come to something.
    #[inline]
    pub(crate) fn spend_read(&mut self) {
        self.spend(READ);
    }

    /// One event out of a queue was handled.
    pub(crate) fn spend_event(&mut self) {
        self.spend(READ);
    }

    #[inline]
    fn spend(&mut self, units: usize) {
        self.units = self.units.saturating_sub(units);
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.units == 0
    }

    /// The task gives way by itself, or has just now.
    pub(crate) fn refill(&mut self) {
        self.units = UNITS;
    }

    /// Gives way when the budget is spent: pending once, and woken at once.
    pub(crate) fn poll_proceed(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.is_spent() {
            return Poll::Ready(());
        }
        self.refill();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// As [`CoopBudget::poll_proceed`].
    pub(crate) async fn proceed(&mut self) {
        poll_fn(|cx| self.poll_proceed(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_gives_way_once_its_budget_is_spent() {
        let cx = Context::from_waker(std::task::Waker::noop());
        let mut budget = CoopBudget::new();
        for _ in 0..3 {
            for _ in 0..15 {
                budget.spend_read();
                assert!(budget.poll_proceed(&cx).is_ready());
            }
            budget.spend_value();
            budget.spend_decoded(Decoded { bytes: (READ - 2) * BYTES_OF_A_UNIT, parts: PARTS_OF_A_UNIT });
            assert!(budget.poll_proceed(&cx).is_pending());
        }
        budget.spend_decoded(Decoded { bytes: 1 << 30, parts: 0 });
        budget.refill();
        assert!(budget.poll_proceed(&cx).is_ready());
    }
}
