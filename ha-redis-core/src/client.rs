//! The client: what a service keeps for as long as it runs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, RedisResult, ServerError, Value, cmd};

use crate::address::Address;
use crate::call::caller::Caller;
use crate::closing::CloseReport;
use crate::config::RedisConfig;
use crate::connection::Connection;
use crate::dedicated::DedicatedConnection;
use crate::error::{Error, Kind, Outcome, said, will_pass};
use crate::events::Events;
use crate::health::Health;
use crate::node::core::{ClientGuard, Core, closed};
use crate::proto::{read_replication, read_role, replication_question};
use crate::pubsub::PubSub;
use crate::replica_choice::ReplicaChoice;
use crate::retry::{Decision, RetryPolicy};
use crate::runtime::Runtime;
#[cfg(feature = "sentinel")]
use crate::sentinel_connection::SentinelConnection;
#[cfg(feature = "sentinel")]
use crate::tasks::discovery;
use crate::tasks::start::start;
use crate::time::{Elapsed, sleep_until, until};
use crate::topology::{Topology, TopologySource};

/// How long [`Client::close`] waits for sockets to close that have nothing left to wait for.
const CLOSING: Duration = Duration::from_secs(1);

/// A client of one Redis master, or of a master that Sentinels watch over.
///
/// Runtime crates wrap it as their `RedisClient`. It is cheap to clone; all clones are one client. When the last
/// clone and the last [`Connection`] are dropped, its tasks and sockets end.
#[derive(Clone, Debug)]
pub struct Client {
    core: Arc<ClientGuard>,
}

impl Client {
    /// A client that runs on `runtime`. It does nothing before [`Client::initialize`] or its first command.
    pub fn new(config: RedisConfig, runtime: Arc<dyn Runtime>) -> Self {
        Self { core: Arc::new(ClientGuard::new(Core::new(config, runtime, None))) }
    }

    /// As [`Client::new`], for the master and replicas that `source` tells of, in place of an address or Sentinels in the
    /// configuration.
    pub fn with_topology_source(
        config: RedisConfig,
        runtime: Arc<dyn Runtime>,
        source: impl TopologySource,
    ) -> Self {
        Self { core: Arc::new(ClientGuard::new(Core::new(config, runtime, Some(Box::new(source))))) }
    }

    /// Starts the client and waits until it has a connection to the master. Calling it again, or from many
    /// tasks at once, does no harm.
    ///
    /// # Errors
    /// When the first attempt to connect fails, within `socket_connect_timeout`. With Sentinels: when none of them
    /// knows a master, or none can be asked; a master that cannot be reached is waited for, up to
    /// `failover_wait`, since a failover may be under way. The client goes on trying in the background.
    pub async fn initialize(&self) -> Result<(), Error> {
        let asked = self.core.runtime.now();
        start(&self.core, None).await?;
        let sentinel = self.is_sentinel_mode();
        let config = &self.core.config;
        let patience = if sentinel { config.failover_wait() } else { config.socket_connect_timeout() * 2 };
        let bound = asked + patience;
        match until(&*self.core.runtime, bound, self.core.first_shard().first_connection(sentinel)).await {
            Ok(settled) => settled,
            Err(Elapsed) => Err(self.core.first_shard().nothing_usable()),
        }
    }

    /// A handle for commands. It follows every failover by itself.
    pub fn connection(&self) -> Connection {
        Connection::new(self.caller())
    }

    fn caller(&self) -> Caller {
        Caller::new(Arc::clone(&self.core), Arc::clone(&self.core.call_options))
    }

    /// A handle for reads, which the healthy replicas serve: each call goes to one that the setting `replica_strategy`
    /// chooses.
    ///
    /// Healthy is a replica that the Sentinels do not find down, that answers, whose link to its master is up, that has
    /// the history of the master that the client follows, and that lags no more than `replica_max_lag`. All of that is
    /// looked at about every second, so a read may find data that is older by so much. Calls of one handle may go to
    /// different replicas, so a later read may find older data than an earlier one; the commands of a pipeline go
    /// to one. The steps of a scan stay with one replica for as long as it is healthy;
    /// after that a step with another cursor than 0 fails, since the cursor means something to that server alone.
    ///
    /// A call that fails on one replica is repeated on another at once. While there is no healthy one, the
    /// master serves the reads; with `replica_fallback = false` they wait for a replica up to `failover_wait`, and then
    /// fail with an error that says what is wrong with each.
    ///
    /// A command that may write is refused before it is sent, and so is one that may wait on the server.
    ///
    /// The client connects to replicas when the first such handle is used. Without Sentinels it learns of them from the
    /// server itself.
    pub fn replica_connection(&self) -> Connection {
        self.replica_connection_by(self.config().replica_strategy())
    }

