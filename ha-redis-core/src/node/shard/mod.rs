//! One shard: its master and replicas, the connections to them, and which of them callers may use.
//!
//! A shard does no I/O. Tasks add connections, the topology source determines the master that they must belong to,
//! and callers take them or wait. A switch of one shard does not affect the others.

mod dedicated;
mod gate;
mod lookups;
mod outage;
mod replicas;

use std::sync::Arc;
use std::time::Instant;

use event_listener::Event;
use futures_lite::future;

use crate::address::Address;
use crate::config::RedisConfig;
use crate::conn::link::Link;
use crate::error::{Error, Kind, Outcome};
use crate::events::EventSender;
use crate::generation::Generation;
use crate::node::lifecycle::Lifecycle;
use crate::runtime::Runtime;
use crate::sync::{Mutex, lock, wait_for, wake};
use crate::time::{Elapsed, until};
use crate::topology::{AddressSource, CurrentMaster, MonitorMailbox, ShardId, SourceKind};

pub(crate) use dedicated::Offer;
pub(crate) use outage::CallEvent;
pub(crate) use replicas::Readable;

use dedicated::Dedicated;
use gate::ShardGate;
use lookups::AddressLookups;
use outage::Outages;
use replicas::{ReadableSnapshot, Replicas};

/// A master, its replicas, and the connections to them. Those to the master are all of one generation.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) id: ShardId,
    lifecycle: Arc<Lifecycle>,
    source: SourceKind,
    events: Arc<EventSender>,
    monitor: Arc<MonitorMailbox>,
    outages: Outages,
    lookups: Mutex<AddressLookups>,
    state: Mutex<State>,
    readable: ReadableSnapshot,
    /// Notifies callers that wait for a usable connection.
    usable: Event,
    /// Notifies tasks of another master, of the result of a connection attempt, and of the end.
    changed: Event,
}

#[derive(Debug)]
struct State {
    /// Why the shard is closed.
    closed: Option<Error>,
    master: Option<Arc<CurrentMaster>>,
    gate: ShardGate,
    connections: MasterConnections,
    replicas: Replicas,
    /// Why there is no connection to the master, and how many attempts have failed.
    failure: Option<Error>,
    failures: u64,
}

/// The connections to the master.
#[derive(Debug)]
struct MasterConnections {
    /// The connections that callers share.
    shared: Vec<Option<Arc<Link>>>,
    /// The connections that serve one caller at a time.
    dedicated: Dedicated,
}

/// What a shard needs from its client.
#[derive(Clone, Debug)]
pub(crate) struct ShardContext {
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) source: SourceKind,
    pub(crate) events: Arc<EventSender>,
    pub(crate) monitor: Arc<MonitorMailbox>,
}

impl Shard {
    /// Creates a shard with the configured number of shared connections, and dedicated ones up to `max_connections`
    /// in all. One dedicated connection is always allowed.
    pub(crate) fn new(id: ShardId, config: &RedisConfig, context: ShardContext, seed: u64) -> Self {
        let (shared, all) = (config.shared_connections(), config.max_connections());
        let connections = MasterConnections {
            shared: vec![None; shared],
            dedicated: Dedicated::new(all.saturating_sub(shared).max(1)),
        };
        let state = State {
            closed: None,
            master: None,
            gate: ShardGate::default(),
            connections,
            replicas: Replicas::new(config),
            failure: None,
            failures: 0,
        };
        let ShardContext { lifecycle, source, events, monitor } = context;
        Self {
            id,
            lifecycle,
            source,
            events,
            monitor,
            outages: Outages::default(),
            lookups: Mutex::default(),
            state: Mutex::new(state),
            readable: ReadableSnapshot::new(seed),
            usable: Event::new(),
            changed: Event::new(),
        }
    }

    // For callers.

    /// Returns a connection that takes commands, or why there will be none, if that is known without waiting.
    pub(crate) fn ready_link(&self, shared_index: usize) -> Option<Result<Arc<Link>, Error>> {
        lock(&self.state).usable(shared_index)
    }

    /// Waits until `bound` for a connection that takes commands; cheap when there is one.
    pub(crate) async fn link(
        &self,
        shared_index: usize,
        runtime: &dyn Runtime,
        bound: Instant,
    ) -> Result<Arc<Link>, Error> {
        if let Some(ready) = self.ready_link(shared_index) {
            return ready;
        }
        let wait = wait_for(&self.state, &self.usable, |state| state.usable(shared_index));
        match until(runtime, bound, wait).await {
            Ok(ready) => ready,
            Err(Elapsed) => Err(self.no_connection_error()),
        }
    }

