//! The client on smol.

use std::ops::Deref;
use std::sync::Arc;

use ha_redis_core::redis::RedisResult;
use ha_redis_core::{Client, ClientOptions, Error, RedisConfig, RetryPolicy};

use crate::smol_runtime::SmolRuntime;

/// A Redis client on smol, for one server or for the master that Sentinels name. It creates the handles that callers
/// use.
///
/// It dereferences to [`Client`], which has all methods but the constructors. It is cheap to clone, and all clones are
/// one client.
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
///
/// | for | use |
/// |---|---|
/// | commands, pipelines, transactions, scripts, scans | [`connection`](Client::connection) |
/// | reads from replicas | [`replica_connection`](Client::replica_connection) |
/// | `WATCH`, `MULTI` by hand, another database | [`dedicated`](Client::dedicated) |
/// | subscriptions | [`pubsub`](Client::pubsub) |
/// | several commands that may be repeated as a whole | [`retry`](Client::retry) |
/// | Sentinel's own commands | `sentinel_connection` (feature `sentinel`) |
/// | what happens to connections and servers | [`events`](Client::events) |
/// | the servers as they are now | [`topology`](Client::topology), [`health_check`](Client::health_check) |
#[derive(Clone, Debug)]
pub struct RedisClient {
    client: Client,
}

impl RedisClient {
    /// Returns a client that has not connected yet: it connects with [`Client::initialize`] or with its first command.
    /// It runs on smol's global executor.
    pub fn new(config: RedisConfig) -> Self {
        Self::on(config, SmolRuntime::new())
    }

    /// Returns a client on this executor.
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

    /// Returns a client that has not connected yet, with what the application brings besides the configuration: a
    /// source of credentials or of the topology.
    pub fn with_options(config: RedisConfig, options: ClientOptions) -> Self {
        Self { client: Client::with_options(config, Arc::new(SmolRuntime::new()), options) }
    }

    /// Returns a client that has a connection to the master.
    ///
    /// # Errors
    /// The errors of [`Client::initialize`], within the same bounds. The client is dropped then. To keep a client that
    /// starts before its server, use [`RedisClient::new`].
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

/// Runs `operation`, and runs it again by `policy` when it fails for a reason that may be temporary: a lost connection,
/// a timeout, a server that is loading, or no master. It is for operations that use more than one client;
/// [`Client::retry`] is for those that use one.
///
/// The whole operation is repeated whatever became of its commands. **By calling this, you state that it may run
/// twice.**
///
/// # Errors
/// The error of the last attempt.
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
