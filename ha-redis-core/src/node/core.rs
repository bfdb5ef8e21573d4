//! What all handles of one client share, and what it does on its own account.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::call::caller::CallOptions;
use crate::call::scans::Scans;
use crate::config::RedisConfig;
use crate::conn::connector::Connector;
use crate::conn::driver::{Driver, OnSilence, Timeouts};
use crate::conn::link::{Bounds, Generation, Link};
use crate::conn::raw_connection::ConnectionParts;
use crate::conn::tls::{self, FileReader};
use crate::conn::watchdog::Watched;
use crate::error::{Error, Kind};
use crate::events::{Event, EventSender};
use crate::node::fence::Fences;
use crate::node::outage::{self, CallEvent, OutageCause, Outages};
#[cfg(feature = "sentinel")]
use crate::node::sentinel_list::SentinelList;
use crate::node::shard::{AddressSource, CurrentMaster, Pool};
use crate::retry::{Backoff, Jitter, RetryBudget};
use crate::runtime::{Runtime, Task};
use crate::sync::{Mutex, lock};
use crate::tasks::replica_probe;
use crate::tasks::shared_connection;
#[cfg(feature = "sentinel")]
use crate::tasks::topology_monitor::{self, MonitorEvent, MonitorMailbox};
use crate::time::until;

/// Without Sentinels, a server that turned read-only may be behind a name that now leads elsewhere, or soon will. Looking
/// that up costs all callers a reconnect, so it is done less and less often while nothing comes of it.
const LOOKUP_BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(250), cap: Duration::from_secs(5), jitter: Jitter::None };

/// When the name of a server that says that it is no master was looked up again.
#[derive(Debug, Default)]
struct AddressLookups {
    last: Option<Instant>,
    in_a_row: u32,
}

impl AddressLookups {
    /// Whether to look it up now. Looks that are far from each other have nothing to do with each other.
    fn is_due(&mut self, now: Instant) -> bool {
        let since = self.last.map(|last| now.saturating_duration_since(last));
        if since.is_none_or(|since| since > 2 * LOOKUP_BACKOFF.cap) {
            self.in_a_row = 0;
        } else if since < Some(LOOKUP_BACKOFF.delay(self.in_a_row, 0)) {
            return false;
        } else {
            self.in_a_row += 1;
        }
        self.last = Some(now);
        true
    }
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: RedisConfig,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) pool: Pool,
    pub(crate) data: Connector,
    pub(crate) urgent: Connector,
    #[cfg(feature = "sentinel")]
    pub(crate) sentinels: Connector,
    #[cfg(feature = "sentinel")]
    pub(crate) mailbox: MonitorMailbox,
    #[cfg(feature = "sentinel")]
    pub(crate) sentinel_list: SentinelList,
    /// The terms of calls, unless a handle has others.
    pub(crate) terms: Arc<CallOptions>,
    pub(crate) budget: Arc<RetryBudget>,
    pub(crate) events: EventSender,
    pub(crate) outages: Outages,
    lookups: Mutex<AddressLookups>,
    pub(crate) fences: Fences,
    pub(crate) scans: Scans,
    started: Mutex<bool>,
    files: FileReader,
    /// Whether there are tasks for reads from replicas.
    reading: Mutex<bool>,
    handles: AtomicUsize,
}

impl Core {
    pub(crate) fn new(config: RedisConfig, runtime: Arc<dyn Runtime>) -> Self {
        Self {
            pool: Pool::new(&config, runtime.random()),
            data: Connector::for_data(Arc::clone(&runtime), &config),
            urgent: Connector::for_urgent(Arc::clone(&runtime), &config),
            #[cfg(feature = "sentinel")]
            sentinels: Connector::for_sentinels(Arc::clone(&runtime), &config),
            #[cfg(feature = "sentinel")]
            mailbox: MonitorMailbox::new(),
            #[cfg(feature = "sentinel")]
            sentinel_list: SentinelList::new(config.sentinel_hosts()),
            terms: Arc::new(CallOptions::of(&config)),
            // Every call in flight may be sent again once before the share of the replies counts.
            budget: Arc::new(RetryBudget::new(config.max_in_flight(), config.retry_budget())),
            events: EventSender::new(),
            outages: Outages::default(),
            lookups: Mutex::default(),
            fences: Fences::default(),
            scans: Scans::default(),
            started: Mutex::new(false),
            files: FileReader::default(),
            reading: Mutex::new(false),
            handles: AtomicUsize::new(0),
            config,
            runtime,
        }
    }