    /// Returns why a wait for a connection failed.
    pub(crate) fn no_connection_error(&self) -> Error {
        let message = "timed out waiting for a usable connection to the master";
        match &lock(&self.state).failure {
            Some(cause) => cause.clone().with_outcome(Outcome::NotSent).during(message),
            None => Error::new(Kind::Timeout, message),
        }
    }

    /// Fails once the client is closed.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        lock(&self.state).closed.clone().map_or(Ok(()), Err)
    }

    /// Waits for the first connection, or for a failed attempt. With `patient`, only a failure counts that another
    /// attempt cannot fix.
    pub(crate) async fn first_connection(&self, patient: bool) -> Result<(), Error> {
        let failures = lock(&self.state).failures;
        wait_for(&self.state, &self.changed, |state| {
            if let Some(why) = &state.closed {
                return Some(Err(why.clone()));
            }
            if state.connections.shared.iter().any(Option::is_some) {
                return Some(Ok(()));
            }
            let failure = state.failure.as_ref().filter(|_| state.failures > failures)?;
            let counts = !patient || failure.is_permanent() || failure.kind() == Kind::Sentinel;
            counts.then(|| Err(failure.clone()))
        })
        .await
    }

    /// Returns why there will be no connection, if waiting does not help.
    pub(crate) fn permanent_failure(&self) -> Option<Error> {
        lock(&self.state).permanent_failure()
    }

    /// Waits until a permanent failure makes waiting for a connection pointless.
    pub(crate) async fn fails_permanently(&self) {
        wait_for(&self.state, &self.changed, |state| state.permanent_failure().map(drop)).await;
    }

    /// Returns the address of the current master.
    pub(crate) fn master(&self) -> Option<Address> {
        lock(&self.state).master.as_ref().map(|master| master.address.clone())
    }

    /// Returns the current master.
    pub(crate) fn followed(&self) -> Option<Arc<CurrentMaster>> {
        lock(&self.state).master.clone()
    }

    /// Returns how many shared connections take commands, and how many there should be.
    pub(crate) fn open_shared_connections(&self) -> (usize, usize) {
        let state = lock(&self.state);
        let shared = &state.connections.shared;
        (shared.iter().flatten().filter(|link| link.is_open()).count(), shared.len())
    }

    // For the topology source.

    /// Switches to another master: every connection to the previous one ends now.
    pub(crate) fn follow(&self, address: Address, address_source: AddressSource) -> Generation {
        let mut state = lock(&self.state);
        let generation = state.master.as_ref().map(|old| old.generation).unwrap_or_default().next();
        let why = Error::new(Kind::NotMaster, format!("{address} is the master now"));
        let promoted = state.replicas.on_switch(&address);
        self.readable.store(state.replicas.readable());
        state.master = Some(Arc::new(CurrentMaster { generation, address, address_source }));
        state.gate.on_switch();
        state.failure = None;
        let old = state.connections.take();
        drop(state);
        promoted.iter().for_each(|link| link.drain(why.clone()));
        old.iter().for_each(|link| link.shut(why.clone()));
        self.notify_all();
        generation
    }

    /// Records that another source names the current master.
    pub(crate) fn set_address_source(&self, address_source: AddressSource) {
        let mut state = lock(&self.state);
        if let Some(master) = &state.master {
            let (generation, address) = (master.generation, master.address.clone());
            state.master = Some(Arc::new(CurrentMaster { generation, address, address_source }));
        }
    }

    /// Records why there is no connection. Callers that wait continue to wait, unless that cannot help.
    pub(crate) fn fail(&self, error: Error) {
        let mut state = lock(&self.state);
        let is_permanent = error.is_permanent();
        state.failure = Some(error);
        state.failures += 1;
        drop(state);
        self.changed.notify(usize::MAX);
        if is_permanent {
            self.notify_all();
        }
    }

    // For the tasks of shared connections.

    /// Adds a connection. Returns false if it does not belong to the current generation.
    pub(crate) fn install(&self, shared_index: usize, link: &Arc<Link>) -> bool {
        let mut state = lock(&self.state);
        if !state.adopt(link) {
            return false;
        }
        state.connections.shared[shared_index] = Some(Arc::clone(link));
        self.lifecycle.on_opened();
        state.failure = None;
        drop(state);
        self.notify_all();
        true
    }

    /// Removes a connection that was installed and has ended.
    pub(crate) fn remove(&self, shared_index: usize, link: &Arc<Link>, why: Error) {
        let mut state = lock(&self.state);
        let installed = &mut state.connections.shared[shared_index];
        if installed.take_if(|current| Arc::ptr_eq(current, link)).is_some() {
            state.failure = Some(why);
            state.replicas.poll_again();
        }
        drop(state);
        self.lifecycle.on_ended(link);
        self.changed.notify(usize::MAX);
    }

    /// Wakes callers: a connection whose server was silent takes commands again.
    pub(crate) fn on_recovered(&self) {
        lock(&self.state).failure = None;
        self.notify_all();
    }

    /// Waits for a master to connect to. `None` when the client is closed.
    pub(crate) async fn current_master(&self) -> Option<Arc<CurrentMaster>> {
        wait_for(&self.state, &self.changed, |state| match state.closed {
            None => state.master.clone().map(Some),
            Some(_) => Some(None),
        })
        .await
    }

    /// Waits until the master of `generation` is replaced, or the client is closed.
    pub(crate) async fn master_changed(&self, generation: Generation) {
        wait_for(&self.state, &self.changed, |state| {
            (!state.is_current(generation) || state.closed.is_some()).then_some(())
        })
        .await;
    }

    /// Runs `work` to its end. Returns `None` if another master than that of `generation` is followed first, or the
    /// client is closed.
    pub(crate) async fn until_master_changes<T>(
        &self,
        generation: Generation,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let changed = async {
            self.master_changed(generation).await;
            None
        };
        future::or(async { Some(work.await) }, changed).await
    }

    // Closing.

    /// Refuses new calls; connections end when the calls in flight have been answered.
    pub(crate) fn close(&self, why: &Error) {
        let mut state = lock(&self.state);
        state.closed.get_or_insert_with(|| why.clone());
        let links = state.connections.all().chain(state.replicas.links()).cloned().collect::<Vec<_>>();
        drop(state);
        links.iter().for_each(|link| link.drain(why.clone()));
        self.notify_all();
    }

    /// Refuses new calls and ends every connection at once.
    pub(crate) fn shut(&self, why: &Error) {
        self.close(why);
        let mut state = lock(&self.state);
        let mut links = state.connections.take();
        links.extend(state.replicas.links().cloned());
        drop(state);
        links.iter().for_each(|link| link.shut(why.clone()));
    }

    fn notify_all(&self) {
        for event in [&self.usable, &self.changed] {
            event.notify(usize::MAX);
        }
        let waiting = lock(&self.state).connections.dedicated.call_all();
        waiting.into_iter().for_each(wake);
    }
}

