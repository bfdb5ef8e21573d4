//! ha-redis and redis-rs itself, with redis-rs's commands.

use ha_redis_tokio::{Connection, RedisClient};
use redis::aio::{ConnectionManager, MultiplexedConnection};
use redis::{AsyncCommands, pipe};
use {ha_redis_async_std as on_async_std, ha_redis_smol as on_smol};

use super::Client;
use crate::Failure;

pub(crate) async fn ha_redis(url: &str) -> Result<Commands<Connection>, Failure> {
    let client = RedisClient::connect(url.parse()?).await?;
    Ok(Commands(client.connection()))
}

pub(crate) async fn ha_redis_async_std(url: &str) -> Result<Commands<Connection>, Failure> {
    let client = on_async_std::RedisClient::connect(url.parse()?).await?;
    Ok(Commands(client.connection()))
}

pub(crate) async fn ha_redis_smol(url: &str) -> Result<Commands<Connection>, Failure> {
    let client = on_smol::RedisClient::connect(url.parse()?).await?;
    Ok(Commands(client.connection()))
}

pub(crate) async fn redis_rs(url: &str) -> Result<Commands<MultiplexedConnection>, Failure> {
    Ok(Commands(redis::Client::open(url)?.get_multiplexed_async_connection().await?))
}

pub(crate) async fn connection_manager(url: &str) -> Result<Commands<ConnectionManager>, Failure> {
    Ok(Commands(redis::Client::open(url)?.get_connection_manager().await?))
}

/// A handle with redis-rs's commands.
#[derive(Clone)]
pub(crate) struct Commands<R>(R);

impl<R: AsyncCommands + Clone + Sync + 'static> Client for Commands<R> {
    async fn get(&mut self, key: &str) -> Result<usize, Failure> {
        get(&mut self.0, key).await
    }

    async fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Failure> {
        set(&mut self.0, key, value).await
    }

    async fn set_all(&mut self, keys: &[String], value: &[u8]) -> Result<(), Failure> {
        set_all(&mut self.0, keys, value).await
    }
}

pub(super) async fn get(redis: &mut impl AsyncCommands, key: &str) -> Result<usize, Failure> {
    let value: Vec<u8> = redis.get(key).await?;
    Ok(value.len())
}

pub(super) async fn set(redis: &mut impl AsyncCommands, key: &str, value: &[u8]) -> Result<(), Failure> {
    Ok(redis.set(key, value).await?)
}

pub(super) async fn set_all(
    redis: &mut impl AsyncCommands,
    keys: &[String],
    value: &[u8],
) -> Result<(), Failure> {
    let mut pipeline = pipe();
    for key in keys {
        pipeline.set(key, value).ignore();
    }
    Ok(pipeline.query_async(redis).await?)
}
