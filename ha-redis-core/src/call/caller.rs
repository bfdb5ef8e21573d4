//! The state of a handle between calls: its shard, its connection, its options.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::call::future::CallFuture;
use crate::call::handle_options::HandleOptions;
use crate::call::replica_route::ReplicaRoute;
use crate::call::scans::Scanning;
use crate::command::Scan;
use crate::conn::link::{Call, Link, ReplySlot};
use crate::error::Error;
use crate::generation::Generation;
use crate::node::core::ClientGuard;
use crate::node::shard::{CallEvent, Shard};
use crate::proto::ReplyBound;
use crate::replica_choice::ReplicaChoice;
use crate::retry::CallOptions;
use crate::routing::RoutingTable;
use crate::sync::Seen;
use crate::time::sleep_until;

/// Sends calls, one at a time, and repeats them where that is allowed.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(super) core: Arc<ClientGuard>,
    /// The routing table at the last call.
    table: Seen<RoutingTable<Shard>>,
    /// The shard of the last call.
    pub(super) shard: Arc<Shard>,
    pub(super) shared_index: usize,
    options: HandleOptions,
    /// `None` if the handle sends its calls to the master.
    pub(super) replica_route: Option<Box<ReplicaRoute>>,
    /// The connection of the last call, and most likely of the next.
    pub(super) link: Option<Arc<Link>>,
    /// The handle's scans on the master.
    pub(super) scanning: Option<Box<Scanning>>,
    /// For a repeat by the caller: how many connections had been abandoned before it.
    pub(super) fences: Option<u64>,
    /// Reused by the next call. A call that is dropped before its reply leaves its slot to the connection.
    pub(super) slot: Option<Arc<ReplySlot>>,
}

/// Which connection a call uses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    /// The shared one.
    Shared,
    /// The shared one, in the server process that returned the cursors of a scan's steps.
    Scan,
    /// A dedicated one, since the server may block it: for this long at most, or without a limit.
    Own(Option<Duration>),
}

impl Caller {
    pub(crate) fn new(core: Arc<ClientGuard>) -> Self {
        let options = HandleOptions::of(&core.call_options);
        let shared_index = core.next_shared_connection();
        let table = Seen::of(&core.routing);
        Self {
            shard: Arc::clone(table.value().first()),
            table,
            core,
            shared_index,
            options,
            replica_route: None,
            link: None,
            scanning: None,
            fences: None,
            slot: None,
        }
    }

    /// Returns a caller for one of several attempts of the same operation. All use the same shared connection, which
    /// must be fenced behind `fences` abandoned ones.
    pub(crate) fn repeating(mut self, shared_index: usize, fences: u64) -> Self {
        (self.shared_index, self.fences) = (shared_index, Some(fences));
        self
    }

    /// Returns the caller for reads from replicas.
    pub(crate) fn reading_replicas(mut self, choice: Arc<dyn ReplicaChoice>) -> Self {
        self.replica_route = Some(Box::new(ReplicaRoute::new(choice, &self.shard)));
        self
    }

    pub(crate) fn fork(&self) -> Self {
        let replica_route =
            self.replica_route.as_ref().map(|replica_route| Box::new(replica_route.fork(&self.shard)));
        let shard = Arc::clone(&self.shard);
        let options = self.options.clone();
        let fork = Self { replica_route, shard, options, ..Self::new(Arc::clone(&self.core)) };
        match self.fences {
            Some(fences) => fork.repeating(self.shared_index, fences),
            None => fork,
        }
    }

    /// Returns the options of this handle, for changes.
    pub(crate) fn options_mut(&mut self) -> &mut HandleOptions {
        &mut self.options
    }

    pub(super) fn options(&self) -> &CallOptions {
        self.options.current()
    }

    /// Takes changed options over, and switches to the shard that owns the key of a call.
    #[inline]
    pub(super) fn route(&mut self, call: Call<'_>) {
        self.options.refresh(&self.core.call_options);
        let table = self.table.refresh(&self.core.routing);
        if !table.owns_all(&self.shard) {
            self.switch_to_shard_of(call);
        }
    }

