//! Decides whether, and when, a command is sent again, without clock or I/O.
//!
//! A [`RetryPolicy`] configures the number and delays of retries; a `RetrySession` counts the retries of one call and
//! decides after each failed attempt; a `RetryBudget` is shared by all calls of a client. A temporary refusal is not
//! a failed attempt: a `RefusalWait` schedules when the call is sent again.

mod backoff;
mod budget;
mod call_options;
pub(crate) mod refusal;
mod refusal_wait;
mod safety;

use std::time::{Duration, Instant};

use redis::{ErrorKind, RedisError};

use crate::command::Safety;
use crate::config::{Jitter, RetrySafety};
use crate::error::{Kind, Outcome, RedisErrorExt, is_temporary};

pub(crate) use backoff::Backoff;
pub(crate) use budget::RetryBudget;
pub(crate) use call_options::CallOptions;
pub(crate) use refusal_wait::RefusalWait;

/// How many retries to make, and how long to wait between them.
///
/// ```
/// use ha_redis_core::{Jitter, RetryPolicy};
/// use std::time::Duration;
///
/// let policy = RetryPolicy::new().max_retries(8).base_delay(Duration::from_millis(50)).jitter(Jitter::Full);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct RetryPolicy {
    max_retries: u32,
    backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl RetryPolicy {
    /// Creates a policy with the defaults of the Python library `ha_redis`: three retries, 0.1, 0.2 and 0.4 s after
    /// each failure, with [`Jitter::Added`]; delays grow up to 2 s.
    pub fn new() -> Self {
        let (base, cap) = (Duration::from_millis(100), Duration::from_secs(2));
        Self { max_retries: 3, backoff: Backoff { base, cap, jitter: Jitter::default() } }
    }

    /// Creates a policy that never retries.
    pub fn never() -> Self {
        Self::new().max_retries(0)
    }

    /// Sets how many retries may follow the first attempt.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = max_retries;
        self
    }

    /// Sets the delay before the first retry, which doubles for each further one.
    pub fn base_delay(mut self, delay: Duration) -> Self {
        self.backoff.base = delay;
        self
    }

    /// Sets the longest delay.
    pub fn longest_delay(mut self, delay: Duration) -> Self {
        self.backoff.cap = delay;
        self
    }

    /// Sets how delays are spread.
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.backoff.jitter = jitter;
        self
    }

    /// Starts the session of one call, which must end by `deadline`.
    pub(crate) fn session(self, deadline: Option<Instant>) -> RetrySession {
        RetrySession { policy: self, deadline, retries: 0 }
    }
}

/// The retries of one call.
#[derive(Debug)]
pub(crate) struct RetrySession {
    policy: RetryPolicy,
    deadline: Option<Instant>,
    retries: u32,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Send the command again at this time.
    RetryAt(Instant),
    GiveUp,
}

impl RetrySession {
    /// Decides after a failed attempt: a command that may have run is sent again only if `allowed` covers its safety.
    pub(crate) fn decide(
        &mut self,
        outcome: Outcome,
        safety: Safety,
        allowed: RetrySafety,
        now: Instant,
        random: u64,
    ) -> Decision {
        let harmless = match outcome {
            Outcome::NotSent | Outcome::NotApplied => true,
            Outcome::MaybeApplied => allowed.allows(safety),
            Outcome::Ran => false,
        };
        if harmless { self.next_retry(now, random) } else { Decision::GiveUp }
    }

    /// Decides for a caller who has declared the whole call repeatable.
    pub(crate) fn decide_repeatable(&mut self, error: &RedisError, now: Instant, random: u64) -> Decision {
        if is_transient(error) { self.next_retry(now, random) } else { Decision::GiveUp }
    }

    fn next_retry(&mut self, now: Instant, random: u64) -> Decision {
        let at = now + self.policy.backoff.delay(self.retries, random);
        if self.retries == self.policy.max_retries || self.deadline.is_some_and(|deadline| at >= deadline) {
            return Decision::GiveUp;
        }
        self.retries += 1;
        Decision::RetryAt(at)
    }
}