    /// Starts the client's tasks, once. What they need of files is read before, until `deadline` at the latest.
    pub(crate) async fn start(self: &Arc<Self>, deadline: Option<Instant>) -> Result<(), Error> {
        if *lock(&self.started) {
            return Ok(());
        }
        // Boxed, since it is rare, and the futures of calls are to be small.
        Box::pin(self.check_configuration(deadline)).await?;
        self.start_tasks()
    }

    fn start_tasks(self: &Arc<Self>) -> Result<(), Error> {
        let mut started = lock(&self.started);
        if *started {
            return Ok(());
        }
        if self.config.use_sentinel() {
            #[cfg(feature = "sentinel")]
            self.spawn(Box::pin(topology_monitor::run(Arc::clone(self))))?;
        } else {
            self.pool.follow(self.config.address(), AddressSource::Configuration);
        }
        for shared_index in 0..self.config.shared_connections() {
            self.spawn(Box::pin(shared_connection::keep(Arc::clone(self), shared_index)))?;
        }
        *started = true;
        Ok(())
    }

    /// Starts the tasks for reads from replicas, once: clients that never read from one connect to none.
    pub(crate) fn start_reading(self: &Arc<Self>) -> Result<(), Error> {
        let mut reading = lock(&self.reading);
        if !*reading {
            self.spawn(Box::pin(replica_probe::run(Arc::clone(self))))?;
            *reading = true;
        }
        Ok(())
    }

    /// The lane of the next handle.
    pub(crate) fn next_shared_connection(&self) -> usize {
        self.handles.fetch_add(1, Ordering::Relaxed) % self.config.shared_connections()
    }

    /// Starts a task of the client. If it is dropped before its end, the runtime has ended, and the client with it.
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

    /// A configuration may ask for what is not there: features of this crate, and files.
    async fn check_configuration(&self, deadline: Option<Instant>) -> Result<(), Error> {
        if self.config.use_sentinel() && !cfg!(feature = "sentinel") {
            let message = "the configuration says use_sentinel = true, which needs the cargo feature `sentinel` of \
                           the runtime crate (such as ha-redis-tokio)";
            return Err(Error::new(Kind::Config, message));
        }
        let connectors = [
            &self.data,
            &self.urgent,
            #[cfg(feature = "sentinel")]
            &self.sentinels,
        ];
        let by = self.runtime.now() + self.config.socket_connect_timeout();
        let by = deadline.map_or(by, |deadline| deadline.min(by));
        let all = connectors.into_iter().filter_map(Connector::tls).collect();
        tls::prepare(all, &self.files, &*self.runtime, by).await
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts { reply: self.config.socket_timeout(), health_check: self.config.health_check_interval() }
    }

    /// A new connection to a server, and what carries it.
    pub(crate) fn link(
        &self,
        followed: &CurrentMaster,
        parts: ConnectionParts,
        on_silence: OnSilence,
    ) -> (Arc<Link>, Watched) {
        let bounds = Bounds {
            commands: self.config.max_in_flight() as usize,
            bytes: usize::try_from(self.config.max_in_flight_bytes()).unwrap_or(usize::MAX),
        };
        let opened = self.runtime.now();
        let mut link = Link::new(followed.generation, followed.address.clone(), opened, bounds);
        (link.connection_id, link.fences) = (parts.connection_id, parts.fences);
        let link = Arc::new(link);
        let runtime = Arc::clone(&self.runtime);
        let budget = Arc::clone(&self.budget);
        let driver = Driver::new(Arc::clone(&link), parts, runtime, self.timeouts(), on_silence, budget);
        (link, Watched::new(driver))
    }

