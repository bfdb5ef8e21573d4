//! How to reach Redis: [`RedisConfig`], its builder and its URL forms.
//!
//! # URL forms
//!
//! ```text
//! redis://[user[:password]@]host[:port][/db][?parameters]            rediss://, redis+ssl:// for TLS
//! unix:/path/to.sock[?parameters]                                    redis+unix:, redis+socket:, redis-socket:
//! unix://[user[:password]@][localhost]/path/to.sock[?parameters]     likewise
//! redis+sentinel://[user[:password]@]host[:port][,host[:port]…][/service[/db]][?parameters]
//!                                                                    rediss+sentinel:// for TLS
//! redis-sentinel://[password@]host[:port][,host[:port]…][/db][?parameters][#service]
//!                                                                    rediss-sentinel:// for TLS
//! ```
//!
//! - **The scheme** may begin with `valkey` instead of `redis`.
//! - **Ports** default to 6379, those of Sentinels to 26379. IPv6 addresses are in brackets.
//! - **Before the `@`** is `user:password`, `:password`, or nothing. A word without a colon is the *user name*, as in
//!   redis-rs and redis-py, and needs a password among the parameters. In the schemes that only Lettuce uses
//!   (`redis-sentinel://`, `rediss-sentinel://`, `redis+ssl://`, `redis+socket://` and `redis-socket://`) it is the
//!   *password*, as in Lettuce.
//! - **The path of a Sentinel URL** is `/service[/db]`. If the fragment or a parameter names the service, it is
//!   `/db`. A lone number is always a `db`. The service is `sentinel_master_name`.
//! - **Parameters** are settings by name, except those that belong before the `?`:
//!   `?socket_timeout=2.5&client_name=api`. Times are seconds as a decimal number, or a number with one of the units
//!   `d`, `h`, `m`, `s`, `ms`, `us`, `ns`.
//! - **Other clients' parameter names** are accepted: `sentinelServiceName`, `sentinelUsername`, `sentinelPassword`
//!   and the repeatable `node=host:port` for a further Sentinel (fred); `sentinelMasterId`, `clientName`, `database`,
//!   and `timeout`, which is `call_timeout`, in milliseconds if it has no unit (Lettuce); `user`, `pass` (redis-rs).
//! - **Special characters** are percent-encoded in every part: `@` as `%40`, `/` as `%2F`, and so on. A `+` is a
//!   plus sign, never a space.
//! - A setting given twice, an unknown parameter and a value that can't be read are mistakes, reported together.
//! - **A URL may have 64 KiB.** Error messages do not quote parts of it that may be a misplaced password.

mod address_map;
mod builder;
mod changes;
mod check;
mod choice;
mod duration;
mod error;
mod jitter;
mod layered;
mod origins;
mod password;
mod protocol;
mod read_url;
mod retry_safety;
mod setting;
#[cfg(test)]
mod tests;
mod tls_version;
mod values;
mod write_url;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use self::address_map::AddressMap;
pub use self::builder::RedisConfigBuilder;
pub use self::choice::ParseChoiceError;
pub(crate) use self::error::cut;
pub use self::error::{ConfigError, Problem};
pub use self::jitter::Jitter;
pub use self::layered::LayeredBuilder;
pub(crate) use self::password::Password;
pub use self::protocol::Protocol;
pub use self::retry_safety::RetrySafety;
pub use self::setting::{Setting, SettingKind};
pub use self::tls_version::TlsVersion;
use crate::address::Address;
use crate::replica_choice::ReplicaStrategy;

const MAX_CONNECTIONS: usize = 10_000;
const DEFAULT_SENTINEL_PORT: u16 = 26379;