    #[cold]
    fn switch_to_shard_of(&mut self, call: Call<'_>) {
        let shard = self.table.value().shard_for(call.routing_key());
        if !Arc::ptr_eq(shard, &self.shard) {
            // The connection and the cursors of one shard are useless for another.
            (self.link, self.scanning) = (None, None);
            self.shard = Arc::clone(shard);
            if let Some(replica_route) = &mut self.replica_route {
                **replica_route = replica_route.fork(&self.shard);
            }
        }
    }

    /// Takes the shard's shared connection if that of the last call is gone.
    pub(super) fn find_link(&mut self) {
        if self.link.is_none() {
            self.link = self.shard.ready_link(self.shared_index).and_then(Result::ok);
        }
    }

    /// Returns true if the handle's timeout is zero.
    pub(super) fn has_zero_timeout(&self) -> bool {
        self.options().timeout.is_some_and(|timeout| timeout.is_zero())
    }

    #[cfg(feature = "aio")]
    pub(crate) fn db(&self) -> u32 {
        self.core.config().db()
    }

    pub(crate) fn reads_replicas(&self) -> bool {
        self.replica_route.is_some()
    }

    /// Chooses the replica for the next call.
    pub(crate) fn choose_replica(&mut self, scan: Option<Scan>) {
        if let Some(replica_route) = &mut self.replica_route {
            self.link = replica_route.choose(&self.shard, self.link.take(), scan);
        }
    }

    /// Runs a call to its end: one attempt and the policy's retries, each bounded by the reply timeout, with a wait of at
    /// most `failover_wait` for a connection before each.
    pub(crate) fn call<'a>(&'a mut self, call: Call<'a>) -> CallFuture<'a> {
        CallFuture::new(self, call)
    }

    /// Counts an event in the report of an outage of the master. Reads from replicas do not count.
    pub(super) fn record(&self, event: CallEvent) {
        if !self.reads_replicas() {
            self.shard.on_call(event, || self.core.runtime.now());
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        // A deadline that cannot be represented is none.
        self.options().timeout.and_then(|timeout| self.core.runtime.now().checked_add(timeout))
    }

    pub(super) fn wait_bound(&self, deadline: Option<Instant>) -> Instant {
        let bound = self.core.runtime.now() + self.options().failover_wait;
        deadline.map_or(bound, |deadline| deadline.min(bound))
    }

    pub(super) fn reply_bound(&self, deadline: Option<Instant>) -> ReplyBound {
        ReplyBound { within: Some(self.options().socket_timeout), by: deadline }
    }

    /// Returns the shared connection to the master that this handle uses. Waits for it until `bound`.
    pub(super) async fn master_link(&self, bound: Instant) -> Result<Arc<Link>, Error> {
        if let Some(ready) = self.shard.ready_link(self.shared_index) {
            return ready;
        }
        let link = self.shard.link(self.shared_index, &*self.core.runtime, bound).await?;
        self.record(CallEvent::Held);
        Ok(link)
    }

    /// Records that calls on this connection may still reach the server. A repeat uses a connection that is fenced behind
    /// the returned number of given-up ones.
    pub(super) fn record_abandoned(&self, link: &Link) -> u64 {
        self.core.fences.add(link);
        self.core.fences.count()
    }

    /// Drops a connection on which an attempt has failed.
    pub(super) fn drop_link(&mut self) {
        let left = self.link.take();
        if let Some(replica_route) = &mut self.replica_route {
            replica_route.avoid(left);
        }
    }

    /// Waits before the next attempt, unless the call may `move_on` to another server that can answer at once.
    pub(super) async fn pause_before(&mut self, at: Instant, generation: Generation, move_on: bool) {
        let Some(replica_route) = &mut self.replica_route else {
            return self.pause(at, generation).await;
        };
        if !(move_on && replica_route.can_move_on(&self.core, &self.shard)) {
            sleep_until(&*self.core.runtime, at).await;
        }
    }

    /// Waits until `until`, or until another master is followed.
    pub(super) async fn pause(&self, until: Instant, generation: Generation) {
        let runtime = &*self.core.runtime;
        future::or(sleep_until(runtime, until), self.shard.master_changed(generation)).await;
    }
}
