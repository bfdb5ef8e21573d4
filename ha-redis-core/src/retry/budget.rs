//! Limits how many retries a client may make, so that retries do not overload a server that is already failing.

use std::sync::atomic::{AtomicU64, Ordering};

/// A bucket of tokens, one for each retry. Every reply adds a fraction of one.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    /// In hundredths of a token.
    tokens: AtomicU64,
    full: u64,
    /// What a reply adds, or [`NO_LIMIT`].
    share: AtomicU64,
}

const TOKEN: u64 = 100;
const NO_LIMIT: u64 = u64::MAX;

impl RetryBudget {
    /// Creates a full bucket of `reserve` tokens. Every reply adds `percent` of one; 100 turns the limit off.
    pub(crate) fn new(reserve: u32, percent: u32) -> Self {
        let full = u64::from(reserve) * TOKEN;
        Self { tokens: full.into(), full, share: share(percent).into() }
    }

    /// Sets what a reply adds from now on.
    pub(crate) fn set_percent(&self, percent: u32) {
        self.share.store(share(percent), Ordering::Relaxed);
    }

    fn share(&self) -> Option<u64> {
        Some(self.share.load(Ordering::Relaxed)).filter(|share| *share != NO_LIMIT)
    }

    pub(crate) fn fill(&self, replies: usize) {
        let Some(share) = self.share() else { return };
        // The bucket is full most of the time; then the memory that all drivers share is only read.
        let fill = |tokens: u64| {
            let filled = tokens.saturating_add(share * replies as u64).min(self.full);
            (filled != tokens).then_some(filled)
        };
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fill);
    }

    /// Takes a token for a retry. Returns false if there is none left.
    pub(crate) fn take(&self) -> bool {
        let take = |tokens: u64| tokens.checked_sub(TOKEN);
        self.share().is_none() || self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

fn share(percent: u32) -> u64 {
    if percent < 100 { u64::from(percent) } else { NO_LIMIT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_may_change() {
        let budget = RetryBudget::new(1, 100);
        assert!(budget.take() && budget.take());
        budget.set_percent(50);
        assert!(budget.take() && !budget.take());
        budget.fill(2);
        assert!(budget.take() && !budget.take());
    }

    #[test]
    fn budget_is_reserve_then_share_of_replies() {
        let budget = RetryBudget::new(2, 20);
        assert!(budget.take() && budget.take());
        assert!(!budget.take());
        budget.fill(4);
        assert!(!budget.take(), "four replies are worth four fifths of a retry");
        budget.fill(1);
        assert!(budget.take() && !budget.take());
        budget.fill(1_000_000);
        assert!(budget.take() && budget.take() && !budget.take(), "no more than the reserve is stored");
    }

    #[test]
    fn no_limit_at_hundred_percent() {
        let budget = RetryBudget::new(0, 100);
        assert!((0..1_000).all(|_| budget.take()));
    }
}
