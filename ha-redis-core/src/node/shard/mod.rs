//! Which connections callers may use now.
//!
//! The pool does no I/O. Lane tasks put connections in, whoever knows the topology says which master they
//! must belong to, and callers take them out or wait.

mod current_master;
mod dedicated;
mod replicas;
mod subscribers;

use std::sync::Arc;
use std::time::Instant;

use event_listener::Event;

use crate::address::Address;
use crate::closing::CloseReport;
use crate::config::RedisConfig;
use crate::conn::link::{Call, Generation, Link};
use crate::error::{Error, Kind, Outcome};
use crate::runtime::Runtime;
use crate::sync::{Mutex, lock, wake};
use crate::time::{Elapsed, until};

pub(crate) use current_master::{AddressSource, CurrentMaster};
use dedicated::Dedicated;
pub(crate) use dedicated::Offer;
use replicas::Replicas;

/// The connections of a client: to its master, all of one generation, and to the replicas that it reads from.
#[derive(Debug)]
pub(crate) struct Pool {
    state: Mutex<State>,
    /// Callers wait here for a connection that takes commands.
    usable: Event,
    /// Tasks wait here for another master, for news of a connection attempt, or for the end.
    changed: Event,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    followed: Option<Arc<CurrentMaster>>,
    /// The connections that callers share.
    shared_connections: Vec<Option<Arc<Link>>>,
    dedicated: Dedicated,
    replicas: Replicas,
    /// How many connections there are that have not ended, taken out of the lanes or not.
    alive: usize,
    /// While a failover is under way nothing is sent to the old master.
    held: bool,
    /// Why nothing but reads is taken.
    read_only: Option<Error>,
    /// The connection was lost, and whoever knows the topology is to say whether the master is still the same.
    unconfirmed: bool,
    /// Why there is no connection, and how many attempts have failed.
    failure: Option<Error>,
    failures: u64,
    /// What closing has cut off.
    cut: CloseReport,
}

#[derive(Clone, Debug)]
enum Phase {
    Open,
    /// No new calls, for this reason; those in flight may finish.
    Closed(Error),
}

impl Pool {
    /// A pool of as many lanes as `config` says, and of connections for one caller each up to `max_connections` in all.
    /// There is room for one of those, however few connections there may be.
    pub(crate) fn new(config: &RedisConfig, seed: u64) -> Self {
        let (shared_connections, connections) = (config.shared_connections(), config.max_connections());
        let state = State {
            phase: Phase::Open,
            followed: None,
            shared_connections: vec![None; shared_connections],
            dedicated: Dedicated::new(connections.saturating_sub(shared_connections).max(1)),
            replicas: Replicas::new(config, seed),
            alive: 0,
            held: false,
            read_only: None,
            unconfirmed: false,
            failure: None,
            failures: 0,
            cut: CloseReport::default(),
        };
        Self { state: Mutex::new(state), usable: Event::new(), changed: Event::new() }
    }

    // For callers.

