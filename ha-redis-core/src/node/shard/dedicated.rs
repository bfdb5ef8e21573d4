//! Connections that serve one caller at a time: how many there may be, which are free, and who waits for one.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::conn::link::Link;
use crate::error::{Error, Kind};
use crate::generation::Generation;
use crate::node::shard::{Shard, State};
use crate::runtime::Runtime;
use crate::sync::{lock, wait_for, wake};
use crate::time::Elapsed;
use crate::topology::CurrentMaster;
use crate::wait_queue::{Ticket, WaitQueue};

/// The connections to the master that callers do not share. Every one has a permit, from before it is opened until it has
/// ended.
#[derive(Debug, Default)]
pub(super) struct Dedicated {
    /// How many permits there are.
    limit: usize,
    /// How many of them are taken, and how many of those are for connections that are not open.
    permits: usize,
    opening: usize,
    /// All that are open.
    pub(super) open: Vec<Arc<Link>>,
    /// Those of them that no caller has, and that callers wait for.
    free: Vec<Arc<Link>>,
    waiting: WaitQueue,
    /// Those that were free and are not fenced behind what a caller has asked for: to be ended.
    unfenced: Vec<Arc<Link>>,
    /// Why the last attempt to open one has failed.
    failure: Option<Error>,
    /// The server refuses new connections until somebody changes a setting: it is not asked again before this time.
    refused: Option<(Instant, Error)>,
}

/// What a caller gets who waits for a connection of its own.
#[derive(Debug)]
pub(crate) enum Offer {
    /// A free connection. It is given back with [`Shard::check_in`].
    Connection(Arc<Link>),
    /// A permit, with which the caller starts a task that opens a connection. It is given back with
    /// [`Shard::release_permit`]; the caller goes on waiting.
    Permit,
}

/// A caller's place among those who wait for a connection of their own.
pub(crate) struct DedicatedTicket<'a>(Ticket<'a, State>);

impl Dedicated {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Ends the use of all that are open; their permits stay taken until their tasks have ended.
    pub(super) fn take_open(&mut self) -> Vec<Arc<Link>> {
        self.free.clear();
        (self.failure, self.refused) = (None, None);
        std::mem::take(&mut self.open)
    }

    pub(super) fn call_all(&mut self) -> Vec<Waker> {
        self.waiting.call_all()
    }

    /// Whether more wait than will get a connection that is free or being opened.
    fn lacks(&self) -> bool {
        self.waiting.len() > self.free.len() + self.opening
    }
}

impl Shard {
    pub(crate) fn dedicated_connections(&self) -> usize {
        lock(&self.state).connections.dedicated.open.len()
    }

    // For callers.

    /// A connection that was fenced behind so many give-ups, if one is free and nobody waits.
    pub(crate) fn check_out(&self, fences: u64) -> Option<Arc<Link>> {
        let mut state = lock(&self.state);
        let free =
            if state.connections.dedicated.waiting.is_empty() { state.check_out(fences) } else { None };
        drop(state);
        if fences > 0 {
            self.end_unfenced();
        }
        free
    }

    /// Not under the lock, since that wakes their tasks.
    fn end_unfenced(&self) {
        let unfenced = std::mem::take(&mut lock(&self.state).connections.dedicated.unfenced);
        let why = || Error::new(Kind::Closed, "another connection to its server was given up");
        unfenced.iter().for_each(|link| link.shut(why()));
    }

    /// Takes a connection back from its caller. One that is not fit for another is not brought back, but shut.
    pub(crate) fn check_in(&self, link: Arc<Link>) {
        let mut state = lock(&self.state);
        if link.check_in() && state.is_current(link.generation) {
            state.connections.dedicated.free.push(link);
        }
        let next = state.call_next();
        drop(state);
        next.into_iter().for_each(wake);
    }

