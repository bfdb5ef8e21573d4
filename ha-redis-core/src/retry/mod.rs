//! Whether, and when, a command is sent again: decisions only, no clock and no I/O.

mod backoff;
pub(crate) mod refusal;

use std::time::Duration;

use redis::{ErrorKind, RedisError};

use crate::command::Safety;
use crate::error::{Kind, Outcome, RedisErrorExt, runs_nothing};

pub(crate) use backoff::Backoff;

/// Waits between retries grow no longer than this.
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// How often and how patiently a client tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// How many attempts may follow the first.
    retries: u32,
    backoff: Backoff,
}

impl RetryPolicy {
    pub(crate) fn new(retries: u32, base: Duration) -> Self {
        Self { retries, backoff: Backoff { base, cap: LONGEST_DELAY } }
    }

    /// A policy that never tries again.
    pub(crate) fn never() -> Self {
        Self::new(0, Duration::ZERO)
    }

    /// Begins the account of one call.
    pub(crate) fn session(self) -> RetrySession {
        RetrySession { policy: self, made: 0 }
    }
}

/// The retries of one call.
#[derive(Debug)]
pub(crate) struct RetrySession {
    policy: RetryPolicy,
    made: u32,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Send the command again after this time.
    Retry(Duration),
    GiveUp,
}

impl RetrySession {
    /// Decides on a failed attempt: a command that may have run is sent again only if that does no harm.
    pub(crate) fn decide(&mut self, outcome: Outcome, safety: Safety, random: u64) -> Decision {
        let harmless = match outcome {
            Outcome::NotSent | Outcome::NotApplied => true,
            Outcome::MaybeApplied => safety != Safety::Unsafe,
            Outcome::Applied => false,
        };
        if harmless { self.again(random) } else { Decision::GiveUp }
    }

    /// Decides for a caller who has said that the whole may be repeated.
    pub(crate) fn decide_repeatable(&mut self, error: &RedisError, random: u64) -> Decision {
        if is_transient(error) { self.again(random) } else { Decision::GiveUp }
    }

    fn again(&mut self, random: u64) -> Decision {
        if self.made == self.policy.retries {
            return Decision::GiveUp;
        }
        let delay = self.policy.backoff.jittered(self.made, random);
        self.made += 1;
        Decision::Retry(delay)
    }
}

/// Whether the same call may well succeed a little later: the connection failed, a wait came to its bound,
/// or the server says that it is not ready.
fn is_transient(error: &RedisError) -> bool {
    if let Some(error) = error.client_error() {
        let kind = error.kind();
        return matches!(kind, Kind::Connect | Kind::Lost | Kind::Timeout | Kind::NotMaster | Kind::Sentinel)
            || matches!(kind, Kind::Protocol | Kind::Overloaded);
    }
    match error.kind() {
        ErrorKind::Server(kind) => runs_nothing(kind),
        ErrorKind::Io => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn policy() -> RetryPolicy {
        RetryPolicy::new(3, Duration::from_millis(100))
    }

    fn first(outcome: Outcome, safety: Safety) -> bool {
        policy().session().decide(outcome, safety, 0) != Decision::GiveUp
    }

    #[test]
    fn the_schedule_is_a_tenth_two_tenths_four_tenths_of_a_second() {
        let mut session = policy().session();
        let mut next = || session.decide(Outcome::NotApplied, Safety::Unsafe, 0);
        for millis in [100, 200, 400] {
            assert_eq!(next(), Decision::Retry(Duration::from_millis(millis)));
        }
        assert_eq!(next(), Decision::GiveUp);
    }

    #[test]
    fn only_what_does_no_harm_runs_twice() {
        for safety in [Safety::ReadOnly, Safety::Repeatable, Safety::Unsafe] {
            assert!(first(Outcome::NotSent, safety));
            assert!(first(Outcome::NotApplied, safety));
            assert!(!first(Outcome::Applied, safety));
            assert_eq!(first(Outcome::MaybeApplied, safety), safety != Safety::Unsafe);
        }
    }

    #[test]
    fn a_policy_without_retries_gives_up_at_once() {
        let decision = RetryPolicy::never().session().decide(Outcome::NotSent, Safety::ReadOnly, 0);
        assert_eq!(decision, Decision::GiveUp);
    }

    #[test]
    fn a_repeatable_whole_is_tried_again_after_what_may_pass() {
        let decide = |error: RedisError| policy().session().decide_repeatable(&error, 0);
        let server = |line: &str| redis::parse_redis_value(line.as_bytes()).unwrap().extract_error();
        assert_ne!(decide(Error::new(Kind::Lost, "gone").into()), Decision::GiveUp);
        assert_ne!(decide(server("-LOADING wait\r\n").unwrap_err()), Decision::GiveUp);
        assert_eq!(decide(server("-WRONGTYPE no\r\n").unwrap_err()), Decision::GiveUp);
        assert_eq!(decide(Error::new(Kind::Authentication, "no").into()), Decision::GiveUp);
    }
}
