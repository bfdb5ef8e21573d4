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

mod async_std_runtime;
mod client;

pub use async_std_runtime::AsyncStdRuntime;
pub use client::{RedisClient, retry};
pub use ha_redis_core::*;
