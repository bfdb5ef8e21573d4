//! The client, which a service keeps for as long as it runs.

mod topology;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use redis::{RedisResult, Value};

use crate::background_drop::drop_values;
use crate::call::caller::Caller;
use crate::closing::CloseReport;
use crate::config::RedisConfig;
use crate::connection::Connection;
use crate::dedicated::DedicatedConnection;
use crate::error::{Error, Kind, Outcome, may_succeed_later};
use crate::events::Events;
use crate::health::Health;
use crate::node::client_options::ClientOptions;
use crate::node::core::{ClientGuard, Core, closed};
use crate::proto::read_role;
use crate::pubsub::PubSub;
use crate::replica_choice::ReplicaChoice;
use crate::retry::{Decision, RetryPolicy};
use crate::runtime::Runtime;
#[cfg(feature = "sentinel")]
use crate::sentinel_connection::SentinelConnection;
use crate::tasks::start::{is_started, start, start_reauthentication};
use crate::time::{Elapsed, sleep_until, until};

/// How long [`Client::close`] waits for sockets to close that have nothing else to wait for.
const CLOSING: Duration = Duration::from_secs(1);

/// A client of one Redis server, or of the master that Sentinels name. It creates the handles that callers use.
///
/// | for | use |
/// |---|---|
/// | commands, pipelines, transactions, scripts, scans | [`connection`](Self::connection) |
/// | reads from replicas | [`replica_connection`](Self::replica_connection) |
/// | `WATCH`, `MULTI` by hand, another database | [`dedicated`](Self::dedicated) |
/// | subscriptions | [`pubsub`](Self::pubsub) |
/// | several commands that may be repeated as a whole | [`retry`](Self::retry) |
/// | Sentinel's own commands | `sentinel_connection` (feature `sentinel`) |
/// | what happens to connections and servers | [`events`](Self::events) |
/// | the servers as they are now | [`topology`](Self::topology), [`health_check`](Self::health_check) |
///
/// Runtime crates wrap it as their `RedisClient`. A client is cheap to clone, and all clones are one client. Its tasks
/// and sockets end with [`close`](Self::close), or when the last clone and the last handle are dropped.
///
/// Create it after a `fork`, like its runtime: a child that continues without `exec` shares the sockets of a client
/// that was created before, and has none of its threads.
#[derive(Clone, Debug)]
pub struct Client {
    core: Arc<ClientGuard>,
}

impl Client {
    /// Returns a client that runs on `runtime`. It connects with [`Client::initialize`] or with its first command.
    pub fn new(config: RedisConfig, runtime: Arc<dyn Runtime>) -> Self {
        Self::with_options(config, runtime, ClientOptions::new())
    }

    /// Returns a client as [`Client::new`] does, with what the application brings besides the configuration: a source
    /// of credentials or of the topology.
    pub fn with_options(config: RedisConfig, runtime: Arc<dyn Runtime>, options: ClientOptions) -> Self {
        Self { core: Arc::new(ClientGuard::new(Core::new(config, runtime, options))) }
    }

    /// Starts the client and waits until it has a connection to the master. Calling it again, or from many tasks at
    /// once, is harmless.
    ///
    /// Without Sentinels it returns within twice `socket_connect_timeout` (4 s by default): one period for reading
    /// certificate files, if any are configured, and one for the first connection attempt. With Sentinels it returns
    /// within `failover_wait` (10 s by default), or `socket_connect_timeout` if that is longer.
    ///
    /// # Errors
    /// - The configuration needs a feature that is not compiled in, or a certificate file that cannot be read.
    /// - Without Sentinels, the first attempt to connect failed.
    /// - With Sentinels, none of them answered or none monitors the master, or the master refuses the client for a
    ///   reason that waiting does not change, such as a wrong password. An unreachable master is not an error until
    ///   the time limit, because a failover may be in progress.
    /// - The client is closed.
    ///
    /// After an error the client continues to try in the background, unless it is closed or the configuration is wrong.
    pub async fn initialize(&self) -> Result<(), Error> {
        let asked = self.core.runtime.now();
        start(&self.core, None).await?;
        let named = self.core.source.names_master();
        let config = self.core.config();
        let patience = if named { config.failover_wait() } else { config.socket_connect_timeout() * 2 };
        let bound = asked + patience;
        match until(&*self.core.runtime, bound, self.core.first_shard().first_connection(named)).await {
            Ok(settled) => settled,
            Err(Elapsed) => Err(self.core.first_shard().no_connection_error()),
        }
    }

