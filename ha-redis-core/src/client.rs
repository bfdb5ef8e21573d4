//! The client: what a service keeps for as long as it runs.

use std::future::Future;
use std::sync::Arc;

use redis::{RedisResult, Value, cmd};

use crate::address::Address;
use crate::config::RedisConfig;
use crate::connection::Connection;
use crate::dedicated::DedicatedConnection;
use crate::engine::caller::Caller;
use crate::engine::core::{Core, Keeper};
#[cfg(feature = "sentinel")]
use crate::engine::discovery;
use crate::engine::time::{Elapsed, sleep, until};
use crate::error::{Error, Kind};
use crate::health::Health;
use crate::retry::{Decision, RetryPolicy};
use crate::runtime::Runtime;
use crate::topology::{Replica, Topology};

/// A client of one Redis master, or of a master that Sentinels watch over.
///
/// Runtime crates wrap it as their `RedisClient`. It is cheap to clone; all clones are one client. When the last
/// clone and the last [`Connection`] are dropped, its tasks and sockets end.
#[derive(Clone, Debug)]
pub struct Client {
    core: Arc<Keeper>,
}

impl Client {
    /// A client that runs on `runtime`. It does nothing before [`Client::initialize`] or its first command.
    pub fn new(config: RedisConfig, runtime: Arc<dyn Runtime>) -> Self {
        Self { core: Arc::new(Keeper::new(Core::new(config, runtime))) }
    }

    /// Starts the client and waits until it has a connection to the master. Calling it again, or from many
    /// tasks at once, does no harm.
    ///
    /// # Errors
    /// When the first attempt to connect fails, within `socket_connect_timeout`. With Sentinels: when none of them
    /// knows a master, or none can be asked; a master that cannot be reached is waited for, up to
    /// `failover_wait`, since a failover may be under way. The client goes on trying in the background.
    pub async fn initialize(&self) -> Result<(), Error> {
        self.core.start()?;
        let sentinel = self.is_sentinel_mode();
        let config = &self.core.config;
        let patience = if sentinel { config.failover_wait() } else { config.socket_connect_timeout() * 2 };
        let bound = self.core.runtime.now() + patience;
        match until(&*self.core.runtime, bound, self.core.pool.settled(sentinel)).await {
            Ok(settled) => settled,
            Err(Elapsed) => Err(self.core.pool.nothing_usable()),
        }
    }

    /// A handle for commands. It follows every failover by itself.
    pub fn connection(&self) -> Connection {
        self.connection_with(self.core.policy())
    }

    fn connection_with(&self, policy: RetryPolicy) -> Connection {
        Connection::new(Caller::new(Arc::clone(&self.core), 0, policy))
    }

    /// A connection that nobody else uses, for WATCH or MULTI by hand. At most `max_connections` are open at a
    /// time, less the one that the handles share.
    ///
    /// # Errors
    /// When there is no free connection, and none can be made, within `failover_wait`.
    pub async fn dedicated(&self) -> Result<DedicatedConnection, Error> {
        DedicatedConnection::take(&self.core).await
    }

    /// The configuration that the client was made with.
    pub fn config(&self) -> &RedisConfig {
        &self.core.config
    }

    /// Whether Sentinels say who is master.
    pub fn is_sentinel_mode(&self) -> bool {
        self.core.config.use_sentinel()
    }

