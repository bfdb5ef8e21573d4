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
//! | [`tls`] | How are connections encrypted, and certificates replaced? What do the errors mean? |
//! | [`errors_and_retries`] | What became of a call that failed? Which commands are sent again, and when? |
//! | [`failover`] | What happens when the master changes, and what does it cost? |
//! | [`replica_reads`] | How do reads go to replicas, and how old may their data be? |
//! | [`pubsub`] | How does a subscriber survive lost connections? |
//! | [`tuning`] | Which settings matter for throughput, latency and memory? |

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
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/coming-from.md"))]
pub mod coming_from {}

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

/// Settings for throughput, latency and memory.
///
/// [failover]: crate::guide::failover
///
#[cfg_attr(not(doctest), doc = include_str!("../docs/guide/tuning.md"))]
pub mod tuning {}