/// Returns true if the same call may well succeed a little later: the connection failed, a wait reached its bound, or
/// the server replied that it is not ready.
fn is_transient(error: &RedisError) -> bool {
    if let Some(error) = error.client_error() {
        let kind = error.kind();
        return matches!(kind, Kind::Connect | Kind::Lost | Kind::Timeout | Kind::NotMaster | Kind::Sentinel)
            || matches!(kind, Kind::Protocol | Kind::Overloaded);
    }
    error.kind() == ErrorKind::Io || is_temporary(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn policy() -> RetryPolicy {
        RetryPolicy::new().jitter(Jitter::None)
    }

    fn retries(outcome: Outcome, safety: Safety, allowed: RetrySafety) -> bool {
        policy().session(None).decide(outcome, safety, allowed, Instant::now(), 0) != Decision::GiveUp
    }

    #[test]
    fn default_retry_delays() {
        let now = Instant::now();
        let mut session = policy().session(None);
        let mut next = || session.decide(Outcome::NotApplied, Safety::Unsafe, RetrySafety::ReadOnly, now, 0);
        for millis in [100, 200, 400] {
            assert_eq!(next(), Decision::RetryAt(now + Duration::from_millis(millis)));
        }
        assert_eq!(next(), Decision::GiveUp);
    }

    #[test]
    fn maybe_applied_retried_only_if_allowed() {
        use RetrySafety::{Anything, ReadOnly, Repeatable};
        for safety in [Safety::ReadOnly, Safety::Repeatable, Safety::Unsafe] {
            for allowed in [ReadOnly, Repeatable, Anything] {
                assert!(retries(Outcome::NotSent, safety, allowed));
                assert!(retries(Outcome::NotApplied, safety, allowed));
                assert!(!retries(Outcome::Ran, safety, allowed));
            }
        }
        let maybe = |safety, allowed| retries(Outcome::MaybeApplied, safety, allowed);
        assert!(maybe(Safety::ReadOnly, ReadOnly) && !maybe(Safety::Repeatable, ReadOnly));
        assert!(maybe(Safety::Repeatable, Repeatable) && !maybe(Safety::Unsafe, Repeatable));
        assert!(maybe(Safety::Unsafe, Anything));
    }

    #[test]
    fn no_retry_after_deadline() {
        let now = Instant::now();
        let decide = |deadline: Duration| {
            let mut session = policy().session(Some(now + deadline));
            session.decide(Outcome::NotSent, Safety::ReadOnly, RetrySafety::ReadOnly, now, 0)
        };
        assert_eq!(decide(Duration::from_millis(100)), Decision::GiveUp);
        assert_ne!(decide(Duration::from_millis(101)), Decision::GiveUp);
    }

    #[test]
    fn repeatable_call_retried_after_transient_error() {
        let decide = |error: RedisError| policy().session(None).decide_repeatable(&error, Instant::now(), 0);
        let server = |line: &str| redis::parse_redis_value(line.as_bytes()).unwrap().extract_error();
        assert_ne!(decide(Error::new(Kind::Lost, "gone").into()), Decision::GiveUp);
        assert_ne!(decide(server("-LOADING wait\r\n").unwrap_err()), Decision::GiveUp);
        assert_eq!(decide(server("-WRONGTYPE no\r\n").unwrap_err()), Decision::GiveUp);
        let discarded = "-EXECABORT Transaction discarded because of:";
        assert_ne!(decide(server(&format!("{discarded} READONLY no\r\n")).unwrap_err()), Decision::GiveUp);
        assert_ne!(decide(server("-NOREPLICAS none\r\n").unwrap_err()), Decision::GiveUp);
        assert_eq!(decide(server(&format!("{discarded} ERR no\r\n")).unwrap_err()), Decision::GiveUp);
        assert_eq!(decide(Error::new(Kind::Authentication, "no").into()), Decision::GiveUp);
    }
}
