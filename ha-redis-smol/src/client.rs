//! The front door.

use std::ops::Deref;
use std::sync::Arc;

use ha_redis_core::redis::RedisResult;
use ha_redis_core::{Client, Error, RedisConfig, RetryPolicy, TopologySource};

use crate::smol_runtime::SmolRuntime;

/// A Redis client on smol: of one server, or of the master that Sentinels name.
///
/// All it does is in [`Client`], which it dereferences to; this type only brings the runtime. It is cheap to
/// clone, and all clones are one client.
///
/// ```no_run
/// use ha_redis_smol::{RedisClient, RedisConfig, redis::AsyncCommands};
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
    /// runs on smol's global executor.
    pub fn new(config: RedisConfig) -> Self {
        Self::on(config, SmolRuntime::new())
    }

    /// A client on a certain executor.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    ///
    /// use ha_redis_smol::{RedisClient, RedisConfig, SmolRuntime};
    ///
    /// let executor = Arc::new(smol::Executor::new());
    /// let client = RedisClient::on(RedisConfig::default(), SmolRuntime::from(Arc::clone(&executor)));
    /// smol::block_on(executor.run(client.initialize()))?;
    /// # Ok::<(), ha_redis_smol::Error>(())
    /// ```
    pub fn on(config: RedisConfig, runtime: SmolRuntime) -> Self {
        Self { client: Client::new(config, Arc::new(runtime)) }
    }

    /// A client that has not connected yet, of the master and replicas that `source` tells of: in place of an address or
    /// Sentinels in the configuration.
    pub fn with_topology_source(config: RedisConfig, source: impl TopologySource) -> Self {
        Self { client: Client::with_topology_source(config, Arc::new(SmolRuntime::new()), source) }
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

/// Runs `operation`, and runs it again by `policy` when it fails for a reason that may pass: a lost connection, a
/// timeout, a server that is loading or no master. For operations that use more than one client; see
/// [`Client::retry`] for those that use one.
///
/// The whole is repeated whatever became of its commands: whoever calls this says that it may run twice.
///
/// # Errors
/// The last attempt's.
///
/// ```no_run
/// use ha_redis_smol::redis::{self, AsyncCommands};
/// use ha_redis_smol::{RedisClient, RetryPolicy};
///
/// # async fn run(from: RedisClient, to: RedisClient) -> redis::RedisResult<()> {
/// let policy = RetryPolicy::new().max_retries(5);
/// ha_redis_smol::retry(policy, || async {
///     let value: Vec<u8> = from.connection().get("key").await?;
///     to.connection().set("key", value).await
/// })
/// .await
/// # }
/// ```
pub async fn retry<T, F, Fut>(policy: RetryPolicy, operation: F) -> RedisResult<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = RedisResult<T>>,
{
    ha_redis_core::retry(&SmolRuntime::new(), policy, operation).await
}
