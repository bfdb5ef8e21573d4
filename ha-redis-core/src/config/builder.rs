//! Builds a [`RedisConfig`] setting by setting.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::check::check;
use super::password::Password;
use super::{AddressMap, ConfigError, Protocol, RedisConfig, TlsVersion};
use crate::address::Address;
use crate::config::{Jitter, RetrySafety};
use crate::replica_choice::ReplicaStrategy;

/// Builds a [`RedisConfig`]. Unset settings keep their defaults; the accessors of [`RedisConfig`] document units and
/// defaults.
///
/// ```
/// use ha_redis_core::config::RedisConfig;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), ha_redis_core::config::ConfigError> {
/// let config = RedisConfig::builder()
///     .use_sentinel(true)
///     .sentinel_hosts([("s1.example", 26379), ("s2.example", 26379), ("s3.example", 26379)])
///     .password("s3cret")
///     .socket_timeout(Duration::from_secs(2))
///     .build()?;
/// assert_eq!(config.sentinel_hosts().len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct RedisConfigBuilder {
    config: RedisConfig,
}

/// Shows the settings, or the mistakes in them: what is given in the place of a host may be a URL with a password.
impl fmt::Debug for RedisConfigBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut builder = f.debug_struct("RedisConfigBuilder");
        match self.clone().build() {
            Ok(config) => builder.field("config", &config).finish(),
            Err(error) => builder.field("mistakes", &error).finish_non_exhaustive(),
        }
    }
}

impl From<RedisConfig> for RedisConfigBuilder {
    fn from(config: RedisConfig) -> Self {
        Self { config }
    }
}

impl RedisConfigBuilder {
    /// Checks the settings and returns the configuration.
    ///
    /// # Errors
    /// Returns every mistake at once: values out of range, and settings that contradict each other.
    pub fn build(self) -> Result<RedisConfig, ConfigError> {
        let problems = check(&self.config);
        if problems.is_empty() { Ok(self.config) } else { Err(ConfigError::new(problems)) }
    }

