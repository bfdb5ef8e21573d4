//! The clients, each used as its own documentation recommends, with its defaults.

mod fred;
mod nothing;
mod pools;
mod redis_commands;
mod rustis;

use std::future::Future;

use clap::ValueEnum;

pub(crate) use self::fred::fred;
pub(crate) use self::nothing::Nothing;
pub(crate) use self::pools::{bb8_redis, deadpool_redis};
pub(crate) use self::redis_commands::{
    connection_manager, ha_redis, ha_redis_async_std, ha_redis_smol, redis_rs,
};
pub(crate) use self::rustis::rustis;
use crate::Failure;
use crate::runtime::Runtime;

/// A handle of a client. Each task has a clone of it.
pub(crate) trait Client: Clone + Send + 'static {
    /// Reads a value and returns its length in bytes.
    fn get(&mut self, key: &str) -> impl Future<Output = Result<usize, Failure>> + Send;

    fn set(&mut self, key: &str, value: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Sets all keys to `value` in one pipeline.
    fn set_all(&mut self, keys: &[String], value: &[u8]) -> impl Future<Output = Result<(), Failure>> + Send;
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Name {
    /// This project's
    HaRedis,
    /// The same on async-std
    HaRedisAsyncStd,
    /// The same on smol
    HaRedisSmol,
    /// redis-rs's multiplexed connection
    RedisRs,
    /// The same on smol
    RedisRsSmol,
    /// redis-rs's ConnectionManager
    ConnectionManager,
    Fred,
    Rustis,
    /// A pool of redis-rs's connections
    DeadpoolRedis,
    /// Another pool of redis-rs's connections
    Bb8Redis,
    /// No client: the same bytes on a bare socket
    RawSocket,
    /// No client and no server: what the harness itself needs
    Nothing,
}

impl Name {
    /// Returns the runtime of this client.
    pub(crate) fn runtime(self) -> Runtime {
        match self {
            Self::HaRedisAsyncStd => Runtime::AsyncStd,
            Self::HaRedisSmol | Self::RedisRsSmol => Runtime::Smol,
            _ => Runtime::Tokio,
        }
    }
}