    /// Returns a handle for commands. It follows every failover.
    pub fn connection(&self) -> Connection {
        Connection::new(self.caller())
    }

    fn caller(&self) -> Caller {
        Caller::new(Arc::clone(&self.core))
    }

    /// Returns a handle for reads. Each call goes to a healthy replica, which the setting `replica_strategy` chooses.
    ///
    /// ```no_run
    /// # #[cfg(feature = "aio")]
    /// # mod example {
    /// # use ha_redis_core::Client;
    /// # use ha_redis_core::redis::{AsyncCommands, RedisResult};
    /// async fn title(client: &Client) -> RedisResult<Option<String>> {
    ///     let mut replicas = client.replica_connection();
    ///     replicas.get("article:1:title").await
    /// }
    /// # }
    /// ```
    ///
    /// A replica is **healthy** when the Sentinels do not report it as down, it answers, its link to its master is up,
    /// it has the history of the master that the client follows, and it lags no more than `replica_max_lag`. The client
    /// checks that about every second, so a read may see data about a second older than the limit allows.
    ///
    /// - A call that fails on one replica is repeated on another one at once.
    /// - While no replica is healthy, the master serves the reads. With `replica_fallback = false` they wait for a
    ///   replica, up to `failover_wait`, and then fail with an error that names the problem of each replica.
    /// - A command that may write, or that blocks on the server, is refused before it is sent.
    /// - A later call of the same handle may see older data than an earlier one, because it may go to another replica.
    ///   The commands of one pipeline go to one replica.
    /// - The steps of a scan stay with one replica while it is healthy. After that, a step with a nonzero cursor
    ///   fails, because a cursor is valid only on the server that returned it.
    ///
    /// The client connects to replicas when the first such handle is used. Without Sentinels, the server lists its
    /// replicas. [`guide::replica_reads`](crate::guide::replica_reads) has the details.
    pub fn replica_connection(&self) -> Connection {
        self.replica_connection_by(self.config().replica_strategy())
    }

    /// Returns a handle for reads, as [`Client::replica_connection`] does, with another
    /// [`ReplicaStrategy`](crate::ReplicaStrategy) than the configured one, or a [`ReplicaChoice`] of your own.
    pub fn replica_connection_by(&self, choice: impl ReplicaChoice) -> Connection {
        Connection::new(self.caller().reading_replicas(Arc::new(choice)))
    }

    /// Returns a connection that nobody else uses: for `WATCH`, for `MULTI` by hand, or for another database.
    ///
    /// Dropping it returns it to the client. At most `max_connections` less `shared_connections` dedicated connections
    /// are open at a time; one is always allowed. When all are in use, callers wait in order.
    ///
    /// ```no_run
    /// # #[cfg(feature = "aio")]
    /// # mod example {
    /// # use ha_redis_core::Client;
    /// # use ha_redis_core::redis::{self, AsyncCommands};
    /// /// Takes `amount` from the balance; false if there is not enough.
    /// async fn withdraw(client: &Client, amount: i64) -> Result<bool, Box<dyn std::error::Error>> {
    ///     let mut own = client.dedicated().await?;
    ///     loop {
    ///         redis::cmd("WATCH").arg("balance").exec_async(&mut own).await?;
    ///         let balance: i64 = own.get("balance").await?;
    ///         if balance < amount {
    ///             redis::cmd("UNWATCH").exec_async(&mut own).await?;
    ///             return Ok(false);
    ///         }
    ///         let mut transaction = redis::pipe();
    ///         transaction.atomic().decr("balance", amount);
    ///         // EXEC returns nil when somebody else has changed the balance: read it again.
    ///         let done: Option<(i64,)> = transaction.query_async(&mut own).await?;
    ///         if done.is_some() {
    ///             return Ok(true);
    ///         }
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// When no connection is free, and none can be made, within `failover_wait` or `call_timeout`, whichever is
    /// shorter. The error is an authentication or permission error when the server refuses the client.
    ///
    /// # Cancellation safety
    /// Dropping the future only gives up the caller's place in the queue. A connection that is being opened goes to
    /// the next caller or becomes idle. [`DedicatedConnection`] documents what happens to calls.
    pub async fn dedicated(&self) -> Result<DedicatedConnection, Error> {
        DedicatedConnection::take(&self.core).await
    }

    /// Returns a subscriber, on a connection of its own: a stream of messages that resubscribes after a lost
    /// connection.
    ///
    /// # Errors
    /// When no connection to the master can be made within `failover_wait` and `socket_timeout` together, or within
    /// `call_timeout` if that is shorter.
    pub async fn pubsub(&self) -> Result<PubSub, Error> {
        PubSub::open(&self.core).await
    }

