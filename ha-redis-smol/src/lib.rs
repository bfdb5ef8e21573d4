//! ha-redis on smol: a Redis client for services that must stay up.
//!
//! ```no_run
//! use ha_redis_smol::{RedisClient, RedisConfig, redis::AsyncCommands};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     smol::block_on(async {
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
//! The names are those of `ha-redis-tokio`. The client's tasks run on smol's global executor, or on one of your
//! own: [`SmolRuntime`]. No Tokio runtime is started or needed.

mod client;
mod smol_runtime;

pub use client::{RedisClient, retry};
pub use ha_redis_core::*;
pub use smol_runtime::SmolRuntime;
