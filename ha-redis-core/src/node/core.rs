//! The state that all handles of one client share.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::config::RedisConfig;
use crate::conn::connector::{Connector, secrets_of};
use crate::conn::driver::{Driver, OnSilence, Timeouts};
use crate::conn::link::{Bounds, Link};
use crate::conn::login::Login;
use crate::conn::raw_connection::ConnectionParts;
use crate::conn::tls::ClientTls;
use crate::conn::watchdog::Watched;
use crate::credentials::{Credentials, CredentialsProvider};
use crate::error::{Error, Kind};
use crate::events::EventSender;
use crate::node::client_options::ClientOptions;
use crate::node::fence::Fences;
use crate::node::lifecycle::Lifecycle;
use crate::node::logins::{LoginMailbox, LoginNews, has_old_login};
use crate::node::open_links::OpenLinks;
use crate::node::scan_cursors::ScanCursors;
#[cfg(feature = "sentinel")]
use crate::node::sentinel_list::SentinelList;
use crate::node::shard::{Shard, ShardContext};
use crate::peer_text::printable;
use crate::retry::{CallOptions, RetryBudget};
use crate::routing::RoutingTable;
use crate::runtime::{Runtime, Task};
use crate::sync::{Mutex, Snapshot, lock};
use crate::time::until;
use crate::topology::{CurrentMaster, MonitorMailbox, ShardId, SourceKind, TopologySource};

pub(crate) struct Core {
    config: Snapshot<RedisConfig>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// The shards, as the topology source describes them.
    pub(crate) routing: Snapshot<RoutingTable<Shard>>,
    pub(crate) source: SourceKind,
    /// What the application brought, until the tasks take it.
    options: Mutex<ClientOptions>,
    pub(super) provided_credentials: ProvidedCredentials,
    /// True while the configuration is being replaced.
    pub(super) reconfiguring: AtomicBool,
    pub(crate) monitor: Arc<MonitorMailbox>,
    pub(crate) data: Connector,
    pub(crate) urgent: Connector,
    #[cfg(feature = "sentinel")]
    pub(crate) sentinels: Connector,
    #[cfg(feature = "sentinel")]
    pub(crate) sentinel_list: SentinelList,
    /// The options of calls, unless a handle has its own.
    pub(crate) call_options: Snapshot<CallOptions>,
    timeouts: Arc<Snapshot<Timeouts>>,
    pub(crate) budget: Arc<RetryBudget>,
    pub(crate) events: Arc<EventSender>,
    pub(crate) links: OpenLinks,
    pub(crate) logins: LoginMailbox,
    pub(crate) fences: Fences,
    pub(crate) scan_cursors: ScanCursors,
    pub(super) tls: ClientTls,
    pub(crate) started: Started,
    handles: AtomicUsize,
    /// How many connections the handles share.
    shared_connections: usize,
}

/// For which servers the application brought a credentials provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProvidedCredentials {
    pub(super) data: bool,
    pub(super) sentinels: bool,
}

/// Which of the client's tasks have been started.
#[derive(Debug, Default)]
pub(crate) struct Started {
    /// The tasks that keep its connections and monitor the topology.
    pub(crate) connections: Mutex<bool>,
    /// The tasks for reads from replicas.
    pub(crate) replicas: Mutex<bool>,
    /// The task that logs live connections in again.
    pub(crate) reauthentication: Mutex<bool>,
}

