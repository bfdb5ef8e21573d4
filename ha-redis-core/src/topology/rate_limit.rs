//! Limits for what others can trigger.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::address::Address;

/// A token bucket: allows a burst, and then one more per interval.
#[derive(Debug)]
pub(crate) struct RateLimit {
    burst: u32,
    interval: Duration,
    /// When the whole burst is available again.
    full_at: Option<Instant>,
}

impl RateLimit {
    pub(crate) const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, full_at: None }
    }

    /// Returns true, and uses up a token, if it may happen now.
    pub(crate) fn try_acquire(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + self.interval;
        let is_allowed = full_at <= now + self.interval * self.burst;
        if is_allowed {
            self.full_at = Some(full_at);
        }
        is_allowed
    }

    /// Returns when the next token is available.
    #[cfg(test)]
    pub(crate) fn next_at(&self, now: Instant) -> Instant {
        let spare = self.interval * self.burst.saturating_sub(1);
        self.full_at.and_then(|full_at| full_at.checked_sub(spare)).map_or(now, |next| next.max(now))
    }
}

/// The first cooldown; it doubles each time.
const FIRST_COOLDOWN: Duration = Duration::from_secs(1);
const MAX_COOLDOWN: Duration = Duration::from_secs(120);
/// The maximum number of servers to remember.
const MAX_COOLDOWNS: usize = 64;

/// Servers that were checked without success and are left alone for a while.
#[derive(Debug, Default)]
pub(crate) struct Cooldowns(BTreeMap<Address, Cooldown>);

#[derive(Debug)]
struct Cooldown {
    length: Duration,
    until: Instant,
}

impl Cooldowns {
    pub(crate) fn start(&mut self, server: Address, now: Instant) {
        // Forget servers whose last failure is long ago.
        self.0.retain(|_, cooldown| now < cooldown.until + MAX_COOLDOWN);
        if self.0.len() >= MAX_COOLDOWNS
            && let Some(soonest) = self.0.iter().min_by_key(|(_, cooldown)| cooldown.until)
        {
            let soonest = soonest.0.clone();
            self.0.remove(&soonest);
        }
        let length =
            self.0.get(&server).map_or(FIRST_COOLDOWN, |cooldown| (cooldown.length * 2).min(MAX_COOLDOWN));
        self.0.insert(server, Cooldown { length, until: now + length });
    }

    pub(crate) fn is_cooling_down(&self, server: &Address, now: Instant) -> bool {
        self.0.get(server).is_some_and(|cooldown| now < cooldown.until)
    }

    pub(crate) fn clear(&mut self, server: &Address) {
        self.0.remove(server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_return_one_per_interval() {
        let start = Instant::now();
        let mut limit = RateLimit::new(2, Duration::from_secs(1));
        let mut taken = |ms: u64| limit.try_acquire(start + Duration::from_millis(ms));
        assert_eq!([0, 0, 0, 999].map(&mut taken), [true, true, false, false]);
        assert_eq!([1000, 1001, 2000].map(&mut taken), [true, false, true]);
        assert_eq!(limit.next_at(start + Duration::from_millis(2000)), start + Duration::from_secs(3));
        let mut taken = |ms: u64| limit.try_acquire(start + Duration::from_millis(ms));
        assert_eq!([60_000, 60_000, 60_000].map(&mut taken), [true, true, false], "at most the whole burst");
    }

    #[test]
    fn cooldowns_double_and_expire() {
        let (start, server) = (Instant::now(), Address::tcp("r", 1));
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut cooldowns = Cooldowns::default();
        cooldowns.start(server.clone(), start);
        assert!(cooldowns.is_cooling_down(&server, start) && !cooldowns.is_cooling_down(&server, after(1)));
        cooldowns.start(server.clone(), after(1));
        assert!(
            cooldowns.is_cooling_down(&server, after(2)) && !cooldowns.is_cooling_down(&server, after(3))
        );
        cooldowns.start(server.clone(), after(500));
        assert!(!cooldowns.is_cooling_down(&server, after(501)));
        (0..100).for_each(|port| cooldowns.start(Address::tcp("s", port), after(500)));
        assert_eq!(cooldowns.0.len(), MAX_COOLDOWNS);
        cooldowns.clear(&Address::tcp("s", 99));
        assert!(!cooldowns.is_cooling_down(&Address::tcp("s", 99), after(500)));
    }
}
