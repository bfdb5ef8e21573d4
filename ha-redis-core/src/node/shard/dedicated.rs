//! Connections that serve one caller at a time: their limit, the free ones, and the callers that wait.

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

/// The connections to the master that callers do not share. Each needs a permit from before it is opened until it has
/// ended.
#[derive(Debug, Default)]
pub(super) struct Dedicated {
    /// The total number of permits.
    limit: usize,
    /// How many permits are taken, and how many of those have no open connection.
    permits: usize,
    opening: usize,
    /// All open connections.
    pub(super) open: Vec<Arc<Link>>,
    /// The open connections that no caller has, which waiting callers may take.
    free: Vec<Arc<Link>>,
    waiting: WaitQueue,
    /// Free connections that were not fenced late enough for a caller's request; they are to be ended.
    unfenced: Vec<Arc<Link>>,
    /// The error of the last attempt to open one.
    failure: Option<Error>,
    /// Set while the server refuses new connections for a permanent reason: no attempt before this time.
    refused: Option<(Instant, Error)>,
}

/// What a caller that waits for a dedicated connection gets.
#[derive(Debug)]
pub(crate) enum Offer {
    /// A free connection. Return it with [`Shard::check_in`].
    Connection(Arc<Link>),
    /// A permit, with which the caller starts a task that opens a connection. Return it with
    /// [`Shard::release_permit`]; the caller continues to wait.
    Permit,
}

/// A caller's ticket in the queue for a dedicated connection.
pub(crate) struct DedicatedTicket<'a>(Ticket<'a, State>);

impl Dedicated {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Takes all open connections out; their permits stay taken until their tasks have ended.
    pub(super) fn take_open(&mut self) -> Vec<Arc<Link>> {
        self.free.clear();
        (self.failure, self.refused) = (None, None);
        std::mem::take(&mut self.open)
    }

    pub(super) fn call_all(&mut self) -> Vec<Waker> {
        self.waiting.notify_all()
    }

    /// Returns true if more callers wait than there are connections free or being opened.
    fn lacks(&self) -> bool {
        self.waiting.len() > self.free.len() + self.opening
    }
}

impl Shard {
    pub(crate) fn dedicated_connections(&self) -> usize {
        lock(&self.state).connections.dedicated.open.len()
    }

    // For callers.

    /// Returns a free connection that was fenced after this many abandonments, if nobody waits.
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

    /// Must not run under the lock, because it wakes the connections' tasks.
    fn end_unfenced(&self) {
        let unfenced = std::mem::take(&mut lock(&self.state).connections.dedicated.unfenced);
        let why = || Error::new(Kind::Closed, "another connection to its server was abandoned");
        unfenced.iter().for_each(|link| link.shut(why()));
    }

    /// Takes a connection back from its caller. A connection that is unfit for another caller is shut instead.
    pub(crate) fn check_in(&self, link: Arc<Link>) {
        let mut state = lock(&self.state);
        if link.check_in() && state.is_current(link.generation) {
            state.connections.dedicated.free.push(Arc::clone(&link));
        }
        let next = state.call_next();
        drop(state);
        next.into_iter().for_each(wake);
        // Not under the lock, because it wakes the connection's task.
        if link.is_outdated() {
            link.replace();
        }
    }

    pub(crate) fn queue_for_dedicated(&self) -> DedicatedTicket<'_> {
        DedicatedTicket(Ticket::new(&self.state, State::find_queue))
    }

    /// Waits in the queue until `bound` for a connection, or for a permit to open one.
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

    /// Returns why a wait for a dedicated connection failed.
    fn no_dedicated(&self) -> Error {
        let state = lock(&self.state);
        match &state.connections.dedicated.failure {
            Some(failure) => failure.clone(),
            None if state.serves_dedicated() => {
                Error::new(Kind::Overloaded, "all dedicated connections are in use; raise max_connections")
            }
            None => {
                drop(state);
                self.no_connection_error()
            }
        }
    }

    // For the tasks of the connections, each of which has a permit.

    /// Returns the master to connect to. `None` when nobody waits any more, or the client is closed.
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

    /// Registers a connection for callers. Returns false if it does not belong to the current master.
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

    /// Removes a connection that has ended; its permit becomes free.
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

    /// Ends all connections of this generation, also those with a blocking command: their server is dead.
    pub(crate) fn end_dedicated(&self, generation: Generation, why: &Error) {
        let of_generation = |link: &&Arc<Link>| link.generation == generation;
        let links: Vec<_> =
            lock(&self.state).connections.dedicated.open.iter().filter(of_generation).cloned().collect();
        links.iter().for_each(|link| link.shut(why.clone()));
    }

    /// Records a failed attempt to open a connection. With `refused_until`, all waiting callers fail at once, and
    /// there is no attempt before this time.
    pub(crate) fn fail_dedicated(&self, error: Error, refused_until: Option<Instant>) {
        let mut state = lock(&self.state);
        let dedicated = &mut state.connections.dedicated;
        dedicated.refused = refused_until.map(|until| (until, error.clone()));
        dedicated.failure = Some(error);
        let woken = if refused_until.is_some() { dedicated.call_all() } else { Vec::new() };
        drop(state);
        woken.into_iter().for_each(wake);
    }

    /// Forgets that the server refuses new connections: the next caller tries again.
    pub(crate) fn allow_dedicated(&self) {
        lock(&self.state).connections.dedicated.refused = None;
    }

    /// Returns a permit that has no open connection.
    pub(crate) fn release_permit(&self) {
        let mut state = lock(&self.state);
        state.connections.dedicated.permits -= 1;
        state.connections.dedicated.opening -= 1;
        // Another waiting caller takes the permit at its next poll, if one is needed.
        let next = if state.connections.dedicated.lacks() {
            state.connections.dedicated.waiting.notify_one(usize::MAX)
        } else {
            None
        };
        drop(state);
        next.into_iter().for_each(wake);
    }
}

impl State {
    /// Returns true if the gate lets callers have dedicated connections now.
    fn serves_dedicated(&self) -> bool {
        self.master.is_some() && !self.gate.held
    }

    fn find_queue(&mut self) -> (&mut WaitQueue, usize) {
        let available = if self.serves_dedicated() { self.connections.dedicated.free.len() } else { 0 };
        (&mut self.connections.dedicated.waiting, available)
    }

    fn call_next(&mut self) -> Option<Waker> {
        let (waiting, available) = self.find_queue();
        waiting.notify_one(available)
    }

    /// Takes a free connection that was fenced after this many abandonments. Older ones end: commands on an abandoned
    /// connection may still reach their server, so a retry must not use them.
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

    /// Returns what a waiting caller gets; `None` to continue waiting.
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
        // A shared connection that failed permanently has shown what a new one would return.
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
