//! The task that reads credentials from the application's provider.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::{FutureExt, future};

use crate::conn::connector::Connector;
use crate::credentials::{Credentials, CredentialsProvider};
use crate::error::{Error, Kind};
use crate::events::Event;
use crate::node::core::Core;
use crate::peer_text::printable;
use crate::retry::Backoff;
use crate::time::sleep;

/// The pause between two calls of the provider: one that never waits costs a bounded amount of work.
const PAUSE: Duration = Duration::from_millis(10);

/// Failures that are further apart are reported separately.
const QUIET_TIME: Duration = Duration::from_secs(60);

/// Keeps the credentials of the connections to masters and replicas up to date.
pub(crate) async fn run(core: Arc<Core>) {
    let Some(provider) = core.take_credentials() else { return };
    future::or(keep_current(&core, &core.data, provider), core.lifecycle.closing()).await;
}

/// Keeps the credentials of the connections to Sentinels up to date.
#[cfg(feature = "sentinel")]
pub(crate) async fn run_for_sentinels(core: Arc<Core>) {
    let Some(provider) = core.take_sentinel_credentials() else { return };
    future::or(keep_current(&core, &core.sentinels, provider), core.lifecycle.closing()).await;
}

async fn keep_current(core: &Core, connector: &Connector, mut provider: Box<dyn CredentialsProvider>) {
    let name = printable(&provider.name());
    let mut failures = Failures::default();
    loop {
        match next(&mut *provider).await {
            Ok(credentials) => {
                connector.remember(&credentials);
                let user = printable(credentials.user());
                if connector.login.set(Some(credentials)) {
                    failures = Failures::default();
                    tracing::info!(%user, from = %name, "using new credentials");
                }
                sleep(&*core.runtime, PAUSE).await;
            }
            Err(failure) => {
                let failure = printable(&connector.hide(failure));
                let earlier = failures.count(core.runtime.now());
                if earlier == 0 {
                    report(core, connector, &name, &failure);
                }
                connector.login.failed(failure);
                sleep(&*core.runtime, Backoff::RECONNECT.delay(earlier, core.runtime.random())).await;
            }
        }
    }
}

/// Calls the provider, which is the application's code and may panic.
async fn next(provider: &mut dyn CredentialsProvider) -> Result<Credentials, String> {
    let call = async { provider.next_credentials().await.map_err(|error| error.to_string()) };
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(Ok(credentials)) if credentials.password().is_empty() => Err("the password is empty".to_owned()),
        Ok(next) => next,
        Err(_) => Err("the provider panicked".to_owned()),
    }
}

fn report(core: &Core, connector: &Connector, name: &str, failure: &str) {
    let consequence = match connector.login.try_current() {
        Some(_) => "the last credentials stay in use",
        None => "connections wait for the first credentials",
    };
    let why = Error::new(Kind::Authentication, format!("{name} has failed: {failure}; {consequence}"));
    tracing::warn!(error = %why, "no new credentials");
    core.events.send(Event::CredentialsFailed { why });
}

/// Failures in a row. They end with other credentials or after a quiet time, but not when the provider returns the
/// same credentials again: one that alternates would be reported again and again.
#[derive(Default)]
struct Failures {
    number: u32,
    last_at: Option<Instant>,
}