    /// Sets the host name or IP address (IPv6 without brackets) of the server in direct mode.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.config.host = host.into();
        self
    }

    /// Sets the TCP port of the server in direct mode, not 0.
    pub fn port(mut self, port: u16) -> Self {
        self.config.port = port;
        self
    }

    /// Sets the absolute path of the server's Unix socket. Host, port and `ssl` then stay at their defaults.
    pub fn unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.unix_socket = Some(path.into());
        self
    }

    /// Sets the ACL user name for the Redis servers; it needs a [`password`](Self::password).
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.config.username = Some(username.into());
        self
    }

    /// Sets the password for the Redis servers, not empty.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.config.password = Some(Password::new(password));
        self
    }

    /// Sets the number of the database, in direct and in Sentinel mode.
    pub fn db(mut self, db: u32) -> Self {
        self.config.db = db;
        self
    }

    /// Sets the version of the Redis protocol that connections use.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.config.protocol = protocol;
        self
    }

    /// Sets the maximum number of connections to the server, 1 to 10,000, including the shared ones.
    pub fn max_connections(mut self, max_connections: usize) -> Self {
        self.config.max_connections = max_connections;
        self
    }

    /// Sets how many connections the handles share, 1 to 64.
    pub fn shared_connections(mut self, shared_connections: usize) -> Self {
        self.config.shared_connections = shared_connections;
        self
    }

    /// Sets how long a reply may take: more than zero, up to 24 hours.
    pub fn socket_timeout(mut self, timeout: Duration) -> Self {
        self.config.socket_timeout = timeout;
        self
    }

    /// Sets how long connecting may take: more than zero, up to 24 hours.
    pub fn socket_connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.socket_connect_timeout = timeout;
        self
    }

    /// Sets how often an idle connection is checked, up to 24 hours; zero turns the checks off.
    pub fn health_check_interval(mut self, interval: Duration) -> Self {
        self.config.health_check_interval = interval;
        self
    }

    /// Sets whether to query Sentinels for the master; needs [`sentinel_hosts`](Self::sentinel_hosts).
    pub fn use_sentinel(mut self, use_sentinel: bool) -> Self {
        self.config.use_sentinel = use_sentinel;
        self
    }

    /// Sets the Sentinels to query first, as `(host, port)` or [`Address`]. They replace those set before and do not
    /// turn [`use_sentinel`](Self::use_sentinel) on.
    pub fn sentinel_hosts(mut self, hosts: impl IntoIterator<Item = impl Into<Address>>) -> Self {
        self.config.sentinel_hosts = hosts.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the name under which the Sentinels watch the master, without spaces, control and invisible
    /// characters.
    pub fn sentinel_master_name(mut self, name: impl Into<String>) -> Self {
        self.config.sentinel_master_name = name.into();
        self
    }

    /// Sets the ACL user name for the Sentinels; it needs a [`sentinel_password`](Self::sentinel_password).
    pub fn sentinel_username(mut self, username: impl Into<String>) -> Self {
        self.config.sentinel_username = Some(username.into());
        self
    }

    /// Sets the password for the Sentinels, not empty.
    pub fn sentinel_password(mut self, password: impl Into<String>) -> Self {
        self.config.sentinel_password = Some(Password::new(password));
        self
    }

    /// Sets how long a Sentinel's reply may take: more than zero, up to 24 hours.
    pub fn sentinel_socket_timeout(mut self, timeout: Duration) -> Self {
        self.config.sentinel_socket_timeout = timeout;
        self
    }

    /// Sets how long connecting to a Sentinel may take: more than zero, up to 24 hours.
    pub fn sentinel_socket_connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.sentinel_socket_connect_timeout = timeout;
        self
    }

    /// Sets whether writes fail immediately while no majority of the Sentinels replies and acts.
    pub fn sentinel_require_majority(mut self, require: bool) -> Self {
        self.config.sentinel_require_majority = require;
        self
    }

    /// Sets whether to switch to a selected replica as soon as it is master, before the Sentinels report it.
    pub fn early_promotion(mut self, early: bool) -> Self {
        self.config.early_promotion = early;
        self
    }

    /// Sets how long commands are held back at most during a promotion, up to 24 hours; zero turns holds off.
    pub fn promotion_hold(mut self, hold: Duration) -> Self {
        self.config.promotion_hold = hold;
        self
    }

    /// Sets where servers and Sentinels are reached, as (announced, reached): a `host` for a `host`, or a `host:port`
    /// for a `host:port`. The map replaces the one set before.
    pub fn address_map(
        mut self,
        entries: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        self.config.address_map = AddressMap::new(entries);
        self
    }

    /// Sets whether connections use TLS; needs the cargo feature `tls` of the runtime crate.
    pub fn ssl(mut self, ssl: bool) -> Self {
        self.config.ssl = ssl;
        self
    }

    /// Sets the PEM file of the certificate authorities that are trusted for the server. Needs [`ssl`](Self::ssl).
    pub fn ssl_ca_certs(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.ssl_ca_certs = Some(file.into());
        self
    }

    /// Sets the PEM file of the client's certificate and the intermediate certificates. Needs
    /// [`ssl_keyfile`](Self::ssl_keyfile).
    pub fn ssl_certfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.ssl_certfile = Some(file.into());
        self
    }

    /// Sets the PEM file of the private key of [`ssl_certfile`](Self::ssl_certfile). An encrypted key needs
    /// [`ssl_password`](Self::ssl_password).
    pub fn ssl_keyfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.ssl_keyfile = Some(file.into());
        self
    }

    /// Sets the password of the encrypted key in [`ssl_keyfile`](Self::ssl_keyfile), not empty.
    pub fn ssl_password(mut self, password: impl Into<String>) -> Self {
        self.config.ssl_password = Some(Password::new(password));
        self
    }

    /// Sets the name in the server's certificate if it differs from the host name.
    pub fn ssl_server_name(mut self, name: impl Into<String>) -> Self {
        self.config.ssl_server_name = Some(name.into());
        self
    }

    /// Sets the lowest version of TLS that the client speaks. Needs [`ssl`](Self::ssl).
    pub fn ssl_min_version(mut self, version: TlsVersion) -> Self {
        self.config.ssl_min_version = version;
        self
    }

    /// Sets whether the client accepts any certificate of a server, one of an attacker's as well. **For development
    /// only**: see [`RedisConfig::ssl_danger_accept_invalid_certs`]. Needs [`ssl`](Self::ssl).
    pub fn ssl_danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.config.ssl_danger_accept_invalid_certs = accept;
        self
    }

    /// Sets whether connections to Sentinels use TLS, if that differs from [`ssl`](Self::ssl).
    pub fn sentinel_ssl(mut self, ssl: bool) -> Self {
        self.config.sentinel_ssl = Some(ssl);
        self
    }

    /// Like [`ssl_ca_certs`](Self::ssl_ca_certs), for the Sentinels.
    pub fn sentinel_ssl_ca_certs(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.sentinel_ssl_ca_certs = Some(file.into());
        self
    }

    /// Like [`ssl_certfile`](Self::ssl_certfile), for the Sentinels.
    pub fn sentinel_ssl_certfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.sentinel_ssl_certfile = Some(file.into());
        self
    }

    /// Like [`ssl_keyfile`](Self::ssl_keyfile), for the Sentinels.
    pub fn sentinel_ssl_keyfile(mut self, file: impl Into<PathBuf>) -> Self {
        self.config.sentinel_ssl_keyfile = Some(file.into());
        self
    }

    /// Like [`ssl_password`](Self::ssl_password), for the Sentinels.
    pub fn sentinel_ssl_password(mut self, password: impl Into<String>) -> Self {
        self.config.sentinel_ssl_password = Some(Password::new(password));
        self
    }

    /// Like [`ssl_server_name`](Self::ssl_server_name), for the Sentinels.
    pub fn sentinel_ssl_server_name(mut self, name: impl Into<String>) -> Self {
        self.config.sentinel_ssl_server_name = Some(name.into());
        self
    }

    /// Like [`ssl_min_version`](Self::ssl_min_version), for the Sentinels.
    pub fn sentinel_ssl_min_version(mut self, version: TlsVersion) -> Self {
        self.config.sentinel_ssl_min_version = Some(version);
        self
    }

    /// Like [`ssl_danger_accept_invalid_certs`](Self::ssl_danger_accept_invalid_certs), for the Sentinels.
    pub fn sentinel_ssl_danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.config.sentinel_ssl_danger_accept_invalid_certs = Some(accept);
        self
    }

    /// Sets the number of retries after the first attempt, 0 to 1000.
    pub fn retry_attempts(mut self, attempts: u32) -> Self {
        self.config.retry_attempts = attempts;
        self
    }

    /// Sets the delay before the first retry, which doubles for each further one; up to 24 hours.
    pub fn retry_base_delay(mut self, delay: Duration) -> Self {
        self.config.retry_base_delay = delay;
        self
    }

    /// Sets the name that `CLIENT LIST` shows for the connections: printable ASCII without spaces.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.config.client_name = Some(name.into());
        self
    }

    /// Sets how long a call may wait for a usable connection, up to 24 hours; zero means not at all.
    pub fn failover_wait(mut self, wait: Duration) -> Self {
        self.config.failover_wait = wait;
        self
    }

    /// Sets how long a call may take with all its waits and attempts: more than zero, up to 24 hours.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.config.call_timeout = Some(timeout);
        self
    }

    /// Sets how the delays between attempts are spread.
    pub fn retry_jitter(mut self, jitter: Jitter) -> Self {
        self.config.retry_jitter = jitter;
        self
    }

    /// Sets how many retries are allowed for every hundred calls, 0 to 100; 100 means no limit.
    pub fn retry_budget(mut self, percent: u32) -> Self {
        self.config.retry_budget = percent;
        self
    }

    /// Sets which commands are sent again although they may have run.
    pub fn retry_safety(mut self, safety: RetrySafety) -> Self {
        self.config.retry_safety = safety;
        self
    }

    /// Sets how many commands of a connection may wait for replies at a time, 1 to 10,000,000.
    pub fn max_in_flight(mut self, commands: u32) -> Self {
        self.config.max_in_flight = commands;
        self
    }

    /// Sets how many bytes of commands may wait to be written to a connection, 1 KiB to 4 GiB.
    pub fn max_in_flight_bytes(mut self, bytes: u64) -> Self {
        self.config.max_in_flight_bytes = bytes;
        self
    }

    /// Sets how many bytes of memory the reply to one call may take, 1 KiB to 1 TiB; a larger one is skipped.
    pub fn max_reply_bytes(mut self, bytes: u64) -> Self {
        self.config.max_reply_bytes = bytes;
        self
    }

    /// Sets how deep the aggregates of a reply may nest, 1 to 1024; a deeper one is skipped.
    pub fn max_reply_depth(mut self, aggregates: u32) -> Self {
        self.config.max_reply_depth = aggregates;
        self
    }

    /// Sets how the replica for a read is chosen.
    pub fn replica_strategy(mut self, strategy: ReplicaStrategy) -> Self {
        self.config.replica_strategy = strategy;
        self
    }

    /// Sets the replicas to prefer for reads while one of them is healthy: addresses (`host:port`), hosts, domains
    /// (`.zone-a.example.com`) or IP networks (`10.1.0.0/16`). They replace those set before.
    pub fn preferred_replicas(mut self, replicas: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.preferred_replicas = replicas.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how many bytes a replica may lag behind the master and still serve reads.
    pub fn replica_max_lag(mut self, bytes: u64) -> Self {
        self.config.replica_max_lag = Some(bytes);
        self
    }

    /// Sets whether the master serves reads while there is no healthy replica.
    pub fn replica_fallback(mut self, fallback: bool) -> Self {
        self.config.replica_fallback = fallback;
        self
    }

    /// Sets how many bytes of messages a [`PubSub`](crate::PubSub) buffers for its reader, 1 KiB to 4 GiB.
    pub fn pubsub_buffer_bytes(mut self, bytes: u64) -> Self {
        self.config.pubsub_buffer_bytes = bytes;
        self
    }
}
