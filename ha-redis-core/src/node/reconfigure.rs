//! Replaces the configuration of a running client.

use crate::config::RedisConfig;
use crate::conn::connector::configured_hosts;
use crate::error::{Error, Kind};
use crate::events::Event;
#[cfg(feature = "sentinel")]
use crate::node::core::sentinel_credentials_of;
use crate::node::core::{Core, credentials_of};
use crate::sync::lock;

impl Core {
    /// Uses another configuration from now on. Returns the names of the settings that have changed.
    ///
    /// # Errors
    /// A changed setting cannot change while the client runs, or a file of TLS is wrong. Nothing has changed then.
    pub(crate) async fn reconfigure(&self, config: RedisConfig) -> Result<Vec<&'static str>, Error> {
        check_changeable(&self.config().changed_settings(&config))?;
        self.check_credentials(&config)?;
        let by = self.runtime.now() + config.socket_connect_timeout();
        let tls = self.tls.stage(&config, &*self.runtime, by).await?;

        let one_at_a_time = lock(&self.reconfiguring);
        let changed = self.config().changed_settings(&config);
        if changed.is_empty() {
            return Ok(changed);
        }
        self.tls.install(tls);
        self.set_config(config.clone());
        self.apply(&config);
        drop(one_at_a_time);

        self.links.all().iter().for_each(|link| link.wake_driver());
        if changed.iter().any(|name| name.starts_with("ssl_")) {
            self.routing.load().shards().iter().for_each(|shard| shard.renew_connections());
        }
        tracing::info!(?changed, "reconfigured");
        self.events.send(Event::Reconfigured { settings: changed.clone() });
        Ok(changed)
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
    let fixed: Vec<_> = changed.iter().copied().filter(|name| !RedisConfig::is_changeable(name)).collect();
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
