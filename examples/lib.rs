//! Example programs. They are the binaries of this package. The library is empty.

/// Compiles the programs in the README and in the guides. The guides are modules of `ha-redis-core`, which has no
/// runtime to compile them with.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../ha-redis-core/docs/guide/configuration.md")]
    struct Configuration;
    #[doc = include_str!("../ha-redis-core/docs/guide/credentials.md")]
    struct Credentials;
    #[doc = include_str!("../ha-redis-core/docs/guide/configuration-files.md")]
    struct ConfigurationFiles;
    #[doc = include_str!("../ha-redis-core/docs/guide/errors-and-retries.md")]
    struct ErrorsAndRetries;
    #[doc = include_str!("../ha-redis-core/docs/guide/failover.md")]
    struct Failover;
    #[doc = include_str!("../ha-redis-core/docs/guide/migrating/deadpool-redis.md")]
    struct MigratingFromDeadpoolRedis;
    #[doc = include_str!("../ha-redis-core/docs/guide/migrating/fred.md")]
    struct MigratingFromFred;
    #[doc = include_str!("../ha-redis-core/docs/guide/migrating/python.md")]
    struct MigratingFromPython;
    #[doc = include_str!("../ha-redis-core/docs/guide/migrating/redis-rs.md")]
    struct MigratingFromRedisRs;
    #[doc = include_str!("../ha-redis-core/docs/guide/migrating/rustis.md")]
    struct MigratingFromRustis;
    #[doc = include_str!("../ha-redis-core/docs/guide/operating.md")]
    struct Operating;
    #[doc = include_str!("../ha-redis-core/docs/guide/pubsub.md")]
    struct PubSub;
    #[doc = include_str!("../ha-redis-core/docs/guide/replica-reads.md")]
    struct ReplicaReads;
    #[doc = include_str!("../ha-redis-core/docs/guide/tls.md")]
    struct Tls;
    #[doc = include_str!("../ha-redis-core/docs/guide/tuning.md")]
    struct Tuning;
}