    /// Replaces the configuration while the client runs, without a failed call. Returns the names of the settings that
    /// have changed, and sends an [`Event::Reconfigured`](crate::Event::Reconfigured).
    ///
    /// It can change the credentials, timeouts, retry settings, the choice of replicas, the address map and the files of
    /// TLS; [`Setting::is_changeable`](crate::config::Setting::is_changeable) answers for each setting. Handles follow,
    /// except for what they have set themselves (`with_timeout`, …) and for the strategy of existing replica handles.
    /// Calls in flight keep their bounds. Live connections log in with new credentials between two calls. New TLS settings are tried on the master
    /// first; then other connections take the place of those that exist.
    /// [`guide::credentials`](crate::guide::credentials) has the details.
    ///
    /// # Errors
    /// A setting that differs cannot change while the client runs, or contradicts the client's options: the error names
    /// it. A file of TLS is wrong, or the master cannot be reached with the new TLS settings. Another call is in
    /// progress, or the client is closed. The client goes on with its old configuration.
    ///
    /// # Cancellation safety
    /// Dropping the future leaves the old configuration, or the new one, in use as a whole.
    ///
    /// ```no_run
    /// # use ha_redis_core::{Client, Error};
    /// # use std::time::Duration;
    /// # async fn example(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let config = client.config().to_builder().password("rotated").call_timeout(Duration::from_secs(2)).build()?;
    /// assert_eq!(client.reconfigure(config).await?, ["password", "call_timeout"]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reconfigure(&self, config: RedisConfig) -> Result<Vec<&'static str>, Error> {
        self.core.lifecycle.check_open()?;
        if is_started(&self.core) {
            start_reauthentication(&self.core)?;
        }
        let changed = self.core.reconfigure(config).await?;
        // The client may have started meanwhile, with the former credentials.
        if is_started(&self.core) {
            start_reauthentication(&self.core)?;
        }
        Ok(changed)
    }

    /// Returns the current configuration.
    pub fn config(&self) -> Arc<RedisConfig> {
        self.core.config()
    }

    /// Returns true if Sentinels name the master.
    pub fn is_sentinel_mode(&self) -> bool {
        self.core.config().use_sentinel()
    }

    /// Runs `operation`, and runs it again when it fails for a reason that may be temporary: a lost connection, a
    /// timeout, a server that is still loading after its calls have waited, or a missing master. It runs up to
    /// `retry_attempts` more times, with the configured backoff and within the retry budget.
    ///
    /// The whole operation is repeated whatever became of its commands. **By calling this, you state that the operation
    /// may run twice.** The connection that it receives does not retry calls of its own.
    ///
    /// ```no_run
    /// # #[cfg(feature = "aio")]
    /// # mod example {
    /// # use ha_redis_core::Client;
    /// # use ha_redis_core::redis::{AsyncCommands, RedisResult};
    /// /// Publishes the draft. Publishing the same draft twice is harmless.
    /// async fn publish(client: &Client) -> RedisResult<()> {
    ///     client
    ///         .retry(|mut redis| async move {
    ///             let draft: String = redis.get("article:draft").await?;
    ///             redis.set::<_, _, ()>("article:published", draft).await
    ///         })
    ///         .await
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn retry<T, F, Fut>(&self, operation: F) -> RedisResult<T>
    where
        F: FnMut(Connection) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        self.retry_with(self.core.call_options.load().policy, operation).await
    }

    /// Runs `operation` as [`Client::retry`] does, with another policy than the configured one.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn retry_with<T, F, Fut>(&self, policy: RetryPolicy, mut operation: F) -> RedisResult<T>
    where
        F: FnMut(Connection) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        let budget = || self.core.budget.take();
        let shared_index = self.core.next_shared_connection();
        // The commands of the previous attempt may still reach the server.
        let mut is_repeat = false;
        let attempt = || {
            let fences = if std::mem::replace(&mut is_repeat, true) { self.core.fences.count() } else { 0 };
            let caller = self.caller().repeating(shared_index, fences);
            operation(Connection::new(caller).without_retries())
        };
        repeat(&*self.core.runtime, policy, budget, attempt).await
    }

    /// Sends `PING` and `ROLE` to the master, without retries. Ends within `socket_timeout`.
    pub async fn health_check(&self) -> Health {
        let runtime = &*self.core.runtime;
        let asked = runtime.now();
        let bound = asked + self.core.config().socket_timeout();
        let mut connection = self.connection().without_retries().without_refusal_waits();
        let mut questions = redis::pipe();
        questions.cmd("PING").cmd("ROLE");
        let answers = match until(runtime, bound, connection.request_pipeline(&questions)).await {
            Ok(answers) => answers.map_err(Error::from_redis),
            Err(Elapsed) => Err(self.unanswered()),
        };
        let latency = answers.is_ok().then(|| runtime.now() - asked);
        let role = answers.as_ref().ok().and_then(|answers| read_role(answers.get(1)?).ok());
        let error = match answers {
            Ok(answers) => {
                let error = answers.iter().find_map(bad_state);
                drop_values(answers);
                error
            }
            Err(error) => Some(error),
        };
        let (open_connections, shared_connections) = self.core.first_shard().open_shared_connections();
        Health {
            master: self.core.first_shard().master(),
            latency,
            role,
            open_connections,
            expected_connections: shared_connections,
            dedicated_connections: self.core.first_shard().dedicated_connections(),
            error,
        }
    }

    fn unanswered(&self) -> Error {
        match self.core.first_shard().master() {
            Some(master) if self.core.first_shard().open_shared_connections().0 > 0 => {
                let message =
                    format!("{master} did not answer a PING within {:?}", self.config().socket_timeout());
                Error::new(Kind::Timeout, message).with_outcome(Outcome::MaybeApplied)
            }
            _ => self.core.first_shard().no_connection_error(),
        }
    }

    /// Returns a stream of what happens to the connections and servers from now on.
    pub fn events(&self) -> Events {
        self.core.events.subscribe()
    }

    /// Returns a connection to a reachable Sentinel, for Sentinel's own commands: `SENTINEL CKQUORUM`, `SENTINEL MASTERS`
    /// and so on.
    ///
    /// # Errors
    /// When the configuration has no Sentinels, or when none can be reached: the error lists them.
    #[cfg(feature = "sentinel")]
    #[cfg_attr(docsrs, doc(cfg(feature = "sentinel")))]
    pub async fn sentinel_connection(&self) -> Result<SentinelConnection, Error> {
        SentinelConnection::open(&self.core).await
    }

    /// Closes the client: refuses new calls, waits up to `socket_timeout` for those in flight, and ends all
    /// connections. Calling it again is harmless.
    ///
    /// Returns how many calls did not finish in time, and their outcomes.
    ///
    /// # Cancellation safety
    /// Dropping the future leaves the client closed for new calls. Calls in flight end by their own bounds. Their
    /// connections end with them, or when the last handle is dropped.
    pub async fn close(&self) -> CloseReport {
        let runtime = &*self.core.runtime;
        self.core.close(&closed());
        let bound = runtime.now() + self.core.config().socket_timeout();
        if until(runtime, bound, self.core.lifecycle.ended()).await.is_err() {
            tracing::warn!("closed with replies outstanding");
        }
        self.core.shut(&closed());
        // The sockets are closed by their own tasks, which have been woken.
        let bound = runtime.now() + CLOSING;
        let _ = until(runtime, bound, self.core.lifecycle.ended()).await;
        self.core.events.close();
        self.core.lifecycle.cut()
    }
}