    /// A connection that takes commands, or why there will be none, if that is known without waiting.
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
            Err(Elapsed) => Err(self.nothing_usable()),
        }
    }

    /// Waits until commands are not held back, or the client is closed.
    pub(crate) async fn released(&self) {
        wait_for(&self.state, &self.usable, |state| (!state.held || state.is_closed()).then_some(())).await;
    }

    /// Fails for a write while only reads are taken.
    pub(crate) fn check_writes(&self, call: Call<'_>) -> Result<(), Error> {
        let read_only = lock(&self.state).read_only.clone();
        match read_only {
            Some(why) if !call.is_read() => Err(why),
            _ => Ok(()),
        }
    }

    /// Why a wait for a connection was in vain.
    pub(crate) fn nothing_usable(&self) -> Error {
        let message = "no connection to the master could be used in time";
        match &lock(&self.state).failure {
            Some(cause) => cause.clone().with_outcome(Outcome::NotSent).during(message),
            None => Error::new(Kind::Timeout, message),
        }
    }

    /// Waits for the first connection, or for an attempt to fail. With `patient`, only a failure counts that
    /// another attempt would not mend.
    pub(crate) async fn first_connection(&self, patient: bool) -> Result<(), Error> {
        let failures = lock(&self.state).failures;
        wait_for(&self.state, &self.changed, |state| {
            if let Phase::Closed(why) = &state.phase {
                return Some(Err(why.clone()));
            }
            if state.shared_connections.iter().any(Option::is_some) {
                return Some(Ok(()));
            }
            let failure = state.failure.as_ref().filter(|_| state.failures > failures)?;
            let counts = !patient || is_permanent(failure) || failure.kind() == Kind::Sentinel;
            counts.then(|| Err(failure.clone()))
        })
        .await
    }

    /// Why there is no connection, if waiting for one is in vain.
    pub(crate) fn permanent_failure(&self) -> Option<Error> {
        lock(&self.state).permanent_failure()
    }

    /// Waits until waiting for a connection is in vain.
    pub(crate) async fn fails_permanently(&self) {
        wait_for(&self.state, &self.changed, |state| state.permanent_failure().map(drop)).await;
    }

    /// The address of the master that is followed.
    pub(crate) fn master(&self) -> Option<Address> {
        lock(&self.state).followed.as_ref().map(|followed| followed.address.clone())
    }

    /// How many lanes have a connection that takes commands, and how many lanes there are.
    pub(crate) fn open_shared_connections(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (
            state.shared_connections.iter().flatten().filter(|link| link.is_open()).count(),
            state.shared_connections.len(),
        )
    }

    /// Fails once the client is closed.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        match &lock(&self.state).phase {
            Phase::Open => Ok(()),
            Phase::Closed(why) => Err(why.clone()),
        }
    }

    // For whoever knows the topology.

    /// Follows another master: every connection to the one before ends now.
    pub(crate) fn follow(&self, address: Address, address_source: AddressSource) -> Generation {
        let mut state = lock(&self.state);
        let generation = state.followed.as_ref().map(|old| old.generation).unwrap_or_default().next();
        let why = Error::new(Kind::NotMaster, format!("{address} is the master now"));
        let promoted = state.replicas.fence(&address);
        state.followed = Some(Arc::new(CurrentMaster { generation, address, address_source }));
        (state.held, state.unconfirmed) = (false, false);
        state.failure = None;
        let old = state.take_links();
        drop(state);
        promoted.iter().for_each(|link| link.drain(why.clone()));
        old.iter().for_each(|link| link.shut(why.clone()));
        self.announce_all();
        generation
    }

    /// Who names the master that is followed has changed.
    #[cfg(feature = "sentinel")]
    pub(crate) fn rename(&self, address_source: AddressSource) {
        let mut state = lock(&self.state);
        if let Some(followed) = &state.followed {
            let (generation, address) = (followed.generation, followed.address.clone());
            state.followed = Some(Arc::new(CurrentMaster { generation, address, address_source }));
        }
    }

    /// Sends nothing more for now. What is in flight may finish.
    #[cfg(feature = "sentinel")]
    pub(crate) fn hold(&self) {
        let mut state = lock(&self.state);
        state.held = true;
        state.links().for_each(|link| link.hold());
    }

    #[cfg(feature = "sentinel")]
    pub(crate) fn release(&self) {
        let mut state = lock(&self.state);
        state.held = false;
        state.links().for_each(|link| link.release(state.read_only.clone()));
        drop(state);
        self.announce_all();
    }

    /// Takes only reads for this reason, or, without one, writes as well.
    #[cfg(feature = "sentinel")]
    pub(crate) fn restrict(&self, why: Option<Error>) {
        let mut state = lock(&self.state);
        state.read_only = why;
        state.links().for_each(|link| link.restrict(state.read_only.clone()));
        drop(state);
        self.announce_all();
    }

    /// The connection was lost: no other is made before the master is confirmed, or another one followed.
    #[cfg(feature = "sentinel")]
    pub(crate) fn mark_unconfirmed(&self, generation: Generation) {
        let mut state = lock(&self.state);
        state.unconfirmed |= state.followed.as_ref().is_some_and(|now| now.generation == generation);
    }

    #[cfg(feature = "sentinel")]
    pub(crate) fn confirm(&self) {
        lock(&self.state).unconfirmed = false;
        self.changed.notify(usize::MAX);
    }

    /// A server of this generation says that it is no master: its connections take nothing new, and are
    /// made anew. True when there were some, so that of many callers who find the same out, one tells of it.
    pub(crate) fn drain_demoted(&self, generation: Generation) -> bool {
        let state = lock(&self.state);
        let links = state.links();
        let demoted =
            links.filter(|link| link.generation == generation && link.is_open()).cloned().collect::<Vec<_>>();
        drop(state);
        demoted.iter().for_each(|link| {
            link.drain(Error::new(Kind::NotMaster, format!("{} is no master any more", link.address)));
        });
        !demoted.is_empty()
    }

    /// Says why there is no connection. Whoever waits for one goes on waiting, unless waiting cannot help.
    pub(crate) fn fail(&self, error: Error) {
        let mut state = lock(&self.state);
        let permanent_failure = is_permanent(&error);
        state.failure = Some(error);
        state.failures += 1;
        drop(state);
        self.changed.notify(usize::MAX);
        if permanent_failure {
            self.announce_all();
        }
    }

    // For lane tasks.

    /// Puts a connection in. False when its generation is not the one followed now.
    pub(crate) fn install(&self, shared_index: usize, link: &Arc<Link>) -> bool {
        let mut state = lock(&self.state);
        if !state.adopt(link) {
            return false;
        }
        state.shared_connections[shared_index] = Some(Arc::clone(link));
        state.alive += 1;
        state.failure = None;
        drop(state);
        self.announce_all();
        true
    }

    /// A connection that was installed has ended.
    pub(crate) fn remove(&self, shared_index: usize, link: &Arc<Link>, why: Error) {
        let mut state = lock(&self.state);
        state.ended(link);
        if state.shared_connections[shared_index].as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            state.shared_connections[shared_index] = None;
            state.failure = Some(why);
            state.replicas.ask_anew();
        }
        drop(state);
        self.changed.notify(usize::MAX);
    }

    /// A connection whose server was silent takes commands again.
    pub(crate) fn on_heard(&self) {
        lock(&self.state).failure = None;
        self.announce_all();
    }

    /// The master to connect to; waits for one. `None` when the client is closed.
    pub(crate) async fn current_master(&self) -> Option<Arc<CurrentMaster>> {
        wait_for(&self.state, &self.changed, |state| match state.phase {
            Phase::Open => state.followed.clone().map(Some),
            Phase::Closed(_) => Some(None),
        })
        .await
    }

    /// Waits until another master than that of `generation` is followed, or the client is closed.
    pub(crate) async fn master_changed(&self, generation: Generation) {
        wait_for(&self.state, &self.changed, |state| {
            let current = state.followed.as_ref().is_some_and(|now| now.generation == generation);
            (!current || state.is_closed()).then_some(())
        })
        .await;
    }

    /// Waits until there is no doubt that the master is still the same.
    pub(crate) async fn confirmed(&self) {
        wait_for(&self.state, &self.changed, |state| (!state.unconfirmed).then_some(())).await;
    }

    // Closing.

    /// Waits until the client begins to close.
    pub(crate) async fn closing(&self) {
        wait_for(&self.state, &self.changed, |state| state.is_closed().then_some(())).await;
    }

    /// Takes no new calls; connections end when what is in flight has been answered.
    pub(crate) fn close(&self, why: Error) {
        let mut state = lock(&self.state);
        if !state.is_closed() {
            state.phase = Phase::Closed(why.clone());
        }
        let links = state.links().chain(state.replicas.links()).cloned().collect::<Vec<_>>();
        drop(state);
        links.iter().for_each(|link| link.drain(why.clone()));
        self.announce_all();
    }

    /// Takes no new calls and ends every connection now.
    pub(crate) fn shut(&self, why: Error) {
        self.close(why.clone());
        let mut state = lock(&self.state);
        let mut links = state.take_links();
        links.extend(state.replicas.links().cloned());
        drop(state);
        links.iter().for_each(|link| link.shut(why.clone()));
    }

    /// Waits until every connection has ended.
    pub(crate) async fn ended(&self) {
        wait_for(&self.state, &self.changed, |state| (state.alive == 0).then_some(())).await;
    }

    /// What closing has cut off.
    pub(crate) fn cut(&self) -> CloseReport {
        lock(&self.state).cut
    }

    fn announce_all(&self) {
        for event in [&self.usable, &self.changed] {
            event.notify(usize::MAX);
        }
        let waiting = lock(&self.state).dedicated.call_all();
        waiting.into_iter().for_each(wake);
    }
}

