//! How to reach Redis: [`RedisConfig`], its builder and its URL forms.
//!
//! # URL forms
//!
//! ```text
//! redis://[user[:password]@]host[:port][/db][?parameters]            rediss:// for TLS
//! unix://[user[:password]@]/path/to.sock[?parameters]                also redis+unix://
//! redis+sentinel://[user[:password]@]host[:port][,host[:port]…][/service[/db]][?parameters]
//!                                                                    rediss+sentinel:// for TLS
//! redis-sentinel://[password@]host[:port][,host[:port]…][/db][?parameters][#service]
//!                                                                    rediss-sentinel:// for TLS
//! ```
//!
//! - **Ports** default to 6379, those of Sentinels to 26379. An IPv6 address stands in brackets.
//! - **Before the `@`**: `user:password`, or `:password` alone. A word without a colon is the *user name*, as
//!   redis-rs and redis-py read it, and needs a password among the parameters; only in `redis-sentinel://` and
//!   `rediss-sentinel://`, the schemes of Lettuce, is it the *password*, as Lettuce reads it.
//! - **The path of a Sentinel URL** is `/service[/db]`. It is `/db` where the service is named by the fragment
//!   or by a parameter, and a lone number is always a `db`. The service is `sentinel_master_name`.
//! - **Parameters** are the settings by their names, except those that stand before the `?`:
//!   `?socket_timeout=2.5&client_name=api`. Times are seconds as a decimal number, or a number with one of the
//!   units `h`, `m`, `s`, `ms`, `us`, `ns`.
//! - **Other clients' names** of parameters are understood: `sentinelServiceName`, `sentinelUsername`,
//!   `sentinelPassword` and the repeatable `node=host:port` for a further Sentinel (fred); `sentinelMasterId`,
//!   `clientName`, `database` (Lettuce); `user`, `pass` (redis-rs).
//! - **Special characters** are percent-encoded in every part: `@` as `%40`, `/` as `%2F`, and so on. A `+` is a
//!   plus sign, never a space.
//! - A setting given twice, an unknown parameter and a value that can't be read are mistakes, reported together.

mod builder;
mod check;
mod duration;
mod error;
mod password;
mod read_url;
mod setting;
#[cfg(test)]
mod tests;
mod write_url;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

pub use self::builder::RedisConfigBuilder;
pub use self::error::{ConfigError, Problem};
use self::password::Password;
use crate::address::Address;
use crate::retry::{Jitter, RetrySafety};

const MAX_CONNECTIONS: usize = 10_000;

/// How to reach Redis and how patient to be with it. Whatever exists is valid: it comes from
/// [`builder`](Self::builder), from a URL ([the forms](self#url-forms)) or from [`Default`].
///
/// Defaults are those of the Python library `ha_redis`, except where an accessor says otherwise. `Debug` and
/// `Display` never show a password.
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    host: String,
    port: u16,
    unix_socket: Option<PathBuf>,
    username: Option<String>,
    password: Option<Password>,
    db: u32,
    max_connections: usize,
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
    ssl: bool,
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
            max_connections: 50,
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
            ssl: false,
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
        }
    }
}

impl RedisConfig {
    /// Starts from the defaults.
    pub fn builder() -> RedisConfigBuilder {
        Self::default().to_builder()
    }

    /// Starts from this configuration, to change some of it.
    pub fn to_builder(&self) -> RedisConfigBuilder {
        RedisConfigBuilder::from(self.clone())
    }

    /// The configuration as a URL that reads back as the same configuration, **with its passwords in clear**.
    /// Settings at their defaults are left out. For a form to show, use `Display`.
    pub fn url(&self) -> String {
        write_url::with_passwords(self)
    }

    /// Where the server listens in direct mode: the Unix socket if there is one, else host and port. In
    /// Sentinel mode the Sentinels say where the master is, and this address has no meaning.
    pub fn address(&self) -> Address {
        match &self.unix_socket {
            Some(path) => Address::unix(path),
            None => Address::tcp(&self.host, self.port),
        }
    }

    /// The Python library's rule of thumb for [`max_connections`](Self::max_connections): cores × 2 + 10, held
    /// within what the setting allows.
    ///
    /// ```
    /// # use ha_redis_core::config::RedisConfig;
    /// assert_eq!(RedisConfig::recommended_max_connections(4), 18);
    /// ```
    pub fn recommended_max_connections(cores: usize) -> usize {
        cores.saturating_mul(2).saturating_add(10).min(MAX_CONNECTIONS)
    }

    /// [`recommended_max_connections`](Self::recommended_max_connections) for the cores this process may use;
    /// for one core where the system can't tell.
    pub fn recommended_max_connections_here() -> usize {
        Self::recommended_max_connections(std::thread::available_parallelism().map_or(1, usize::from))
    }
}

/// The settings.
impl RedisConfig {
    /// Host name or IP address (IPv6 without brackets) of the server in direct mode. Default: `localhost`, as
    /// in the Python library `ha_redis`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port of the server in direct mode. Default: 6379, as in the Python library `ha_redis`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Unix socket of the server, in place of host and port. Default: none (not a setting of the Python
    /// library).
    pub fn unix_socket(&self) -> Option<&Path> {
        self.unix_socket.as_deref()
    }

    /// ACL user name for the Redis servers. Default: none, which is Redis's user `default` (not a setting of the
    /// Python library).
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// Password for the Redis servers, in clear: handle with care. Default: none, as in the Python library
    /// `ha_redis`.
    pub fn password(&self) -> Option<&str> {
        self.password.as_ref().map(Password::expose)
    }

    /// Number of the database, in direct and in Sentinel mode. Default: 0, as in the Python library `ha_redis`.
    pub fn db(&self) -> u32 {
        self.db
    }

