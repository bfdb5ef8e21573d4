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
mod tokio_runtime;

pub use client::{RedisClient, retry};
pub use ha_redis_core::*;
pub use tokio_runtime::TokioRuntime;
