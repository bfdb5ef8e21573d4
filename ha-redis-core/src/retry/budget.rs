//! How many retries a client may make: a sick server is not to be hammered by those who wait for it.

use std::sync::atomic::{AtomicU64, Ordering};

/// A bucket of tokens, one a retry. Every reply fills in a share of one.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// In hundredths of a token.
    tokens: AtomicU64,
    full: u64,
    /// What a reply fills in; `None` when there is no limit.
    share: Option<u64>,
}

const TOKEN: u64 = 100;

impl RetryBudget {
    /// A full bucket of `reserve` tokens, into which a reply fills `percent` of one; 100 turns the limit off.
    pub(crate) fn new(reserve: u32, percent: u32) -> Self {
        let full = u64::from(reserve) * TOKEN;
        Self { tokens: full.into(), full, share: (percent < 100).then_some(u64::from(percent)) }
    }

    pub(crate) fn fill(&self, replies: usize) {
        let Some(share) = self.share else { return };
        // Most of the time it is full, and the memory that all drivers share is only read.
        let fill = |tokens: u64| {
            let filled = tokens.saturating_add(share * replies as u64).min(self.full);
            (filled != tokens).then_some(filled)
        };
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fill);
    }

    /// Takes a token for a retry. False when there is none left.
    pub(crate) fn take(&self) -> bool {
        let take = |tokens: u64| tokens.checked_sub(TOKEN);
        self.share.is_none() || self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_and_then_a_share_of_the_replies() {
        let budget = RetryBudget::new(2, 20);
        assert!(budget.take() && budget.take());
        assert!(!budget.take());
        budget.fill(4);
        assert!(!budget.take(), "four replies are worth four fifths of a retry");
        budget.fill(1);
        assert!(budget.take() && !budget.take());
        budget.fill(1_000_000);
        assert!(budget.take() && budget.take() && !budget.take(), "no more than the reserve is kept");
    }

    #[test]
    fn a_hundred_percent_is_no_limit() {
        let budget = RetryBudget::new(0, 100);
        assert!((0..1_000).all(|_| budget.take()));
    }
}