    /// A server that was taken for the master says that it is none.
    pub(crate) fn on_not_master(&self, generation: Generation) {
        let is_due = self.config.use_sentinel() || lock(&self.lookups).is_due(self.runtime.now());
        if is_due && self.pool.drain_demoted(generation) {
            self.on_wrong_role(generation);
        }
    }

    /// A new connection has found no master where one was to be.
    #[cfg_attr(not(feature = "sentinel"), expect(unused_variables, reason = "only Sentinels ask"))]
    pub(crate) fn on_wrong_role(&self, generation: Generation) {
        #[cfg(feature = "sentinel")]
        self.tell(MonitorEvent::NotMaster { generation });
    }

    /// There is a connection.
    pub(crate) fn on_connected(self: &Arc<Self>, master: &CurrentMaster) {
        #[cfg(feature = "sentinel")]
        self.tell(MonitorEvent::Connected { generation: master.generation });
        self.events.tell(Event::Connected { address: master.address.clone() });
        if self.outages.resolve(&master.address, self.runtime.now()) {
            let core = Arc::clone(self);
            let report = async move { future::or(outage::report(&core), core.pool.closing()).await };
            if let Err(error) = self.spawn(Box::pin(report)) {
                tracing::warn!(%error, "no report of the failover");
            }
        }
    }

    /// A call that is not on the common path tells what it does.
    pub(crate) fn on_call(&self, record: CallEvent) {
        if self.outages.are_counting() {
            self.outages.record(record, self.runtime.now());
        }
    }

    /// A connection has ended.
    pub(crate) fn on_lost(&self, master: &CurrentMaster, why: Error) {
        #[cfg(feature = "sentinel")]
        if self.config.use_sentinel() {
            self.pool.mark_unconfirmed(master.generation);
        }
        #[cfg(feature = "sentinel")]
        self.tell(MonitorEvent::Lost { generation: master.generation });
        if self.pool.check_open().is_ok() {
            self.outages.begin(OutageCause::Lost, &master.address, self.runtime.now());
        }
        self.events.tell(Event::Lost { address: master.address.clone(), why });
    }

    /// Waits for the Sentinels' word on a master whose connection was lost; not for longer than one of them may take
    /// to answer, since the master may well live when they do not.
    pub(crate) async fn confirmed(&self) {
        let bound = self.runtime.now() + self.config.sentinel_socket_timeout();
        let _ = until(&*self.runtime, bound, self.pool.confirmed()).await;
    }

    #[cfg(feature = "sentinel")]
    fn tell(&self, notice: MonitorEvent) {
        if self.config.use_sentinel() {
            self.mailbox.tell(notice);
        }
    }
}

/// Ends the client when one of its tasks is dropped unfinished, maybe before it was polled: whoever calls is to be told at
/// once, and not to wait for what nobody does any more.
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
        if *self.armed.get_mut() && self.core.pool.check_open().is_ok() {
            self.core.pool.shut(runtime_ended());
            self.core.events.end();
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

/// A task of the client has not kept its bound.
pub(crate) fn not_driven() -> Error {
    let message = "the runtime of the client does not run its tasks; do not block it, and drive it for as long as the \
                   client is used";
    Error::new(Kind::Timeout, message)
}

/// Keeps a client going: when the last one is dropped, its tasks and connections end.
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
        self.0.pool.shut(closed());
        self.0.events.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_again_at_once_and_then_less_and_less_often() {
        let (mut lookups, start) = (AddressLookups::default(), Instant::now());
        let due = |lookups: &mut AddressLookups, from: u64, to: u64| {
            let times = (from..to).filter(|ms| lookups.is_due(start + Duration::from_millis(*ms)));
            times.collect::<Vec<_>>()
        };
        assert_eq!(due(&mut lookups, 0, 20_000), [0, 250, 750, 1750, 3750, 7750, 12_750, 17_750]);
        assert_eq!(due(&mut lookups, 40_000, 40_300), [40_000, 40_250]);
    }
}
