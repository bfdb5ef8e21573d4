//! ha-redis on async-std: a Redis client for services that must stay up.
//!
//! ```no_run
//! use ha_redis_async_std::{RedisClient, RedisConfig, redis::AsyncCommands};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     async_std::task::block_on(async {
//!         let config: RedisConfig = "redis://localhost:6379".parse()?;
//!         let client = RedisClient::connect(config).await?;
//!         let mut redis = client.connection();
//!         redis.set::<_, _, ()>("key", "value").await?;
//!         let value: String = redis.get("key").await?;
//!         println!("{value}");
//!         client.close().await;
//!         Ok(())
//!     })
//! }
//! ```
//!
//! With the feature `sentinel` the client follows the master that Redis Sentinel names, and with `tls` its
//! connections may be encrypted; see [`RedisConfig`] for the forms of its URL.
//!
//! The names are those of `ha-redis-tokio`. No Tokio runtime is started or needed.
//!
//! async-std itself is no longer maintained (RUSTSEC-2025-0052) and names smol as its successor. This crate is for
//! services that stand on it already; new ones, and those that move, take `ha-redis-smol`, which differs in name
//! alone.

mod client;
mod runtime;

pub use client::{RedisClient, retry};
#[cfg(feature = "sentinel")]
pub use ha_redis_core::SentinelConnection;
pub use ha_redis_core::{
    Address, AddressMap, Client, CloseReport, ConfigError, Connection, DedicatedConnection, Error, Event,
    Events, FailoverReport, Health, Jitter, Outcome, RedisConfig, RedisConfigBuilder, RedisErrorExt, Replica,
    ReplicaCandidate, ReplicaChoice, ReplicaStrategy, RetryPolicy, RetrySafety, Role, SentinelState,
    Topology, Turn, config, redis,
};
pub use runtime::AsyncStdRuntime;