/// Returns the error of a reply if it means that the server serves nobody now. Other errors are answers: the user may
/// lack a permission, or the server a command.
fn bad_state(reply: &Value) -> Option<Error> {
    match reply {
        Value::ServerError(error) if may_succeed_later(error) => {
            Error::answer(Value::ServerError(error.clone())).err()
        }
        _ => None,
    }
}

/// Runs `operation`, and runs it again by `policy` when it fails for a reason that may be temporary: for operations
/// that use more than one client. `runtime` provides the time; runtime crates have a function of this name without that
/// argument.
///
/// # Errors
/// The error of the last attempt.
pub async fn retry<T, F, Fut>(runtime: &dyn Runtime, policy: RetryPolicy, operation: F) -> RedisResult<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = RedisResult<T>>,
{
    repeat(runtime, policy, || true, operation).await
}

async fn repeat<T, F, Fut>(
    runtime: &dyn Runtime,
    policy: RetryPolicy,
    may_retry: impl Fn() -> bool,
    mut operation: F,
) -> RedisResult<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = RedisResult<T>>,
{
    let mut session = policy.session(None);
    loop {
        let error = match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match session.decide_repeatable(&error, runtime.now(), runtime.random()) {
            Decision::RetryAt(at) if may_retry() => sleep_until(runtime, at).await,
            Decision::RetryAt(_) | Decision::GiveUp => return Err(error),
        }
    }
}
