//! Guides: what the client does, why, and how to configure it.
//!
//! The examples use `ha_redis_tokio`. The other runtime crates have the same names.
//!
//! | guide | answers |
//! |---|---|
//! | [`configuration`] | Which settings, URLs and permissions are there? |
//! | [`credentials`] | How do passwords, tokens and settings change without a restart? |
//! | [`configuration_files`] | How does `ha-redis-config` load them from files, variables and secrets? |
//! | [`coming_from`] | What are the settings of redis-py, Spring and go-redis called here? |
//! | [`migrating`] | What does a program that uses redis-rs, deadpool-redis, fred, rustis or `ha_redis` look like here? |
//! | [`tls`] | How are connections encrypted, and certificates replaced? What do the errors mean? |
//! | [`errors_and_retries`] | What became of a call that failed? Which commands are sent again, and when? |
//! | [`failover`] | What happens when the master changes, and what does it cost? |
//! | [`failures`] | What do callers and operators see in each failure, for how long, and what helps? |
//! | [`replica_reads`] | How do reads go to replicas, and how old may their data be? |
//! | [`pubsub`] | How does a subscriber survive lost connections? |
//! | [`choosing_settings`] | Which time limits fit a service, and which settings of servers and Sentinels? |
//! | [`tuning`] | Which settings matter for throughput, latency and memory? |
//! | [`operating`] | What to watch, how to upgrade and move servers, and what do errors mean? |

// Each file has links that work outside of rustdoc. The definitions that stand here come first, so that rustdoc takes these.
// The examples need a runtime crate: the package of the examples compiles them.

/// Settings, URLs and permissions.
///
/// [`RedisConfig`]: crate::RedisConfig
/// [credentials]: crate::guide::credentials
/// [configuration-files]: crate::guide::configuration_files
/// [errors-and-retries]: crate::guide::errors_and_retries
/// [failover]: crate::guide::failover
/// [replica-reads]: crate::guide::replica_reads
/// [tls]: crate::guide::tls
/// [tuning]: crate::guide::tuning
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/configuration.md"))]
pub mod configuration {}

/// Credentials that change, and settings that change while the client runs.
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/credentials.md"))]
pub mod credentials {}

/// Files, variables and secrets: the crate `ha-redis-config`.
///
/// [`RedisConfig`]: crate::RedisConfig
/// [coming-from]: crate::guide::coming_from
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/configuration-files.md"))]
pub mod configuration_files {}

/// The names of settings in other clients.
///
/// [configuration]: crate::guide::configuration
/// [configuration-files]: crate::guide::configuration_files
/// [migrating]: crate::guide::migrating
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/coming-from.md"))]
pub mod coming_from {}

/// Moving a program from another client: what changes, and what is missing.
///
/// [`FailoverReport`]: crate::FailoverReport
/// [coming-from]: crate::guide::coming_from
/// [deadpool-redis]: crate::guide::migrating::deadpool_redis
/// [errors-and-retries]: crate::guide::errors_and_retries
/// [fred]: crate::guide::migrating::fred
/// [python]: crate::guide::migrating::python
/// [redis-rs]: crate::guide::migrating::redis_rs
/// [rustis]: crate::guide::migrating::rustis
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/migrating.md"))]
pub mod migrating {
    /// From deadpool-redis and bb8-redis.
    ///
    /// [redis-rs]: crate::guide::migrating::redis_rs
    ///
    #[cfg_attr(not(doctest), doc = include_str!("../docs/guide/migrating/deadpool-redis.md"))]
    pub mod deadpool_redis {}

    /// From fred.
    ///
    /// [`Error`]: crate::Error
    /// [tuning]: crate::guide::tuning
    ///
    #[cfg_attr(not(doctest), doc = include_str!("../docs/guide/migrating/fred.md"))]
    pub mod fred {}

    /// From the Python library `ha_redis`.
    ///
    /// [`Error`]: crate::Error
    /// [coming-from]: crate::guide::coming_from
    /// [errors-and-retries]: crate::guide::errors_and_retries
    /// [failover]: crate::guide::failover
    /// [tls]: crate::guide::tls
    ///
    #[cfg_attr(not(doctest), doc = include_str!("../docs/guide/migrating/python.md"))]
    pub mod python {}

    /// From redis-rs: `ConnectionManager`, `MultiplexedConnection` and `SentinelClient`.
    ///
    /// [`Connection`]: crate::Connection
    /// [configuration]: crate::guide::configuration
    /// [replica-reads]: crate::guide::replica_reads
    ///
    #[cfg_attr(not(doctest), doc = include_str!("../docs/guide/migrating/redis-rs.md"))]
    pub mod redis_rs {}

    /// From rustis.
    ///
    /// [`Error`]: crate::Error
    ///
    #[cfg_attr(not(doctest), doc = include_str!("../docs/guide/migrating/rustis.md"))]
    pub mod rustis {}
}

/// Encrypted connections: certificates, their rotation, and errors.
///
/// [configuration]: crate::guide::configuration
/// [credentials]: crate::guide::credentials
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/tls.md"))]
pub mod tls {}

/// What became of a call that failed, and which calls the client sends again.
///
/// [`Error`]: crate::Error
/// [`Outcome`]: crate::Outcome
/// [`RedisErrorExt`]: crate::RedisErrorExt
/// [failures]: crate::guide::failures
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/errors-and-retries.md"))]
pub mod errors_and_retries {}

/// How the client follows the master that Sentinels name.
///
/// [`FailoverReport`]: crate::FailoverReport
/// [topology-source-example]: crate::TopologySource
/// [errors-and-retries]: crate::guide::errors_and_retries
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/failover.md"))]
pub mod failover {}

/// What callers and operators see in each failure.
///
/// [choosing-settings]: crate::guide::choosing_settings
/// [configuration]: crate::guide::configuration
/// [credentials]: crate::guide::credentials
/// [errors-and-retries]: crate::guide::errors_and_retries
/// [failover]: crate::guide::failover
/// [operating]: crate::guide::operating
/// [replica-reads]: crate::guide::replica_reads
/// [tls]: crate::guide::tls
/// [tuning]: crate::guide::tuning
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/failures.md"))]
pub mod failures {}

/// Reads from healthy replicas.
///
/// [`ReplicaChoice`]: crate::ReplicaChoice
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/replica-reads.md"))]
pub mod replica_reads {}

/// Messages as a stream that resubscribes.
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/pubsub.md"))]
pub mod pubsub {}

/// Time limits for typical services, and the settings of servers and Sentinels that go with them.
///
/// [configuration]: crate::guide::configuration
/// [failover]: crate::guide::failover
/// [failures]: crate::guide::failures
/// [replica-reads]: crate::guide::replica_reads
/// [tuning]: crate::guide::tuning
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/choosing-settings.md"))]
pub mod choosing_settings {}

/// Settings for throughput, latency and memory.
///
/// [choosing-settings]: crate::guide::choosing_settings
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/tuning.md"))]
pub mod tuning {}

/// What to watch, maintenance, and what to do about each error.
///
/// [choosing-settings]: crate::guide::choosing_settings
/// [configuration]: crate::guide::configuration
/// [configuration-files]: crate::guide::configuration_files
/// [credentials]: crate::guide::credentials
/// [failover]: crate::guide::failover
/// [failures]: crate::guide::failures
/// [replica-reads]: crate::guide::replica_reads
/// [tls]: crate::guide::tls
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/operating.md"))]
pub mod operating {}