impl State {
    fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    fn ended(&mut self, link: &Link) {
        self.alive -= 1;
        if self.is_closed() {
            self.cut.add(link.cut());
        }
    }

    /// Those to the master.
    fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.shared_connections.iter().flatten().chain(&self.dedicated.open)
    }

    /// All connections to the master, to be ended.
    fn take_links(&mut self) -> Vec<Arc<Link>> {
        let shared_connections = self.shared_connections.iter_mut().filter_map(Option::take);
        shared_connections.chain(self.dedicated.take_open()).collect()
    }

    /// Whether a new connection belongs to the master that is followed now.
    fn adopt(&self, link: &Link) -> bool {
        let current = self.followed.as_ref().is_some_and(|now| now.generation == link.generation);
        link.restrict(self.read_only.clone());
        if self.held {
            link.hold();
        }
        current && !self.is_closed()
    }

    /// A connection that takes commands, or the reason why waiting for one is in vain.
    fn usable(&self, shared_index: usize) -> Option<Result<Arc<Link>, Error>> {
        if let Phase::Closed(why) = &self.phase {
            return Some(Err(why.clone()));
        }
        match &self.shared_connections[shared_index] {
            Some(link) if link.is_open() => Some(Ok(Arc::clone(link))),
            Some(_) => None,
            None => self.permanent_failure().map(Err),
        }
    }

    /// Why there is no connection, if waiting for one is in vain.
    fn permanent_failure(&self) -> Option<Error> {
        self.failure.clone().filter(is_permanent)
    }
}

/// Whether the next attempt will fail in the same way until somebody changes a setting, or ends a script.
pub(crate) fn is_permanent(error: &Error) -> bool {
    let kinds = [Kind::Authentication, Kind::Permission, Kind::Tls, Kind::Busy, Kind::Config];
    kinds.contains(&error.kind())
}

/// Waits until `check` finds something, looking anew whenever `event` tells of a change.
async fn wait_for<S, T>(state: &Mutex<S>, event: &Event, mut check: impl FnMut(&mut S) -> Option<T>) -> T {
    loop {
        let listener = {
            let mut state = lock(state);
            if let Some(found) = check(&mut state) {
                return found;
            }
            event.listen()
        };
        listener.await;
    }
}