impl Core {
    pub(crate) fn new(config: RedisConfig, runtime: Arc<dyn Runtime>, options: ClientOptions) -> Self {
        let source = match options.topology_source {
            Some(_) => SourceKind::Custom,
            #[cfg(feature = "sentinel")]
            None if config.use_sentinel() => SourceKind::Sentinel,
            None => SourceKind::Direct,
        };
        let tls = ClientTls::new(&config, options.tls.clone());
        let secrets = secrets_of(&config);
        let login = Arc::new(match &options.credentials {
            Some(provider) => Login::awaited(&printable(&provider.name())),
            None => Login::known(credentials_of(&config), "the setting `password`"),
        });
        let (lifecycle, events) = (Arc::new(Lifecycle::default()), Arc::new(EventSender::new()));
        let monitor = Arc::new(MonitorMailbox::new());
        let context = ShardContext {
            lifecycle: Arc::clone(&lifecycle),
            source,
            events: Arc::clone(&events),
            monitor: Arc::clone(&monitor),
        };
        let shard = Shard::new(ShardId::default(), &config, context, runtime.random());
        Self {
            lifecycle,
            routing: Snapshot::new(RoutingTable::whole(Arc::new(shard))),
            source,
            monitor,
            data: Connector::for_data(
                Arc::clone(&runtime),
                &config,
                Arc::clone(&login),
                tls.data(),
                secrets.clone(),
                source.names_master(),
            ),
            urgent: Connector::for_urgent(Arc::clone(&runtime), &config, login, tls.data(), secrets.clone()),
            #[cfg(feature = "sentinel")]
            sentinels: Connector::for_sentinels(
                Arc::clone(&runtime),
                &config,
                Arc::new(match &options.sentinel_credentials {
                    Some(provider) => Login::awaited(&printable(&provider.name())),
                    None => Login::known(sentinel_credentials_of(&config), "the setting `sentinel_password`"),
                }),
                tls.sentinels(),
                secrets,
            ),
            #[cfg(feature = "sentinel")]
            sentinel_list: SentinelList::new(config.sentinel_hosts()),
            call_options: Snapshot::new(CallOptions::of(&config)),
            timeouts: Arc::new(Snapshot::new(Timeouts::of(&config))),
            // Every call in flight may be sent again once before the budget's share of the replies applies.
            budget: Arc::new(RetryBudget::new(config.max_in_flight(), config.retry_budget())),
            events,
            provided_credentials: ProvidedCredentials {
                data: options.credentials.is_some(),
                sentinels: options.sentinel_credentials.is_some(),
            },
            reconfiguring: AtomicBool::new(false),
            options: Mutex::new(options),
            links: OpenLinks::default(),
            logins: LoginMailbox::default(),
            fences: Fences::default(),
            scan_cursors: ScanCursors::default(),
            tls,
            started: Started::default(),
            handles: AtomicUsize::new(0),
            shared_connections: config.shared_connections(),
            config: Snapshot::new(config),
            runtime,
        }
    }

    /// Creates a shard of this client that is not in the routing table yet.
    #[cfg(test)]
    pub(crate) fn new_shard(&self, id: ShardId) -> Shard {
        let context = ShardContext {
            lifecycle: Arc::clone(&self.lifecycle),
            source: self.source,
            events: Arc::clone(&self.events),
            monitor: Arc::clone(&self.monitor),
        };
        Shard::new(id, &self.config(), context, self.runtime.random())
    }

    /// Returns the current configuration.
    pub(crate) fn config(&self) -> Arc<RedisConfig> {
        self.config.load()
    }

    /// Replaces the configuration, as tasks and new handles see it.
    pub(super) fn set_config(&self, config: RedisConfig) {
        self.config.store(config);
    }

    /// Replaces the options of calls and the times of connections.
    pub(super) fn set_call_settings(&self, config: &RedisConfig) {
        self.call_options.store(CallOptions::of(config));
        self.timeouts.store(Timeouts::of(config));
    }

    /// Returns the configuration as a snapshot, for those who look whether it has changed.
    pub(crate) fn config_snapshot(&self) -> &Snapshot<RedisConfig> {
        &self.config
    }

    /// Returns the shard for calls without a key.
    pub(crate) fn first_shard(&self) -> Arc<Shard> {
        Arc::clone(self.routing.load().first())
    }

    /// Returns the number of the shared connection for the next handle.
    pub(crate) fn next_shared_connection(&self) -> usize {
        self.handles.fetch_add(1, Ordering::Relaxed) % self.shared_connections
    }

    /// Takes the application's topology source; it is there only once.
    pub(crate) fn take_custom_source(&self) -> Option<Box<dyn TopologySource>> {
        lock(&self.options).topology_source.take()
    }