    pub(crate) fn queue_for_dedicated(&self) -> DedicatedTicket<'_> {
        DedicatedTicket(Ticket::new(&self.state, State::find_queue))
    }

    /// Waits in turn until `bound` for a connection, or for a permit to open one.
    pub(crate) async fn dedicated_in_turn(
        &self,
        ticket: &mut DedicatedTicket<'_>,
        runtime: &dyn Runtime,
        bound: Instant,
        fences: u64,
    ) -> Result<Offer, Error> {
        let offer =
            ticket.0.wait(runtime, bound, |state, is_served, _| state.offer(is_served, runtime, fences));
        let offer = offer.await;
        self.end_unfenced();
        match offer {
            Ok(offer) => offer,
            Err(Elapsed) => Err(self.no_dedicated()),
        }
    }

    /// Why a wait for a connection of one's own was in vain.
    fn no_dedicated(&self) -> Error {
        let state = lock(&self.state);
        match &state.connections.dedicated.failure {
            Some(failure) => failure.clone(),
            None if state.serves_dedicated() => Error::new(
                Kind::Overloaded,
                "all connections for one caller were taken (see max_connections)",
            ),
            None => {
                drop(state);
                self.nothing_usable()
            }
        }
    }

    // For the tasks behind the connections. Each has a permit.

    /// The master to open a connection to. `None` when nobody waits for one any more, or the client is closed.
    pub(crate) async fn wanted_dedicated(&self) -> Option<Arc<CurrentMaster>> {
        wait_for(&self.state, &self.changed, |state| {
            let others = state.connections.dedicated.free.len() + state.connections.dedicated.opening - 1;
            if state.closed.is_some() || state.connections.dedicated.waiting.len() <= others {
                return Some(None);
            }
            state.master.clone().filter(|_| !state.gate.held).map(Some)
        })
        .await
    }

    /// Has a connection that was opened serve callers. False when it does not belong to the master that is followed.
    pub(crate) fn register_dedicated(&self, link: &Arc<Link>) -> bool {
        let mut state = lock(&self.state);
        if !state.adopt(link) {
            return false;
        }
        self.lifecycle.on_opened();
        let dedicated = &mut state.connections.dedicated;
        (dedicated.failure, dedicated.refused) = (None, None);
        dedicated.opening -= 1;
        dedicated.open.push(Arc::clone(link));
        dedicated.free.push(Arc::clone(link));
        let next = state.call_next();
        drop(state);
        next.into_iter().for_each(wake);
        true
    }

    /// A connection has ended; its permit may be used for another.
    pub(crate) fn unregister_dedicated(&self, link: &Arc<Link>) {
        let mut state = lock(&self.state);
        let dedicated = &mut state.connections.dedicated;
        dedicated.opening += 1;
        dedicated.open.retain(|open| !Arc::ptr_eq(open, link));
        dedicated.free.retain(|free| !Arc::ptr_eq(free, link));
        drop(state);
        self.lifecycle.on_ended(link);
        self.changed.notify(usize::MAX);
    }

    /// Ends all connections of this generation, also those whose callers wait in a blocking command: their server was
    /// found dead.
    pub(crate) fn end_dedicated(&self, generation: Generation, why: &Error) {
        let of_generation = |link: &&Arc<Link>| link.generation == generation;
        let links: Vec<_> =
            lock(&self.state).connections.dedicated.open.iter().filter(of_generation).cloned().collect();
        links.iter().for_each(|link| link.shut(why.clone()));
    }

    /// An attempt to open a connection has failed. With `refused_until`, all who wait are told at once, and nobody tries
    /// again before this time.
    pub(crate) fn fail_dedicated(&self, error: Error, refused_until: Option<Instant>) {
        let mut state = lock(&self.state);
        let dedicated = &mut state.connections.dedicated;
        dedicated.refused = refused_until.map(|until| (until, error.clone()));
        dedicated.failure = Some(error);
        let told = if refused_until.is_some() { dedicated.call_all() } else { Vec::new() };
        drop(state);
        told.into_iter().for_each(wake);
    }

    /// A permit is not used any more, and no connection with it is open.
    pub(crate) fn release_permit(&self) {
        let mut state = lock(&self.state);
        state.connections.dedicated.permits -= 1;
        state.connections.dedicated.opening -= 1;
        // Whoever is polled next asks for the permit, if one is wanted.
        let next = if state.connections.dedicated.lacks() {
            state.connections.dedicated.waiting.call(usize::MAX)
        } else {
            None
        };
        drop(state);
        next.into_iter().for_each(wake);
    }
}

impl State {
    /// Whether callers may have connections of their own now, as far as the master is concerned.
    fn serves_dedicated(&self) -> bool {
        self.master.is_some() && !self.gate.held
    }

    fn find_queue(&mut self) -> (&mut WaitQueue, usize) {
        let available = if self.serves_dedicated() { self.connections.dedicated.free.len() } else { 0 };
        (&mut self.connections.dedicated.waiting, available)
    }

    fn call_next(&mut self) -> Option<Waker> {
        let (waiting, available) = self.find_queue();
        waiting.call(available)
    }

    /// A free connection that was fenced behind so many give-ups. Older ones end: behind what their servers may still be
    /// sent on a connection that was given up, nothing is repeated.
    fn check_out(&mut self, fences: u64) -> Option<Arc<Link>> {
        if !self.serves_dedicated() {
            return None;
        }
        while let Some(link) = self.connections.dedicated.free.pop() {
            if link.fences < fences {
                self.connections.dedicated.unfenced.push(link);
            } else if link.check_out() {
                return Some(link);
            }
        }
        None
    }

    /// What a caller who waits is told: `None` to go on waiting.
    fn offer(&mut self, is_served: bool, runtime: &dyn Runtime, fences: u64) -> Option<Result<Offer, Error>> {
        if let Some(why) = &self.closed {
            return Some(Err(why.clone()));
        }
        if self.gate.held {
            return None;
        }
        if is_served && let Some(link) = self.check_out(fences) {
            return Some(Ok(Offer::Connection(link)));
        }
        // A shared connection that cannot be made has found out what a new one would.
        if let Some(permanent_failure) = self.permanent_failure() {
            return Some(Err(permanent_failure));
        }
        if !self.serves_dedicated() {
            return None;
        }
        let dedicated = &mut self.connections.dedicated;
        match &dedicated.refused {
            Some((until, why)) if runtime.now() < *until => return Some(Err(why.clone())),
            _ => dedicated.refused = None,
        }
        (dedicated.lacks() && dedicated.permits < dedicated.limit).then(|| {
            dedicated.permits += 1;
            dedicated.opening += 1;
            Ok(Offer::Permit)
        })
    }
}