    /// As [`Client::replica_connection`], with a choice of one's own, or another
    /// [`ReplicaStrategy`](crate::ReplicaStrategy) than the configured one.
    pub fn replica_connection_by(&self, choice: impl ReplicaChoice) -> Connection {
        Connection::new(self.caller().reading_replicas(Arc::new(choice)))
    }

    /// A connection that nobody else uses, for WATCH or MULTI by hand. At most `max_connections` are open at a
    /// time, less the `shared_connections` that the handles share; one is always allowed.
    ///
    /// # Errors
    /// When there is no free connection, and none can be made, within `failover_wait`.
    pub async fn dedicated(&self) -> Result<DedicatedConnection, Error> {
        DedicatedConnection::take(&self.core).await
    }

    /// A subscriber, on a connection of its own: a stream of messages that resubscribes by itself.
    ///
    /// # Errors
    /// When no connection to the master can be made within `failover_wait` and `socket_timeout` together.
    pub async fn pubsub(&self) -> Result<PubSub, Error> {
        PubSub::open(&self.core).await
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
    /// fails for a reason that may pass: a lost connection, a timeout, a server that is still loading or no master after
    /// its calls have waited for that.
    ///
    /// The whole operation is repeated whatever became of its commands: whoever calls this says that running it
    /// twice does no harm. The connection it is given does not retry by itself.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn retry<T, F, Fut>(&self, operation: F) -> RedisResult<T>
    where
        F: FnMut(Connection) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        self.retry_with(self.core.call_options.policy, operation).await
    }

    /// As [`Client::retry`], by a policy of the caller's own.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn retry_with<T, F, Fut>(&self, policy: RetryPolicy, mut operation: F) -> RedisResult<T>
    where
        F: FnMut(Connection) -> Fut,
        Fut: Future<Output = RedisResult<T>>,
    {
        let budget = || self.core.budget.take();
        let shared_index = self.core.next_shared_connection();
        // What an attempt before has sent may still reach the server.
        let mut is_repeat = false;
        let attempt = || {
            let fences = if std::mem::replace(&mut is_repeat, true) { self.core.fences.count() } else { 0 };
            let caller = self.caller().repeating(shared_index, fences);
            operation(Connection::new(caller).without_retries())
        };
        repeat(&*self.core.runtime, policy, budget, attempt).await
    }

    /// Asks the master for a sign of life. Ends within `socket_timeout`.
    pub async fn health_check(&self) -> Health {
        let runtime = &*self.core.runtime;
        let asked = runtime.now();
        let bound = asked + self.core.config.socket_timeout();
        let mut connection = self.connection().without_retries().without_refusal_waits();
        let mut questions = redis::pipe();
        questions.cmd("PING").cmd("ROLE");
        let answers = match until(runtime, bound, connection.request_pipeline(&questions)).await {
            Ok(answers) => answers.map_err(Error::from_redis),
            Err(Elapsed) => Err(self.unanswered()),
        };
        let latency = answers.is_ok().then(|| runtime.now() - asked);
        let role = answers.as_ref().ok().and_then(|answers| read_role(answers.get(1)?).ok());
        let (open_connections, shared_connections) = self.core.first_shard().open_shared_connections();
        Health {
            master: self.core.first_shard().master(),
            latency,
            role,
            open_connections,
            expected_connections: shared_connections,
            dedicated_connections: self.core.first_shard().dedicated_connections(),
            error: answers.and_then(|answers| answers.into_iter().try_for_each(check_state)).err(),
        }
    }