    /// Most connections to the server at a time, 1 to 10,000. Default: 50, as in the Python library `ha_redis`;
    /// see [`recommended_max_connections`](Self::recommended_max_connections).
    pub fn max_connections(&self) -> usize {
        self.max_connections
    }

    /// How long a reply may take, up to 24 hours. Default: 5 s, as in the Python library `ha_redis`.
    pub fn socket_timeout(&self) -> Duration {
        self.socket_timeout
    }

    /// How long connecting may take, up to 24 hours. Default: 2 s, as in the Python library `ha_redis`.
    pub fn socket_connect_timeout(&self) -> Duration {
        self.socket_connect_timeout
    }

    /// How often an idle connection is checked, up to 24 hours; zero turns the checks off. Default: 30 s, as in
    /// the Python library `ha_redis`.
    pub fn health_check_interval(&self) -> Duration {
        self.health_check_interval
    }

    /// Whether Sentinels are asked for the master. Default: false, as in the Python library `ha_redis`.
    pub fn use_sentinel(&self) -> bool {
        self.use_sentinel
    }

    /// The Sentinels to ask first; the others are learned from them. Default: empty, as in the Python library
    /// `ha_redis`.
    pub fn sentinel_hosts(&self) -> &[Address] {
        &self.sentinel_hosts
    }

    /// The name under which the Sentinels watch the master. Default: `mymaster`, as in the Python library
    /// `ha_redis`.
    pub fn sentinel_master_name(&self) -> &str {
        &self.sentinel_master_name
    }

    /// ACL user name for the Sentinels. Default: none (not a setting of the Python library).
    pub fn sentinel_username(&self) -> Option<&str> {
        self.sentinel_username.as_deref()
    }

    /// Password for the Sentinels, in clear: handle with care. [`password`](Self::password) is never sent to
    /// a Sentinel. Default: none (not a setting of the Python library).
    pub fn sentinel_password(&self) -> Option<&str> {
        self.sentinel_password.as_ref().map(Password::expose)
    }

    /// How long a Sentinel's reply may take, up to 24 hours. Default: 1 s (not a setting of the Python library).
    pub fn sentinel_socket_timeout(&self) -> Duration {
        self.sentinel_socket_timeout
    }

    /// How long connecting to a Sentinel may take, up to 24 hours. Default: 1 s (not a setting of the Python
    /// library).
    pub fn sentinel_socket_connect_timeout(&self) -> Duration {
        self.sentinel_socket_connect_timeout
    }

    /// Whether connections use TLS. Default: false, as in the Python library `ha_redis`.
    pub fn ssl(&self) -> bool {
        self.ssl
    }

    /// Number of retries after the first attempt, 0 to 1000. Default: 3, as in the Python library `ha_redis`.
    pub fn retry_attempts(&self) -> u32 {
        self.retry_attempts
    }

    /// Delay before the first retry, which doubles for each further one; up to 24 hours. Default: 100 ms, as in
    /// the Python library `ha_redis`.
    pub fn retry_base_delay(&self) -> Duration {
        self.retry_base_delay
    }

    /// The name under which `CLIENT LIST` shows the connections. Default: none (not a setting of the Python
    /// library).
    pub fn client_name(&self) -> Option<&str> {
        self.client_name.as_deref()
    }

    /// How long a call may wait for a usable connection, during a failover for instance; up to 24 hours, zero
    /// for not at all. Default: 10 s (not a setting of the Python library).
    pub fn failover_wait(&self) -> Duration {
        self.failover_wait
    }

    /// How long a call may take from its beginning to its end, with all its waits and attempts; up to 24 hours.
    /// Default: none, so that a call is bounded by its parts: [`failover_wait`](Self::failover_wait) and
    /// [`socket_timeout`](Self::socket_timeout) for each of its attempts, and the delays between them (not a
    /// setting of the Python library).
    pub fn call_timeout(&self) -> Option<Duration> {
        self.call_timeout
    }

    /// How the delays between attempts are spread. Default: [`Jitter::Added`] (not a setting of the Python
    /// library).
    pub fn retry_jitter(&self) -> Jitter {
        self.retry_jitter
    }

    /// How many retries there may be for every hundred replies, once each call that may be in flight
    /// ([`max_in_flight`](Self::max_in_flight)) has been sent again, so that a sick server is not hammered by those who wait for it; 100 for no such limit. Default: 20 (not a setting of
    /// the Python library).
    pub fn retry_budget(&self) -> u32 {
        self.retry_budget
    }

    /// Which commands are sent again although they may have run. Default: [`RetrySafety::Repeatable`] (not a
    /// setting of the Python library).
    pub fn retry_safety(&self) -> RetrySafety {
        self.retry_safety
    }

    /// How many commands a connection may owe replies at a time, 1 to 10,000,000; more calls wait for their turn.
    /// Default: 65,536 (not a setting of the Python library).
    pub fn max_in_flight(&self) -> u32 {
        self.max_in_flight
    }

    /// How many bytes of commands may wait to be written to a connection, 1 KiB to 4 GiB; more calls wait for
    /// their turn. One command may be larger. Default: 16 MiB (not a setting of the Python library).
    pub fn max_in_flight_bytes(&self) -> u64 {
        self.max_in_flight_bytes
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
    /// Every mistake in the URL; passwords are not repeated.
    fn from_str(url: &str) -> Result<Self, ConfigError> {
        read_url::read(url)
    }
}

/// As [`FromStr`].
impl TryFrom<&str> for RedisConfig {
    type Error = ConfigError;

    fn try_from(url: &str) -> Result<Self, ConfigError> {
        read_url::read(url)
    }
}

/// The URL of the configuration with `***` for each password.
impl fmt::Display for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write_url::without_passwords(self))
    }
}