    /// Returns true if the application has brought a provider of credentials that no task has taken.
    pub(crate) fn has_credentials_provider(&self) -> bool {
        lock(&self.options).credentials.is_some()
    }

    /// Like [`Core::has_credentials_provider`], for the Sentinels.
    #[cfg(feature = "sentinel")]
    pub(crate) fn has_sentinel_credentials_provider(&self) -> bool {
        lock(&self.options).sentinel_credentials.is_some()
    }

    /// Takes the application's provider of credentials for the Redis servers; it is there only once.
    pub(crate) fn take_credentials(&self) -> Option<Box<dyn CredentialsProvider>> {
        lock(&self.options).credentials.take()
    }

    /// Takes the application's provider of credentials for the Sentinels; it is there only once.
    #[cfg(feature = "sentinel")]
    pub(crate) fn take_sentinel_credentials(&self) -> Option<Box<dyn CredentialsProvider>> {
        lock(&self.options).sentinel_credentials.take()
    }

    /// Starts a task of the client. If the task is dropped before it ends, the runtime has ended, and the client is
    /// closed.
    pub(crate) fn spawn(self: &Arc<Self>, task: Task) -> Result<(), Error> {
        let guard = TaskGuard::new(self);
        let guarded = Arc::clone(&guard);
        let spawned = self.runtime.spawn(Box::pin(async move {
            task.await;
            guarded.disarm();
        }));
        spawned.map_err(|error| {
            guard.disarm();
            Error::caused(Kind::Config, "cannot start a task on the runtime", error)
        })
    }

    /// Checks what the configuration needs: features of this crate, and files.
    pub(crate) async fn check_configuration(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let config = self.config();
        if config.use_sentinel() && self.source == SourceKind::Custom {
            let message = "use_sentinel = true is set, and the client has a topology source of its own; \
                           remove one of them";
            return Err(Error::new(Kind::Config, message));
        }
        self.check_credentials(&config)?;
        if self.provided_credentials.sentinels && !config.use_sentinel() {
            let message = "the client has a provider of credentials for Sentinels, and use_sentinel is off; turn it on, \
                           or leave the provider out";
            return Err(Error::new(Kind::Config, message));
        }
        if config.use_sentinel() && !cfg!(feature = "sentinel") {
            let message = "use_sentinel = true needs the cargo feature `sentinel` of \
                           the runtime crate (such as ha-redis-tokio)";
            return Err(Error::new(Kind::Config, message));
        }
        let by = self.runtime.now() + config.socket_connect_timeout();
        let by = deadline.map_or(by, |deadline| deadline.min(by));
        self.tls.prepare(&*self.runtime, by).await
    }

    /// The application may bring credentials, or the configuration may contain them.
    pub(super) fn check_credentials(&self, config: &RedisConfig) -> Result<(), Error> {
        let brought = self.provided_credentials;
        let both = [
            (brought.data, config.password(), "password"),
            (brought.sentinels, config.sentinel_password(), "sentinel_password"),
        ];
        for (is_brought, password, setting) in both {
            if is_brought && password.is_some() {
                let message = format!(
                    "{setting} is set, and the client has a credentials provider; remove one of them"
                );
                return Err(Error::new(Kind::Config, message));
            }
        }
        Ok(())
    }

    /// Creates a connection to a server: its link and its driver.
    pub(crate) fn link(
        &self,
        server: &CurrentMaster,
        parts: ConnectionParts,
        on_silence: OnSilence,
    ) -> (Arc<Link>, Watched) {
        let config = self.config();
        let bounds = Bounds {
            commands: config.max_in_flight() as usize,
            bytes: usize::try_from(config.max_in_flight_bytes()).unwrap_or(usize::MAX),
        };
        let timeouts = Arc::clone(&self.timeouts);
        let opened = self.runtime.now();
        let mut link = Link::new(server.generation, server.address.clone(), opened, bounds);
        (link.connection_id, link.fences) = (parts.connection_id, parts.fences);
        (link.login_version, link.tls_session) = (parts.login_version.into(), parts.tls_session);
        let link = Arc::new(link);
        self.links.add(&link);
        if has_old_login(&link, &self.data.login) {
            // The credentials have changed since its handshake.
            self.logins.send(LoginNews::LookAgain);
        }
        if self.data.is_outdated(link.tls_session) {
            // TLS settings have changed since its handshake.
            link.replace();
        }
        let runtime = Arc::clone(&self.runtime);
        let budget = Arc::clone(&self.budget);
        let mut driver = Driver::new(Arc::clone(&link), parts, runtime, timeouts, on_silence, budget);
        driver.secrets = self.data.secrets().clone();
        (link, Watched::new(driver))
    }

