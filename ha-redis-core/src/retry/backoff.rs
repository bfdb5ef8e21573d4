//! How long to wait before trying again.

use std::time::Duration;

/// Exponential backoff: `base × 2ⁿ`, capped, with jitter on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) base: Duration,
    pub(crate) cap: Duration,
}

impl Backoff {
    /// Between attempts to connect, which callers wait for.
    pub(crate) const RECONNECT: Self = Self { base: Duration::from_millis(50), cap: Duration::from_secs(1) };

    /// The wait before retry number `retry`, counted from 0, without jitter.
    pub(crate) fn delay(&self, retry: u32) -> Duration {
        let factor = 1_u32.checked_shl(retry).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The wait with up to a quarter more, so that clients which failed together do not return together.
    pub(crate) fn jittered(&self, retry: u32, random: u64) -> Duration {
        let delay = self.delay(retry);
        let share = (random >> 32) as f64 / f64::from(u32::MAX);
        delay + delay.mul_f64(share / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(2) };

    #[test]
    fn waits_double_up_to_the_cap() {
        let waits: Vec<_> = (0..8).map(|retry| BACKOFF.delay(retry).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        assert_eq!(BACKOFF.delay(u32::MAX), BACKOFF.cap);
    }

    #[test]
    fn jitter_adds_up_to_a_quarter() {
        assert_eq!(BACKOFF.jittered(1, 0).as_millis(), 200);
        assert_eq!(BACKOFF.jittered(1, u64::MAX).as_millis(), 250);
        assert_eq!(BACKOFF.jittered(1, u64::MAX / 2).as_millis(), 225);
    }
}