/// The settings of a client. Every instance is valid: it comes from [`builder`](Self::builder), from a URL ([the
/// forms](self#url-forms)) or from [`Default`].
///
/// Defaults are those of the Python library `ha_redis`, unless an accessor states another. `Debug` and `Display`
/// never show a password.
///
/// ```
/// use ha_redis_core::config::RedisConfig;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), ha_redis_core::config::ConfigError> {
/// let config: RedisConfig = "redis+sentinel://:s3cret@s1,s2,s3/mymaster/1?socket_timeout=500ms".parse()?;
/// assert!(config.use_sentinel());
/// assert_eq!(config.db(), 1);
/// assert_eq!(config.socket_timeout(), Duration::from_millis(500));
/// assert_eq!(config.to_string(), "redis+sentinel://:***@s1,s2,s3/mymaster/1?socket_timeout=500ms");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RedisConfig {
    host: String,
    port: u16,
    unix_socket: Option<PathBuf>,
    username: Option<String>,
    password: Option<Password>,
    db: u32,
    protocol: Protocol,
    max_connections: usize,
    shared_connections: usize,
    socket_timeout: Duration,
    socket_connect_timeout: Duration,
    health_check_interval: Duration,
    use_sentinel: bool,
    sentinel_hosts: Vec<Address>,
    sentinel_master_name: String,
    sentinel_username: Option<String>,
    sentinel_password: Option<Password>,
    sentinel_socket_timeout: Duration,
    sentinel_socket_connect_timeout: Duration,
    sentinel_require_majority: bool,
    early_promotion: bool,
    promotion_hold: Duration,
    address_map: AddressMap,
    ssl: bool,
    ssl_ca_certs: Option<PathBuf>,
    ssl_certfile: Option<PathBuf>,
    ssl_keyfile: Option<PathBuf>,
    ssl_password: Option<Password>,
    ssl_server_name: Option<String>,
    ssl_min_version: TlsVersion,
    ssl_danger_accept_invalid_certs: bool,
    sentinel_ssl: Option<bool>,
    sentinel_ssl_ca_certs: Option<PathBuf>,
    sentinel_ssl_certfile: Option<PathBuf>,
    sentinel_ssl_keyfile: Option<PathBuf>,
    sentinel_ssl_password: Option<Password>,
    sentinel_ssl_server_name: Option<String>,
    sentinel_ssl_min_version: Option<TlsVersion>,
    sentinel_ssl_danger_accept_invalid_certs: Option<bool>,
    retry_attempts: u32,
    retry_base_delay: Duration,
    client_name: Option<String>,
    failover_wait: Duration,
    call_timeout: Option<Duration>,
    retry_jitter: Jitter,
    retry_budget: u32,
    retry_safety: RetrySafety,
    max_in_flight: u32,
    max_in_flight_bytes: u64,
    max_reply_bytes: u64,
    max_reply_depth: u32,
    replica_strategy: ReplicaStrategy,
    preferred_replicas: Vec<String>,
    replica_max_lag: Option<u64>,
    replica_fallback: bool,
    pubsub_buffer_bytes: u64,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            port: 6379,
            unix_socket: None,
            username: None,
            password: None,
            db: 0,
            protocol: Protocol::Auto,
            max_connections: 50,
            shared_connections: 1,
            socket_timeout: Duration::from_secs(5),
            socket_connect_timeout: Duration::from_secs(2),
            health_check_interval: Duration::from_secs(30),
            use_sentinel: false,
            sentinel_hosts: Vec::new(),
            sentinel_master_name: "mymaster".into(),
            sentinel_username: None,
            sentinel_password: None,
            sentinel_socket_timeout: Duration::from_secs(1),
            sentinel_socket_connect_timeout: Duration::from_secs(1),
            sentinel_require_majority: false,
            early_promotion: true,
            promotion_hold: Duration::from_secs(2),
            address_map: AddressMap::default(),
            ssl: false,
            ssl_ca_certs: None,
            ssl_certfile: None,
            ssl_keyfile: None,
            ssl_password: None,
            ssl_server_name: None,
            ssl_min_version: TlsVersion::Tls12,
            ssl_danger_accept_invalid_certs: false,
            sentinel_ssl: None,
            sentinel_ssl_ca_certs: None,
            sentinel_ssl_certfile: None,
            sentinel_ssl_keyfile: None,
            sentinel_ssl_password: None,
            sentinel_ssl_server_name: None,
            sentinel_ssl_min_version: None,
            sentinel_ssl_danger_accept_invalid_certs: None,
            retry_attempts: 3,
            retry_base_delay: Duration::from_millis(100),
            client_name: None,
            failover_wait: Duration::from_secs(10),
            call_timeout: None,
            retry_jitter: Jitter::Added,
            retry_budget: 20,
            retry_safety: RetrySafety::Repeatable,
            max_in_flight: 65_536,
            max_in_flight_bytes: 16 << 20,
            max_reply_bytes: 1 << 30,
            max_reply_depth: 128,
            replica_strategy: ReplicaStrategy::RoundRobin,
            preferred_replicas: Vec::new(),
            replica_max_lag: None,
            replica_fallback: true,
            pubsub_buffer_bytes: 16 << 20,
        }
    }
}

