//! The front door.

use std::ops::Deref;
use std::sync::Arc;

use ha_redis_core::{Client, Error, RedisConfig};

use crate::runtime::TokioRuntime;

/// A Redis client on Tokio: of one server, or of the master that Sentinels name.
///
/// All it does is in [`Client`], which it dereferences to; this type only brings the runtime. It is cheap to
/// clone, and all clones are one client.
///
/// ```no_run
/// use ha_redis_tokio::{RedisClient, RedisConfig, redis::AsyncCommands};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let config: RedisConfig = "redis://localhost:6379/0".parse()?;
/// let client = RedisClient::connect(config).await?;
/// let mut redis = client.connection();
/// redis.set::<_, _, ()>("key", "value").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RedisClient {
    client: Client,
}

impl RedisClient {
    /// A client that has not connected yet: it does so with [`Client::initialize`] or with its first command. It
    /// runs on the Tokio runtime that is current here, or else on that of its first use.
    pub fn new(config: RedisConfig) -> Self {
        Self::on(config, TokioRuntime::new())
    }

    /// A client on a certain Tokio runtime.
    ///
    /// ```no_run
    /// use ha_redis_tokio::{RedisClient, RedisConfig, TokioRuntime};
    ///
    /// let tokio = tokio::runtime::Runtime::new()?;
    /// let client = RedisClient::on(RedisConfig::default(), TokioRuntime::from(tokio.handle().clone()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on(config: RedisConfig, runtime: TokioRuntime) -> Self {
        Self { client: Client::new(config, Arc::new(runtime)) }
    }

    /// A client that has a connection to the master.
    ///
    /// # Errors
    /// As [`Client::initialize`]; the client is given up then.
    pub async fn connect(config: RedisConfig) -> Result<Self, Error> {
        let client = Self::new(config);
        client.initialize().await?;
        Ok(client)
    }
}

impl Deref for RedisClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