    fn unanswered(&self) -> Error {
        match self.core.first_shard().master() {
            Some(master) if self.core.first_shard().open_shared_connections().0 > 0 => {
                let message =
                    format!("{master} did not answer a PING within {:?}", self.config().socket_timeout());
                Error::new(Kind::Timeout, message).with_outcome(Outcome::MaybeApplied)
            }
            _ => self.core.first_shard().nothing_usable(),
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
        start(&self.core, None).await?;
        self.core.lifecycle.check_open()?;
        if self.is_sentinel_mode() {
            #[cfg(feature = "sentinel")]
            return discovery::discover(&self.core)
                .await
                .map(|found| self.core.first_shard().measured(found));
        }
        self.server_topology().await.map(|found| self.core.first_shard().measured(found))
    }

    /// What the server says of itself: by ROLE, or by INFO where that is refused.
    async fn server_topology(&self) -> Result<Topology, Error> {
        let server = self.core.config.address();
        let no_role = match self.ask(cmd("ROLE")).await? {
            Ok(role) => return Ok(Topology::from_role(&role, server)),
            Err(refused) => refused,
        };
        let no_info = match self.ask(replication_question()).await? {
            Ok(info) => return Ok(Topology::from_replication(read_replication(&info)?, server)),
            Err(refused) => refused,
        };
        let kind = if no_role.code() == "NOPERM" { Kind::Permission } else { Kind::Server };
        let message = format!(
            "{server} does not say what it is, in reply to ROLE ({}) or to INFO ({}); allow one of them (ACL SETUSER \
             <user> +role)",
            said(&no_role),
            said(&no_info)
        );
        Err(Error::new(kind, message).with_outcome(Outcome::NotApplied))
    }

    /// Asks one thing; or what the server said that does not have it, or not for this user.
    async fn ask(&self, question: Cmd) -> Result<Result<Value, ServerError>, Error> {
        match self.connection().request(&question).await.map_err(Error::from_redis)? {
            Value::ServerError(error) if !will_pass(&error) => Ok(Err(error)),
            reply => reply.extract_error().map(Ok).map_err(Error::from_redis),
        }
    }

    /// What happens to the connections and servers from now on: see [`Events`].
    pub fn events(&self) -> Events {
        self.core.events.listen()
    }

    /// A connection to a Sentinel that answers, for its own commands: `SENTINEL CKQUORUM`, `SENTINEL MASTERS` and so on.
    ///
    /// # Errors
    /// Without Sentinels in the configuration; or when none can be reached: the error lists them.
    #[cfg(feature = "sentinel")]
    pub async fn sentinel_connection(&self) -> Result<SentinelConnection, Error> {
        SentinelConnection::open(&self.core).await
    }

    /// Closes the client: takes no new calls, waits up to `socket_timeout` for those in flight, and ends all
    /// connections. Calling it again does no harm.
    ///
    /// What it returns says how many calls did not finish in time, and what became of them.
    ///
    /// # Cancellation safety
    /// Dropped before its end, it leaves the client closed for new calls; those in flight end by their own bounds, and
    /// their connections with them, or when the last handle is dropped.
    pub async fn close(&self) -> CloseReport {
        let runtime = &*self.core.runtime;
        self.core.close(&closed());
        let bound = runtime.now() + self.core.config.socket_timeout();
        if until(runtime, bound, self.core.lifecycle.ended()).await.is_err() {
            tracing::warn!("closed with replies outstanding");
        }
        self.core.shut(&closed());
        // The sockets are closed by their own tasks, which have been woken.
        let bound = runtime.now() + CLOSING;
        let _ = until(runtime, bound, self.core.lifecycle.ended()).await;
        self.core.events.end();
        self.core.lifecycle.cut()
    }
}

/// Fails for a reply that says that the server serves nobody now. A question that this user may not ask, or that the server
/// does not know, is answered by any error.
fn check_state(reply: Value) -> Result<(), Error> {
    match reply {
        Value::ServerError(error) if will_pass(&error) => {
            Value::ServerError(error).extract_error().map(drop).map_err(Error::from_redis)
        }
        _ => Ok(()),
    }
}

/// Runs `operation`, and runs it again by `policy` when it fails for a reason that may pass: for operations that use
/// more than one client, or none of ours. `runtime` brings the time; runtime crates have a function without it.
///
/// # Errors
/// The last attempt's.
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
