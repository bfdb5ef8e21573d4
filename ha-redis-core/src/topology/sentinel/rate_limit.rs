//! How often something may happen that others cause.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::address::Address;

/// So many times at once, and then once more each time that the pause has passed.
#[derive(Debug)]
pub(super) struct RateLimit {
    most: u32,
    pause: Duration,
    /// When all of it is there again.
    full_at: Option<Instant>,
}

impl RateLimit {
    pub(super) const fn new(most: u32, pause: Duration) -> Self {
        Self { most, pause, full_at: None }
    }

    /// Whether it may happen now; if so, it does.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + self.pause;
        let is_present = full_at <= now + self.pause * self.most;
        if is_present {
            self.full_at = Some(full_at);
        }
        is_present
    }
}

/// The first rest, which doubles each time.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(120);
/// So many servers are remembered at the most.
const MAX_COOLDOWNS: usize = 64;

/// Servers that were looked at in vain, and are not looked at for a while.
#[derive(Debug, Default)]
pub(super) struct Cooldowns(BTreeMap<Address, Cooldown>);

#[derive(Debug)]
struct Cooldown {
    length: Duration,
    until: Instant,
}

impl Cooldowns {
    pub(super) fn begin(&mut self, server: Address, now: Instant) {
        // What was long ago says nothing any more.
        self.0.retain(|_, rest| now < rest.until + LONGEST_REST);
        if self.0.len() >= MAX_COOLDOWNS
            && let Some(soonest) = self.0.iter().min_by_key(|(_, rest)| rest.until)
        {
            let soonest = soonest.0.clone();
            self.0.remove(&soonest);
        }
        let length = self.0.get(&server).map_or(FIRST_REST, |rest| (rest.length * 2).min(LONGEST_REST));
        self.0.insert(server, Cooldown { length, until: now + length });
    }

    pub(super) fn is_resting(&self, server: &Address, now: Instant) -> bool {
        self.0.get(server).is_some_and(|rest| now < rest.until)
    }

    pub(super) fn end(&mut self, server: &Address) {
        self.0.remove(server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_comes_back_bit_by_bit() {
        let start = Instant::now();
        let mut allowance = RateLimit::new(2, Duration::from_secs(1));
        let mut taken = |ms: u64| allowance.take(start + Duration::from_millis(ms));
        assert_eq!([0, 0, 0, 999].map(&mut taken), [true, true, false, false]);
        assert_eq!([1000, 1001, 2000].map(&mut taken), [true, false, true]);
        assert_eq!([60_000, 60_000, 60_000].map(&mut taken), [true, true, false], "no more than all of it");
    }

    #[test]
    fn rests_double_and_are_forgotten() {
        let (start, server) = (Instant::now(), Address::tcp("r", 1));
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut rests = Cooldowns::default();
        rests.begin(server.clone(), start);
        assert!(rests.is_resting(&server, start) && !rests.is_resting(&server, after(1)));
        rests.begin(server.clone(), after(1));
        assert!(rests.is_resting(&server, after(2)) && !rests.is_resting(&server, after(3)));
        rests.begin(server.clone(), after(500));
        assert!(!rests.is_resting(&server, after(501)));
        (0..100).for_each(|port| rests.begin(Address::tcp("s", port), after(500)));
        assert_eq!(rests.0.len(), MAX_COOLDOWNS);
        rests.end(&Address::tcp("s", 99));
        assert!(!rests.is_resting(&Address::tcp("s", 99), after(500)));
    }
}
