//! Credentials that expire, such as tokens of a cloud provider.

use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Credentials, CredentialsError, CredentialsProvider};
use crate::alarm;

/// The share of a token's life after which it is renewed, in percent: at least this, and up to [`JITTER`] more, so that
/// many clients do not renew theirs at the same moment.
const RENEW_AT: u32 = 70;
const JITTER: u32 = 15;

/// No token is renewed more often.
const MIN_WAIT: Duration = Duration::from_millis(100);

/// How long the function may take: half of the remaining time of the last credentials, within these bounds.
const MIN_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

type Fetched = Pin<Box<dyn Future<Output = Result<Credentials, CredentialsError>> + Send>>;

/// Credentials that a function of the application returns, and returns again before they expire: tokens of AWS IAM
/// (valid for 15 minutes), Entra ID or Google Cloud (1 hour).
///
/// The function is called again when 70 to 85 percent of the time of [`Credentials::valid_for`] have passed. Credentials
/// without that time never expire, and the function is not called again.
///
/// A call may take half of the time that the last credentials are still valid, but at least 10 and at most 30 seconds;
/// the first one may take 10 seconds. After that its future is dropped, which counts as an error, and the function is
/// called again.
///
/// ```
/// use ha_redis_core::{ClientOptions, Credentials, RefreshedCredentials};
/// use std::time::Duration;
///
/// # async fn sign(cluster: &str) -> Result<String, std::io::Error> { Ok(cluster.to_owned()) }
/// let tokens = RefreshedCredentials::new("IAM", || async {
///     let token = sign("my-cluster").await?;
///     Ok(Credentials::new("app", token).valid_for(Duration::from_secs(15 * 60)))
/// });
/// let options = ClientOptions::new().credentials(tokens);
/// ```
pub struct RefreshedCredentials {
    name: String,
    fetch: Box<dyn FnMut() -> Fetched + Send>,
    next: Next,
    /// When the last credentials expire.
    expires_at: Option<Instant>,
    min_timeout: Duration,
}

/// When the function is called.
enum Next {
    Now,
    At(Instant),
    Never,
}

impl RefreshedCredentials {
    /// Returns a provider that calls `fetch`. Errors name it as `name`.
    pub fn new<F, Fut>(name: impl Into<String>, mut fetch: F) -> Self
    where
        F: FnMut() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Credentials, CredentialsError>> + Send + 'static,
    {
        Self {
            name: name.into(),
            fetch: Box::new(move || Box::pin(fetch())),
            next: Next::Now,
            expires_at: None,
            min_timeout: MIN_TIMEOUT,
        }
    }
}

#[async_trait]
impl CredentialsProvider for RefreshedCredentials {
    async fn next_credentials(&mut self) -> Result<Credentials, CredentialsError> {
        match self.next {
            Next::Now => {}
            Next::At(at) => alarm::sleep(at.saturating_duration_since(Instant::now())).await,
            Next::Never => pending().await,
        }
        // After an error, the next call does not wait.
        self.next = Next::Now;
        let started_at = Instant::now();
        let remaining = self.expires_at.map(|at| at.saturating_duration_since(started_at));
        let timeout = timeout(remaining.unwrap_or_default(), self.min_timeout);
        let Ok(fetched) = alarm::timeout(timeout, (self.fetch)()).await else {
            return Err(format!("it has not returned credentials within {timeout:?}").into());
        };
        let credentials = fetched?;
        let after = |time| started_at.checked_add(time);
        let renewal = credentials.valid_for.map(|time| renewal(time, fastrand::u32(0..=JITTER)));
        self.next = renewal.and_then(after).map_or(Next::Never, Next::At);
        self.expires_at = credentials.valid_for.and_then(after);
        Ok(credentials)
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl fmt::Debug for RefreshedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshedCredentials").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Returns how long the function may take while the last credentials are valid for `remaining`.
fn timeout(remaining: Duration, min: Duration) -> Duration {
    (remaining / 2).clamp(min, MAX_TIMEOUT)
}

/// Returns how long a token is used that is valid for `time`.
fn renewal(time: Duration, jitter: u32) -> Duration {
    (time / 100).saturating_mul(RENEW_AT + jitter).max(MIN_WAIT)
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn token_is_renewed_before_it_expires() {
        let life = Duration::from_secs(900);
        assert_eq!(renewal(life, 0), Duration::from_secs(630));
        assert_eq!(renewal(life, JITTER), Duration::from_secs(765));
        assert_eq!(renewal(Duration::ZERO, 0), MIN_WAIT);
        assert!(renewal(Duration::MAX, JITTER) < Duration::MAX);
    }

    #[test]
    fn function_is_called_again_in_time() {
        let mut calls = 0;
        let mut provider = RefreshedCredentials::new("test", move || {
            calls += 1;
            let token = Credentials::new("app", calls.to_string()).valid_for(Duration::from_millis(1));
            async move { if calls == 2 { Err("none today".into()) } else { Ok(token) } }
        });
        let mut next = || block_on(provider.next_credentials());
        assert_eq!(next().unwrap().password(), "1");
        assert_eq!(next().unwrap_err().to_string(), "none today");
        assert_eq!(next().unwrap().password(), "3");
    }

    #[test]
    fn credentials_without_end_are_kept() {
        let mut provider = RefreshedCredentials::new("test", || async { Ok(Credentials::new("app", "pw")) });
        assert!(block_on(provider.next_credentials()).is_ok());
        assert!(block_on(poll_once(provider.next_credentials())).is_none());
    }

    #[test]
    fn hanging_function_is_called_again() {
        let mut calls = 0;
        let mut provider = RefreshedCredentials::new("test", move || {
            calls += 1;
            let is_hanging = calls == 2;
            async move {
                match is_hanging {
                    true => pending().await,
                    false => Ok(Credentials::new("app", "pw").valid_for(Duration::from_millis(1))),
                }
            }
        });
        provider.min_timeout = Duration::from_millis(10);
        assert!(block_on(provider.next_credentials()).is_ok());
        let error = block_on(provider.next_credentials()).unwrap_err();
        assert_eq!(error.to_string(), "it has not returned credentials within 10ms");
        assert!(block_on(provider.next_credentials()).is_ok());
    }

    #[test]
    fn function_may_take_half_of_remaining_life() {
        let timeout = |life| timeout(Duration::from_secs(life), MIN_TIMEOUT).as_secs();
        assert_eq!([0, 5, 20, 40, 900].map(timeout), [10, 10, 10, 20, 30]);
    }
}
