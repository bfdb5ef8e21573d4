//! The options of a handle's calls: those of the client, which may change, and what the handle sets for itself.

use std::sync::Arc;
use std::time::Duration;

use crate::config::RetrySafety;
use crate::retry::{CallOptions, RetryPolicy};
use crate::sync::{Seen, Snapshot};

/// The options of a handle. Many handles share them, unless one sets its own.
#[derive(Clone, Debug)]
pub(crate) struct HandleOptions {
    of_client: Seen<CallOptions>,
    own: OwnOptions,
    effective: Arc<CallOptions>,
}

/// What a handle sets for itself, boxed because few do.
#[derive(Clone, Debug, Default)]
struct OwnOptions(Option<Box<Overrides>>);

#[derive(Clone, Debug, Default)]
struct Overrides {
    policy: Option<RetryPolicy>,
    safety: Option<RetrySafety>,
    timeout: Option<Option<Duration>>,
    reports_refusals: bool,
}

impl HandleOptions {
    pub(crate) fn of(client: &Snapshot<CallOptions>) -> Self {
        let of_client = Seen::of(client);
        Self { effective: Arc::clone(of_client.value()), of_client, own: OwnOptions::default() }
    }

    /// Takes the options of the client over, if they have changed.
    #[inline]
    pub(crate) fn refresh(&mut self, client: &Snapshot<CallOptions>) {
        if self.of_client.is_outdated(client) {
            self.of_client = Seen::of(client);
            self.apply();
        }
    }

    pub(crate) fn current(&self) -> &CallOptions {
        &self.effective
    }

    pub(crate) fn set_policy(&mut self, policy: RetryPolicy) {
        self.set(|own| own.policy = Some(policy));
    }

    pub(crate) fn set_safety(&mut self, safety: RetrySafety) {
        self.set(|own| own.safety = Some(safety));
    }

    /// Sets the bound on a call; `None` removes it.
    pub(crate) fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.set(|own| own.timeout = Some(timeout));
    }

    /// Returns refusals to the caller instead of waiting for their end.
    pub(crate) fn report_refusals(&mut self) {
        self.set(|own| own.reports_refusals = true);
    }

    fn set(&mut self, change: impl FnOnce(&mut Overrides)) {
        change(self.own.0.get_or_insert_default());
        self.apply();
    }

    fn apply(&mut self) {
        let Some(own) = &self.own.0 else {
            self.effective = Arc::clone(self.of_client.value());
            return;
        };
        let base = CallOptions::clone(self.of_client.value());
        self.effective = Arc::new(CallOptions {
            policy: own.policy.unwrap_or(base.policy),
            safety: own.safety.unwrap_or(base.safety),
            timeout: own.timeout.unwrap_or(base.timeout),
            waits_for_refusals: base.waits_for_refusals && !own.reports_refusals,
            ..base
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RedisConfig;

    #[test]
    fn handle_keeps_what_it_sets() {
        let seconds = Duration::from_secs;
        let options = |timeout, wait| {
            let config = RedisConfig::builder().call_timeout(seconds(timeout)).failover_wait(seconds(wait));
            CallOptions::of(&config.build().unwrap())
        };
        let client = Snapshot::new(options(1, 2));
        let (mut plain, mut own) = (HandleOptions::of(&client), HandleOptions::of(&client));
        own.set_timeout(Some(seconds(9)));
        client.store(options(3, 4));
        let timeouts = |handle: &mut HandleOptions| {
            handle.refresh(&client);
            (handle.current().timeout, handle.current().failover_wait)
        };
        assert_eq!(timeouts(&mut plain), (Some(seconds(3)), seconds(4)));
        assert_eq!(timeouts(&mut own), (Some(seconds(9)), seconds(4)));
        own.set_timeout(None);
        assert_eq!(timeouts(&mut own).0, None);
    }
}
