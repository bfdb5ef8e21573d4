//! ha-redis on Tokio: a Redis client for services that must stay up.
//!
//! ```no_run
//! use ha_redis_tokio::{RedisClient, RedisConfig, redis::AsyncCommands};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let config: RedisConfig = "redis://localhost:6379".parse()?;
//!     let client = RedisClient::connect(config).await?;
//!     let mut redis = client.connection();
//!     redis.set::<_, _, ()>("key", "value").await?;
//!     let value: String = redis.get("key").await?;
//!     println!("{value}");
//!     client.close().await;
//!     Ok(())
//! }
//! ```
//!
//! With the feature `sentinel` the client follows the master that Redis Sentinel names, and with `tls` its
//! connections may be encrypted; see [`RedisConfig`] for the forms of its URL.

mod client;
mod runtime;

pub use client::{RedisClient, retry};
#[cfg(feature = "sentinel")]
pub use ha_redis_core::SentinelConnection;
pub use ha_redis_core::{
    Address, AddressMap, Client, CloseReport, ConfigError, Connection, DedicatedConnection, Error, Event,
    Events, FailoverReport, Health, Jitter, Outcome, PubSub, PubSubEvent, PubSubSink, PubSubStream,
    RedisConfig, RedisConfigBuilder, RedisErrorExt, Replica, ReplicaCandidate, ReplicaChoice,
    ReplicaStrategy, RetryPolicy, RetrySafety, Role, Scope, SentinelState, Topology, Turn, config, redis,
};
pub use runtime::TokioRuntime;
