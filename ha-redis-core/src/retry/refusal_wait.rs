//! How long a call waits for a server that refuses it for now.

use std::time::{Duration, Instant};

use crate::retry::{Backoff, Jitter};

/// Delays between attempts to send a refused call again.
const PAUSE: Backoff =
    Backoff { base: Duration::from_millis(25), cap: Duration::from_millis(500), jitter: Jitter::Equal };

/// The last attempt is made this long before the end, so that its reply comes before the caller's deadline.
const LAST_ATTEMPT_BEFORE_END: Duration = Duration::from_millis(50);

/// The wait of one refused call.
///
/// This is not a retry. A refused call has not run, so nothing runs twice. The server has not failed either: it is
/// loading, or in the middle of a failover, which takes its time. So the wait is bounded like a wait for a
/// connection, not by the number of retries, and it takes nothing from the retry budget, which a failover would empty
/// for all other calls. The pause keeps the load low: a caller asks twice a second, and a refusal costs the server
/// less than a command.
#[derive(Debug, Default)]
pub(crate) struct RefusalWait {
    until: Option<Instant>,
    attempts: u32,
}

impl RefusalWait {
    /// Returns when to send the call again and when the wait ends. The wait ends at `bound` if it starts now. `None`
    /// when the time is over.
    pub(crate) fn next(&mut self, bound: Instant, now: Instant, random: u64) -> Option<(Instant, Instant)> {
        let until = *self.until.get_or_insert(bound);
        let last = until.checked_sub(LAST_ATTEMPT_BEFORE_END).filter(|last| *last > now)?;
        let at = (now + PAUSE.delay(self.attempts, random)).min(last);
        self.attempts += 1;
        Some((at, until))
    }

    /// Restarts the wait if the server held the call for longer than a mere reply takes before it refused it.
    pub(crate) fn record_refused_after(&mut self, lasted: Duration) {
        if lasted > PAUSE.cap {
            *self = Self::default();
        }
    }

    /// Returns true if the call was refused exactly once.
    pub(crate) fn is_first_refusal(&self) -> bool {
        self.attempts == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_spread_until_bound() {
        let start = Instant::now();
        let bound = start + Duration::from_secs(10);
        let mut wait = RefusalWait::default();
        let mut now = start;
        let mut attempts = 0;
        while let Some((at, until)) = wait.next(bound + (now - start), now, u64::MAX) {
            assert_eq!(until, bound, "the wait does not restart");
            assert!(at > now && at - now <= Duration::from_millis(500));
            (now, attempts) = (at, attempts + 1);
        }
        assert_eq!(now, bound - LAST_ATTEMPT_BEFORE_END);
        assert!((20..40).contains(&attempts), "{attempts} attempts");
    }

    #[test]
    fn wait_restarts_after_blocking_call() {
        let now = Instant::now();
        let bound = now + Duration::from_secs(1);
        let later = bound + Duration::from_secs(1);
        for (lasted, until) in [(Duration::from_millis(1), bound), (Duration::from_secs(1), later)] {
            let mut wait = RefusalWait::default();
            wait.next(bound, now, 0);
            wait.record_refused_after(lasted);
            assert_eq!(wait.next(later, now, 0).map(|(_, until)| until), Some(until));
        }
    }

    #[test]
    fn no_attempt_without_time() {
        let now = Instant::now();
        assert_eq!(RefusalWait::default().next(now, now, 0), None);
    }
}
