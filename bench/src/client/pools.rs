//! Pools of redis-rs's connections: each call checks a connection out. Both pools have their default size (deadpool
//! two connections per processor, bb8 ten), and by default test a connection before they hand it out.

use bb8_redis::RedisConnectionManager;
use bb8_redis::bb8;
use deadpool_redis::{Config, Runtime};

use super::Client;
use super::redis_commands::{get, set, set_all};
use crate::Failure;

pub(crate) fn deadpool_redis(url: &str) -> Result<Deadpool, Failure> {
    Ok(Deadpool(Config::from_url(url).create_pool(Some(Runtime::Tokio1))?))
}

#[derive(Clone)]
pub(crate) struct Deadpool(deadpool_redis::Pool);

impl Client for Deadpool {
    async fn get(&mut self, key: &str) -> Result<usize, Failure> {
        get(&mut self.0.get().await?, key).await
    }

    async fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Failure> {
        set(&mut self.0.get().await?, key, value).await
    }

    async fn set_all(&mut self, keys: &[String], value: &[u8]) -> Result<(), Failure> {
        set_all(&mut self.0.get().await?, keys, value).await
    }
}

pub(crate) async fn bb8_redis(url: &str) -> Result<Bb8, Failure> {
    Ok(Bb8(bb8::Pool::builder().build(RedisConnectionManager::new(url)?).await?))
}

#[derive(Clone)]
pub(crate) struct Bb8(bb8::Pool<RedisConnectionManager>);

impl Client for Bb8 {
    async fn get(&mut self, key: &str) -> Result<usize, Failure> {
        get(&mut *self.0.get().await?, key).await
    }

    async fn set(&mut self, key: &str, value: &[u8]) -> Result<(), Failure> {
        set(&mut *self.0.get().await?, key, value).await
    }

    async fn set_all(&mut self, keys: &[String], value: &[u8]) -> Result<(), Failure> {
        set_all(&mut *self.0.get().await?, keys, value).await
    }
}
