//! The task that reads credentials from the application's provider.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::conn::connector::Connector;
use crate::credentials::CredentialsProvider;
use crate::error::{Error, Kind};
use crate::events::Event;
use crate::node::core::Core;
use crate::peer_text::printable;
use crate::retry::Backoff;
use crate::time::sleep;

/// The pause between two calls of the provider: one that never waits costs a bounded amount of work.
const PAUSE: Duration = Duration::from_millis(10);

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
    let mut failures = 0;
    loop {
        let next = provider.next_credentials().await;
        let next = next.map_err(|error| printable(&connector.hide(error.to_string())));
        let failure = match next {
            Ok(credentials) if credentials.password().is_empty() => "the password is empty".to_owned(),
            Ok(credentials) => {
                failures = 0;
                connector.remember(&credentials);
                let user = credentials.user().to_owned();
                if connector.login.set(Some(credentials)) {
                    tracing::info!(user = %printable(&user), from = %provider.name(), "using new credentials");
                }
                sleep(&*core.runtime, PAUSE).await;
                continue;
            }
            Err(failure) => failure,
        };
        connector.login.failed(failure.clone());
        if failures == 0 {
            let message =
                format!("{} has failed: {failure}; the last credentials stay in use", provider.name());
            let why = Error::new(Kind::Authentication, message);
            tracing::warn!(error = %why, "no new credentials");
            core.events.send(Event::CredentialsFailed { why });
        }
        sleep(&*core.runtime, Backoff::RECONNECT.delay(failures, core.runtime.random())).await;
        failures += 1;
    }
}
