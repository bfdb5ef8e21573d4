//! Guides: what the client does, why, and how to configure it.
//!
//! The examples use `ha_redis_tokio`. The other runtime crates have the same names.
//!
//! | guide | answers |
//! |---|---|
//! | [`configuration`] | Which settings, URLs and permissions are there? |
//! | [`errors_and_retries`] | What became of a call that failed? Which commands are sent again, and when? |
//! | [`failover`] | What happens when the master changes, and what does it cost? |
//! | [`replica_reads`] | How do reads go to replicas, and how old may their data be? |
//! | [`pubsub`] | How does a subscriber survive lost connections? |
//! | [`tuning`] | Which settings matter for throughput, latency and memory? |

/// A module that is a guide. The files link to each other and to documentation pages; the definitions that stand first
/// replace these links by those of rustdoc. The examples need a runtime crate: the package of the examples compiles
/// them.
macro_rules! guide {
    ($(#[doc = $summary:literal])* $name:ident, $text:expr) => {
        $(#[doc = $summary])*
        ///
        /// [`Error`]: crate::Error
        /// [`FailoverReport`]: crate::FailoverReport
        /// [`Outcome`]: crate::Outcome
        /// [`RedisConfig`]: crate::RedisConfig
        /// [`RedisErrorExt`]: crate::RedisErrorExt
        /// [`ReplicaChoice`]: crate::ReplicaChoice
        /// [errors-and-retries]: crate::guide::errors_and_retries
        /// [failover]: crate::guide::failover
        /// [replica-reads]: crate::guide::replica_reads
        /// [tuning]: crate::guide::tuning
        ///
        #[cfg_attr(not(doctest), doc = $text)]
        pub mod $name {}
    };
}

guide!(
    /// Settings, URLs, TLS and permissions.
    configuration,
    include_str!("../docs/guide/configuration.md")
);
guide!(
    /// What became of a call that failed, and which calls the client sends again.
    errors_and_retries,
    include_str!("../docs/guide/errors-and-retries.md")
);
guide!(
    /// How the client follows the master that Sentinels name.
    failover,
    include_str!("../docs/guide/failover.md")
);
guide!(
    /// Reads from healthy replicas.
    replica_reads,
    include_str!("../docs/guide/replica-reads.md")
);
guide!(
    /// Messages as a stream that resubscribes.
    pubsub,
    include_str!("../docs/guide/pubsub.md")
);
guide!(
    /// Settings for throughput, latency and memory.
    tuning,
    include_str!("../docs/guide/tuning.md")
);
