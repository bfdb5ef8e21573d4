//! Replaces the configuration of a running client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::{RedisConfig, Setting};
use crate::conn::connector::{Connector, configured_hosts};
use crate::conn::tls::StagedTls;
use crate::error::{Error, Kind};
use crate::events::Event;
#[cfg(feature = "sentinel")]
use crate::node::core::sentinel_credentials_of;
use crate::node::core::{Core, credentials_of};

impl Core {
    /// Uses another configuration from now on. Returns the names of the settings that have changed.
    ///
    /// # Errors
    /// A changed setting cannot change while the client runs, a file of TLS is wrong, or the master cannot be reached with
    /// the new TLS settings. Nothing has changed then.
    pub(crate) async fn reconfigure(&self, config: RedisConfig) -> Result<Vec<&'static str>, Error> {
        let _turn = Turn::take(&self.reconfiguring)?;
        let changed = self.config().changed_settings(&config);
        check_changeable(&changed)?;
        self.check_credentials(&config)?;
        if changed.iter().any(|name| name.contains("ssl_")) {
            let by = self.runtime.now() + config.socket_connect_timeout();
            let staged = self.tls.stage(&config, &*self.runtime, by).await?;
            self.try_tls(&config, &staged).await?;
            self.tls.install(staged);
        }
        self.set_config(config.clone());
        self.apply(&config);
        self.replace_outdated_connections().await;
        self.try_failed_connections_again();
        if !changed.is_empty() {
            tracing::info!(?changed, "reconfigured");
            self.events.send(Event::Reconfigured { settings: changed.clone() });
        }
        Ok(changed)
    }

    /// Connects to the master with these TLS settings.
    ///
    /// # Errors
    /// They are wrong. A master that cannot be reached for another reason proves nothing.
    async fn try_tls(&self, config: &RedisConfig, tls: &StagedTls) -> Result<(), Error> {
        let Some(master) = self.first_shard().followed() else { return Ok(()) };
        let (runtime, login) = (Arc::clone(&self.runtime), Arc::clone(&self.data.login));
        let secrets = self.data.secrets().clone();
        let trial = Connector::for_data(runtime, config, login, tls.on_trial(), secrets, false);
        match trial.connect(&master.address, &master.address_source).await {
            Err(error) if matches!(error.kind(), Kind::Tls | Kind::Config) => Err(error),
            _ => Ok(()),
        }
    }

    /// Has tasks try again that wait because an attempt has failed for good: its cause may be gone.
    fn try_failed_connections_again(&self) {
        for shard in self.routing.load().shards() {
            shard.allow_dedicated();
            if shard.permanent_failure().is_some() {
                self.data.login.try_again();
            }
        }
    }

    /// Ends connections whose TLS settings or files have changed since they were made; others take their place.
    async fn replace_outdated_connections(&self) {
        self.data.require_current_tls().await;
        #[cfg(feature = "sentinel")]
        self.sentinels.require_current_tls().await;
        for link in self.links.all() {
            link.wake_driver();
            if self.data.is_outdated(link.tls_session) {
                link.replace();
            }
        }
    }

    /// Passes the settings on to those who keep a copy.
    fn apply(&self, config: &RedisConfig) {
        self.set_call_settings(config);
        self.budget.set_percent(config.retry_budget());
        self.data.secrets().allow_hosts(configured_hosts(config));
        for connector in [&self.data, &self.urgent] {
            connector.set_dialing(config.socket_connect_timeout(), config.address_map());
        }
        self.routing.load().shards().iter().for_each(|shard| shard.set_replica_rules(config));
        if !self.provided_credentials.data {
            self.data.log_in_as(credentials_of(config));
        }
        #[cfg(feature = "sentinel")]
        {
            self.sentinels.set_dialing(config.sentinel_socket_connect_timeout(), config.address_map());
            if !self.provided_credentials.sentinels {
                self.sentinels.log_in_as(sentinel_credentials_of(config));
            }
        }
    }
}

fn check_changeable(changed: &[&'static str]) -> Result<(), Error> {
    let fixed: Vec<_> = changed.iter().copied().filter(|name| !is_changeable(name)).collect();
    match fixed.is_empty() {
        true => Ok(()),
        false => {
            let message = format!(
                "cannot change {} while the client runs; create another client, or leave them as they are",
                fixed.join(", ")
            );
            Err(Error::new(Kind::Config, message))
        }
    }
}

fn is_changeable(setting: &&'static str) -> bool {
    Setting::by_name(setting).is_some_and(Setting::is_changeable)
}

/// Lets one call in at a time.
struct Turn<'a>(&'a AtomicBool);

impl<'a> Turn<'a> {
    fn take(is_taken: &'a AtomicBool) -> Result<Self, Error> {
        match is_taken.swap(true, Ordering::Acquire) {
            false => Ok(Self(is_taken)),
            true => {
                let message = "another call is reconfiguring the client; try again when it has ended";
                Err(Error::new(Kind::Config, message))
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