    /// Waits until the source confirms a master whose connection was lost. The wait is bounded by the time in which a
    /// Sentinel answers, because the master may be alive while the Sentinels are not.
    pub(crate) async fn confirmed(&self, shard: &Shard) {
        let bound = self.runtime.now() + self.config().sentinel_socket_timeout();
        let _ = until(&*self.runtime, bound, shard.wait_until_confirmed()).await;
    }

    /// Refuses new calls; connections end when the calls in flight have been answered.
    pub(crate) fn close(&self, why: &Error) {
        self.lifecycle.close(why.clone());
        self.routing.load().shards().iter().for_each(|shard| shard.close(why));
    }

    /// Refuses new calls and ends every connection at once.
    pub(crate) fn shut(&self, why: &Error) {
        self.lifecycle.close(why.clone());
        self.routing.load().shards().iter().for_each(|shard| shard.shut(why));
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("config", &self.config)
            .field("source", &self.source)
            .field("routing", &self.routing)
            .finish_non_exhaustive()
    }
}

/// Returns the credentials of the configuration. A user name without a password is not allowed in it.
pub(crate) fn credentials_of(config: &RedisConfig) -> Option<Credentials> {
    config.password().map(|password| Credentials::new(config.username().unwrap_or_default(), password))
}

/// Like [`credentials_of`], for the Sentinels.
#[cfg(feature = "sentinel")]
pub(crate) fn sentinel_credentials_of(config: &RedisConfig) -> Option<Credentials> {
    let username = config.sentinel_username().unwrap_or_default();
    config.sentinel_password().map(|password| Credentials::new(username, password))
}

/// Closes the client when one of its tasks is dropped before it ends, possibly before its first poll. Callers then
/// fail at once instead of waiting for a task that no longer runs.
struct TaskGuard {
    core: Arc<Core>,
    armed: AtomicBool,
}

impl TaskGuard {
    fn new(core: &Arc<Core>) -> Arc<Self> {
        Arc::new(Self { core: Arc::clone(core), armed: AtomicBool::new(true) })
    }

    fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        if *self.armed.get_mut() && self.core.lifecycle.check_open().is_ok() {
            self.core.shut(&runtime_ended());
            self.core.events.close();
        }
    }
}

fn runtime_ended() -> Error {
    let message = match std::thread::panicking() {
        true => "a task of the client has panicked",
        false => {
            "the runtime on which the client was started has ended; give the client a runtime that lives as long as it \
                  does (RedisClient::on)"
        }
    };
    Error::new(Kind::Closed, message)
}

pub(crate) fn closed() -> Error {
    Error::new(Kind::Closed, "the client is closed")
}

/// The error when a task of the client misses its deadline.
pub(crate) fn not_driven() -> Error {
    let message = "the runtime of the client does not run its tasks; do not block it, and drive it for as long as the \
                   client is used";
    Error::new(Kind::Timeout, message)
}

/// Keeps a client running: dropping the last one ends its tasks and connections.
#[derive(Debug)]
pub(crate) struct ClientGuard(Arc<Core>);

impl ClientGuard {
    pub(crate) fn new(core: Core) -> Self {
        Self(Arc::new(core))
    }
}

impl Deref for ClientGuard {
    type Target = Arc<Core>;

    fn deref(&self) -> &Arc<Core> {
        &self.0
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        self.0.shut(&closed());
        self.0.events.close();
    }
}