impl Failures {
    /// Counts a failure, and returns how many came before it.
    fn count(&mut self, now: Instant) -> u32 {
        if self.last_at.is_some_and(|last_at| now >= last_at + QUIET_TIME) {
            self.number = 0;
        }
        self.last_at = Some(now);
        let earlier = self.number;
        self.number = earlier.saturating_add(1);
        earlier
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;

    use async_channel::{Receiver, Sender};
    use async_trait::async_trait;
    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::config::RedisConfig;
    use crate::credentials::CredentialsError;
    use crate::events::Events;
    use crate::manual_runtime::ManualRuntime;
    use crate::node::client_options::ClientOptions;

    type Answer = fn() -> Result<Credentials, CredentialsError>;

    const ONE: Answer = || Ok(Credentials::new("app", "one"));
    const TWO: Answer = || Ok(Credentials::new("app", "two"));
    const ERROR: Answer = || Err("no network".into());
    const PANIC: Answer = || panic!("a fault of the provider");

    const FAILED: &str = r"the\nvault has failed: no network; the last credentials stay in use (not sent)";

    #[derive(Debug)]
    struct Scripted(Receiver<Answer>);

    #[async_trait]
    impl CredentialsProvider for Scripted {
        async fn next_credentials(&mut self) -> Result<Credentials, CredentialsError> {
            self.0.recv().await.unwrap()()
        }

        fn name(&self) -> String {
            "the\nvault".to_owned()
        }
    }

    struct Reading {
        runtime: ManualRuntime,
        core: Arc<Core>,
        answers: Sender<Answer>,
        task: Pin<Box<dyn Future<Output = ()>>>,
        events: Events,
    }

    impl Reading {
        fn new() -> Self {
            let (answers, script) = async_channel::unbounded();
            let options = ClientOptions::new().credentials(Scripted(script));
            let (config, runtime) = (RedisConfig::builder().build().unwrap(), ManualRuntime::new());
            let core = Arc::new(Core::new(config, Arc::new(runtime.clone()), options));
            let (task, events) = (Box::pin(run(Arc::clone(&core))), core.events.subscribe());
            Self { runtime, core, answers, task, events }
        }

        /// Lets the provider return these answers, and returns the failures that the client reports.
        fn reports_of(&mut self, answers: &[Answer]) -> Vec<String> {
            for answer in answers {
                self.answers.try_send(*answer).unwrap();
                assert!(block_on(poll_once(&mut self.task)).is_none());
                self.runtime.pass(Duration::from_secs(2));
            }
            let mut reports = Vec::new();
            while let Some(Some(event)) = block_on(poll_once(self.events.next())) {
                match event {
                    Event::CredentialsFailed { why } => reports.push(why.to_string()),
                    other => panic!("{other:?}"),
                }
            }
            reports
        }

        fn password(&self) -> String {
            let current = self.core.data.login.try_current().unwrap();
            current.credentials.unwrap().password().to_owned()
        }
    }

    #[test]
    fn alternating_provider_is_reported_once() {
        let mut reading = Reading::new();
        assert_eq!(reading.reports_of(&[ONE, ERROR]), [FAILED]);
        assert_eq!(reading.reports_of(&[ONE, ERROR, ERROR, ONE, ERROR]), [""; 0]);
        assert_eq!(reading.reports_of(&[TWO, ERROR, ERROR]), [FAILED], "other credentials end the failures");
        reading.runtime.pass(Duration::from_secs(60));
        assert_eq!(reading.reports_of(&[ERROR, ERROR]), [FAILED], "nothing has failed for a minute");
    }

    #[test]
    fn panicking_provider_is_called_again() {
        let mut reading = Reading::new();
        let report =
            r"the\nvault has failed: the provider panicked; the last credentials stay in use (not sent)";
        assert_eq!(reading.reports_of(&[ONE, PANIC, PANIC]), [report]);
        assert_eq!(reading.password(), "one");
        assert_eq!(reading.reports_of(&[TWO]), [""; 0]);
        assert_eq!(reading.password(), "two");
    }

    #[test]
    fn failure_before_first_credentials_says_so() {
        let mut reading = Reading::new();
        let report =
            r"the\nvault has failed: no network; connections wait for the first credentials (not sent)";
        assert_eq!(reading.reports_of(&[ERROR, ERROR]), [report]);
        assert_eq!(reading.reports_of(&[|| Ok(Credentials::new("app", ""))]), [""; 0]);
        let missing = reading.core.data.login.missing().unwrap();
        assert!(missing.ends_with(" has not returned the credentials: the password is empty"), "{missing}");
    }
}
