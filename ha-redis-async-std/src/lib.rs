// The README has links that work outside rustdoc. These definitions come first, so rustdoc uses them instead.
//! [configuration]: crate::guide::configuration
//! [`Connection`]: crate::Connection
//! [`DedicatedConnection`]: crate::DedicatedConnection
//! [errors and retries]: crate::guide::errors_and_retries
//! [`Events`]: crate::Events
//! [failover]: crate::guide::failover
//! [`Outcome`]: crate::Outcome
//! [pub/sub]: crate::guide::pubsub
//! [`PubSub`]: crate::PubSub
//! [`RedisConfig`]: crate::RedisConfig
//! [`RedisErrorExt`]: crate::RedisErrorExt
//! [replica reads]: crate::guide::replica_reads
//! [tuning]: crate::guide::tuning
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// A feature of the core that this crate always enables.
#![cfg_attr(docsrs, allow(unexpected_cfgs), doc(auto_cfg(hide(feature = "aio"))))]

mod async_std_runtime;
mod client;

pub use async_std_runtime::AsyncStdRuntime;
pub use client::{RedisClient, retry};
#[doc(no_inline)]
pub use ha_redis_core::redis;
#[doc(inline)]
pub use ha_redis_core::*;
