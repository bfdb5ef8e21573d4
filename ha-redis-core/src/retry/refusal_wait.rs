//! How a call waits for what a server refuses for now.

use std::time::{Duration, Instant};

use crate::retry::{Backoff, Jitter};

/// Between the questions whether a server takes a call by now.
const PAUSE: Backoff =
    Backoff { base: Duration::from_millis(25), cap: Duration::from_millis(500), jitter: Jitter::Equal };

/// The last question is asked this long before the end, so that its answer comes before the caller's deadline.
const LAST_QUESTION: Duration = Duration::from_millis(50);

/// The wait of one call.
///
/// It is no retry. What was refused has not run, so nothing runs twice; and the server is not sick but in the middle of a
/// failover, or loading, which takes as long as it takes. So such a wait has the bound of a wait for a connection and not
/// the attempts of a policy, and it takes nothing from the budget, which a failover would empty for all other calls. What
/// keeps the load low is the pause: a caller asks twice a second, and a refusal costs the server less than a command.
#[derive(Debug, Default)]
pub(crate) struct RefusalWait {
    until: Option<Instant>,
    asked: u32,
}

impl RefusalWait {
    /// When to ask again, with the end of the wait, which is `bound` if it begins now. `None` when the time is over.
    pub(crate) fn next(&mut self, bound: Instant, now: Instant, random: u64) -> Option<(Instant, Instant)> {
        let until = *self.until.get_or_insert(bound);
        let last = until.checked_sub(LAST_QUESTION).filter(|last| *last > now)?;
        let at = (now + PAUSE.delay(self.asked, random)).min(last);
        self.asked += 1;
        Some((at, until))
    }

    /// The server had taken the call in for so long before it refused it: if that is no mere reply, the wait begins anew.
    pub(crate) fn was_taken(&mut self, lasted: Duration) {
        if lasted > PAUSE.cap {
            *self = Self::default();
        }
    }

    /// Whether the call was refused once and no more.
    pub(crate) fn is_new(&self) -> bool {
        self.asked == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_less_and_less_often_until_its_time_is_over() {
        let start = Instant::now();
        let bound = start + Duration::from_secs(10);
        let mut wait = RefusalWait::default();
        let mut now = start;
        let mut asked = 0;
        while let Some((at, until)) = wait.next(bound + (now - start), now, u64::MAX) {
            assert_eq!(until, bound, "the wait is not begun anew");
            assert!(at > now && at - now <= Duration::from_millis(500));
            (now, asked) = (at, asked + 1);
        }
        assert_eq!(now, bound - LAST_QUESTION);
        assert!((20..40).contains(&asked), "{asked} questions");
    }

    #[test]
    fn it_begins_anew_when_the_call_had_waited_on_the_server() {
        let now = Instant::now();
        let bound = now + Duration::from_secs(1);
        let later = bound + Duration::from_secs(1);
        for (lasted, until) in [(Duration::from_millis(1), bound), (Duration::from_secs(1), later)] {
            let mut wait = RefusalWait::default();
            wait.next(bound, now, 0);
            wait.was_taken(lasted);
            assert_eq!(wait.next(later, now, 0).map(|(_, until)| until), Some(until));
        }
    }

    #[test]
    fn without_time_it_does_not_ask_again() {
        let now = Instant::now();
        assert_eq!(RefusalWait::default().next(now, now, 0), None);
    }
}