impl RedisConfig {
    /// Creates a builder with the defaults.
    pub fn builder() -> RedisConfigBuilder {
        Self::default().to_builder()
    }

    /// Creates a builder with the settings of this configuration.
    pub fn to_builder(&self) -> RedisConfigBuilder {
        RedisConfigBuilder::from(self.clone())
    }

    /// Returns the configuration as a URL that reads back as the same configuration. **It contains the passwords in
    /// clear**: keep it out of logs, errors, command lines and metrics. Use `Display` for a form without them.
    ///
    /// Settings at their defaults are left out. A URL of more than 64 KiB, with thousands of Sentinels for example,
    /// cannot be read back.
    pub fn url(&self) -> String {
        write_url::with_passwords(self)
    }

    /// Returns where the server listens in direct mode: the Unix socket if there is one, else host and port. In
    /// Sentinel mode the Sentinels report the master's address, and this one has no meaning.
    pub fn address(&self) -> Address {
        match &self.unix_socket {
            Some(path) => Address::unix(path),
            None => Address::tcp(&self.host, self.port),
        }
    }

    /// Returns the Python library's rule of thumb for [`max_connections`](Self::max_connections): cores × 2 + 10,
    /// clamped to what the setting allows.
    ///
    /// ```
    /// # use ha_redis_core::config::RedisConfig;
    /// assert_eq!(RedisConfig::recommended_max_connections(4), 18);
    /// ```
    pub fn recommended_max_connections(cores: usize) -> usize {
        cores.saturating_mul(2).saturating_add(10).min(MAX_CONNECTIONS)
    }

    /// Returns [`recommended_max_connections`](Self::recommended_max_connections) for the cores this process may use,
    /// or for one core if the system does not report them.
    pub fn recommended_max_connections_here() -> usize {
        Self::recommended_max_connections(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// Reads a URL in one of [the forms](self#url-forms).
///
/// ```
/// use ha_redis_core::config::RedisConfig;
///
/// let config: RedisConfig = "rediss://app:p%40ss@redis.example:6380/2".parse()?;
/// assert_eq!(config.password(), Some("p@ss"));
/// assert_eq!(config.url(), "rediss://app:p%40ss@redis.example:6380/2");
///
/// let error = "redis://redis.example/two?socket_timout=5".parse::<RedisConfig>().unwrap_err();
/// assert_eq!(error.problems().len(), 2);
/// # Ok::<(), ha_redis_core::config::ConfigError>(())
/// ```
impl FromStr for RedisConfig {
    type Err = ConfigError;

    /// # Errors
    /// Returns the mistakes in the URL. They do not repeat passwords, nor parts that may be a misplaced one.
    fn from_str(url: &str) -> Result<Self, ConfigError> {
        read_url::read(url)
    }
}

/// Like [`FromStr`].
impl TryFrom<&str> for RedisConfig {
    type Error = ConfigError;

    fn try_from(url: &str) -> Result<Self, ConfigError> {
        read_url::read(url)
    }
}

/// The same URL as `Display`.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisConfig").field(&format_args!("{self}")).finish()
    }
}

/// The URL of the configuration with `***` for each password.
impl fmt::Display for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write_url::without_passwords(self))
    }
}