    /// Runs `operation`, and runs it again (up to `retry_attempts` times, with the configured backoff) when it
    /// fails for a reason that may pass: a lost connection, a timeout, a server that is loading or no master.
    ///
    /// The whole operation is repeated whatever became of its commands: whoever calls this says that running it
    /// twice does no harm. The connection it is given does not retry by itself.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn retry<T, F, Fut>(&self, mut operation: F) -> RedisResult<T>
    where
        F: FnMut(Connection) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        let mut session = self.core.policy().session();
        loop {
            let error = match operation(self.connection_with(RetryPolicy::never())).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            match session.decide_repeatable(&error, self.core.runtime.random()) {
                Decision::GiveUp => return Err(error),
                Decision::Retry(delay) => sleep(&*self.core.runtime, delay).await,
            }
        }
    }

    /// Asks the master for a sign of life. Ends within `socket_timeout`.
    pub async fn health_check(&self) -> Health {
        let runtime = &*self.core.runtime;
        let asked = runtime.now();
        let bound = asked + self.core.config.socket_timeout();
        let mut connection = self.connection_with(RetryPolicy::never());
        let ping = cmd("PING");
        let answer = match until(runtime, bound, connection.request(&ping)).await {
            Ok(answer) => answer.and_then(Value::extract_error).map_err(Error::from_redis),
            Err(Elapsed) => Err(self.core.pool.nothing_usable()),
        };
        Health {
            master: self.core.pool.master(),
            latency: answer.is_ok().then(|| runtime.now() - asked),
            connections: self.core.pool.open_lanes(),
            error: answer.err(),
        }
    }

    /// The address of the master: the configured one, or what the Sentinels say now.
    ///
    /// # Errors
    /// As [`Client::topology`].
    pub async fn discover_master(&self) -> Result<Address, Error> {
        if self.is_sentinel_mode() {
            return Ok(self.topology().await?.master);
        }
        Ok(self.core.config.address())
    }

    /// The addresses of the master's replicas, healthy or not.
    ///
    /// # Errors
    /// As [`Client::topology`].
    pub async fn discover_replicas(&self) -> Result<Vec<Address>, Error> {
        let replicas = self.topology().await?.replicas;
        Ok(replicas.into_iter().map(|replica| replica.address).collect())
    }

    /// Asks the Sentinels (or, without them, the server itself) for the servers as they are now.
    ///
    /// # Errors
    /// When no Sentinel can be asked, or none knows the master: the error lists the Sentinels and what each said.
    /// Without Sentinels, when the server cannot be asked.
    pub async fn topology(&self) -> Result<Topology, Error> {
        self.core.start()?;
        if self.is_sentinel_mode() {
            #[cfg(feature = "sentinel")]
            return discovery::discover(&self.core).await;
        }
        let role = self.connection().request(&cmd("ROLE")).await;
        let role = role.and_then(Value::extract_error).map_err(Error::from_redis)?;
        Ok(described_by(&role, self.core.config.address()))
    }

    /// Closes the client: takes no new calls, waits up to `socket_timeout` for those in flight, and ends all
    /// connections. Calling it again does no harm.
    pub async fn close(&self) {
        self.core.pool.close();
        let bound = self.core.runtime.now() + self.core.config.socket_timeout();
        if until(&*self.core.runtime, bound, self.core.pool.quiet()).await.is_err() {
            tracing::warn!("closed with replies outstanding");
        }
        self.core.pool.shut();
    }
}

/// Reads a server's reply to ROLE.
fn described_by(role: &Value, asked: Address) -> Topology {
    let unknown = Topology::of(asked.clone());
    let Value::Array(parts) = role else { return unknown };
    let text = |value: &Value| redis::from_redis_value_ref::<String>(value).ok();
    let address =
        |host: &Value, port: &Value| Some(Address::tcp(text(host)?, redis::from_redis_value_ref(port).ok()?));
    match (parts.first().and_then(text).as_deref(), parts.as_slice()) {
        (Some("master"), [_, _, Value::Array(replicas), ..]) => {
            let replica = |replica: &Value| match replica {
                Value::Array(parts) => {
                    Some(Replica { address: address(parts.first()?, parts.get(1)?)?, healthy: true })
                }
                _ => None,
            };
            Topology { replicas: replicas.iter().filter_map(replica).collect(), ..unknown }
        }
        (Some("slave"), [_, host, port, ..]) => {
            let master = address(host, port).unwrap_or_else(|| asked.clone());
            Topology { replicas: vec![Replica { address: asked, healthy: true }], ..Topology::of(master) }
        }
        _ => unknown,
    }
}

impl Topology {
    /// A master, and nothing else known.
    pub(crate) fn of(master: Address) -> Self {
        Self {
            master,
            replicas: Vec::new(),
            sentinels: 0,
            known_sentinels: 0,
            quorum: 0,
            epoch: 0,
            master_healthy: true,
        }
    }
}

impl Error {
    /// The client's own error inside, or one that says what the server said.
    fn from_redis(error: redis::RedisError) -> Self {
        use crate::error::RedisErrorExt;
        match error.client_error() {
            Some(ours) => ours.clone(),
            None => {
                let outcome = error.outcome();
                Self::caused(Kind::Connect, "the server answered with an error", error).with_outcome(outcome)
            }
        }
    }
}
