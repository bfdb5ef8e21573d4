//! The time to wait before the next attempt.

use std::time::Duration;

use crate::config::Jitter;

impl Jitter {
    fn spread(self, delay: Duration, random: u64) -> Duration {
        let share = (random >> 32) as f64 / f64::from(u32::MAX);
        match self {
            Self::Added => delay + delay.mul_f64(share / 4.0),
            Self::Equal => delay / 2 + (delay / 2).mul_f64(share),
            Self::Full => delay.mul_f64(share),
            Self::None => delay,
        }
    }
}

/// Upper bound of any delay, whatever a caller sets.
const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Exponential backoff: `base × 2ⁿ`, capped, with jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) base: Duration,
    pub(crate) cap: Duration,
    pub(crate) jitter: Jitter,
}

impl Backoff {
    /// Before the first attempt to replace a lost connection: nearly no delay, but not the same instant for all
    /// clients of a server.
    pub(crate) const AFTER_LOSS: Self =
        Self { base: Duration::from_millis(50), cap: Duration::from_millis(50), jitter: Jitter::Full };
    /// Between attempts to connect while callers wait.
    pub(crate) const RECONNECT: Self =
        Self { base: Duration::from_millis(100), cap: Duration::from_secs(1), jitter: Jitter::Equal };
    /// After an attempt that already waited as long as it may.
    pub(crate) const AFTER_WAIT: Self =
        Self { base: Duration::from_millis(200), cap: Duration::from_millis(200), jitter: Jitter::Full };
    /// Between attempts that fail until somebody changes a setting.
    pub(crate) const PERMANENT_FAILURE: Self =
        Self { base: Duration::from_millis(250), cap: Duration::from_secs(5), jitter: Jitter::Equal };

    /// Returns the delay before retry number `retry`, counted from 0.
    pub(crate) fn delay(&self, retry: u32, random: u64) -> Duration {
        let factor = 1_u32.checked_shl(retry).unwrap_or(u32::MAX);
        self.jitter.spread(self.base.saturating_mul(factor).min(self.cap).min(MAX_DELAY), random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backoff(jitter: Jitter) -> Backoff {
        Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(2), jitter }
    }

    #[test]
    fn delay_doubles_up_to_cap() {
        let waits: Vec<_> = (0..8).map(|retry| backoff(Jitter::None).delay(retry, 7).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        assert_eq!(backoff(Jitter::None).delay(u32::MAX, 7), Duration::from_secs(2));
    }

    #[test]
    fn jitter_spreads_delay() {
        let between =
            |jitter| [0, u64::MAX / 2, u64::MAX].map(|random| backoff(jitter).delay(1, random).as_millis());
        assert_eq!(between(Jitter::Added), [200, 225, 250]);
        assert_eq!(between(Jitter::Equal), [100, 150, 200]);
        assert_eq!(between(Jitter::Full), [0, 100, 200]);
        assert_eq!(between(Jitter::None), [200, 200, 200]);
    }
}