impl State {
    fn is_current(&self, generation: Generation) -> bool {
        self.master.as_ref().is_some_and(|master| master.generation == generation)
    }

    /// Prepares a new connection to the master for callers. Returns false if it belongs to a previous master.
    fn adopt(&self, link: &Link) -> bool {
        self.gate.apply(link);
        self.is_current(link.generation) && self.closed.is_none()
    }

    /// Returns a connection that takes commands, or why there will be none, if waiting does not help.
    fn usable(&self, shared_index: usize) -> Option<Result<Arc<Link>, Error>> {
        if let Some(why) = &self.closed {
            return Some(Err(why.clone()));
        }
        match &self.connections.shared[shared_index] {
            Some(link) if link.is_open() => Some(Ok(Arc::clone(link))),
            Some(_) => None,
            None => self.permanent_failure().map(Err),
        }
    }

    /// Returns why there will be no connection, if waiting does not help.
    fn permanent_failure(&self) -> Option<Error> {
        self.failure.clone().filter(Error::is_permanent)
    }
}

impl MasterConnections {
    fn all(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.shared.iter().flatten().chain(&self.dedicated.open)
    }

    /// Takes out all connections, which are to be ended.
    fn take(&mut self) -> Vec<Arc<Link>> {
        let shared = self.shared.iter_mut().filter_map(Option::take);
        shared.chain(self.dedicated.take_open()).collect()
    }
}
