//! A budget of work between two points at which a task gives way. Runtimes such as smol and async-std have none of their
//! own: there, a task whose peer always has more to say would keep its thread for itself, and no timer around it would
//! ever fire.

use std::future::poll_fn;
use std::task::{Context, Poll};

/// So many bytes are decoded in a turn: in the smallest values, a millisecond or two of work.
const BYTES: usize = 64 << 10;
/// What a read counts for, however little it brings: 16 reads are a turn.
const BYTES_OF_A_READ: usize = BYTES / 16;

/// What a task may still do before other tasks get their turn.
#[derive(Debug)]
pub(crate) struct CoopBudget {
    bytes: usize,
}

impl CoopBudget {
    pub(crate) const fn new() -> Self {
        Self { bytes: BYTES }
    }

    /// So many bytes were decoded.
    pub(crate) fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// A read has come to something.
    pub(crate) fn spend_read(&mut self) {
        self.spend(BYTES_OF_A_READ);
    }

    /// A piece of work that is no read was done, such as handling one event out of a queue.
    #[cfg(feature = "sentinel")]
    pub(crate) fn spend_event(&mut self) {
        self.spend(BYTES / 64);
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.bytes == 0
    }

    /// The task gives way by itself, or has just now.
    pub(crate) fn refill(&mut self) {
        self.bytes = BYTES;
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
            budget.spend(BYTES_OF_A_READ);
            assert!(budget.poll_proceed(&cx).is_pending());
        }
        budget.spend(usize::MAX);
        budget.refill();
        assert!(budget.poll_proceed(&cx).is_ready());
    }
}
