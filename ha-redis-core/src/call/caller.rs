//! The state of a handle between calls: its shard, its connection, its options.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::call::future::CallFuture;
use crate::call::handle_options::HandleOptions;
use crate::call::shard_route::ShardRoute;
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
    /// The route of the last call.
    pub(super) shard_route: ShardRoute,
    /// The routes to other shards that the handle has called.
    other_shard_routes: Vec<ShardRoute>,
    pub(super) shared_index: usize,
    options: HandleOptions,
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
            shard_route: ShardRoute::new(Arc::clone(table.value().first())),
            other_shard_routes: Vec::new(),
            table,
            core,
            shared_index,
            options,
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
        self.shard_route.read_replicas(choice);
        self
    }

    pub(crate) fn fork(&self) -> Self {
        let shard_route = self.shard_route.fork(Arc::clone(&self.shard_route.shard));
        let options = self.options.clone();
        let fork = Self { shard_route, options, ..Self::new(Arc::clone(&self.core)) };
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
        if self.table.is_outdated(&self.core.routing) {
            self.take_new_table();
        }
        if !self.table.value().owns_all(&self.shard_route.shard) {
            self.switch_to_shard_of(call);
        }
    }

    /// Takes a new table over, and forgets the routes to shards that it has not.
    #[cold]
    fn take_new_table(&mut self) {
        let table = self.table.refresh(&self.core.routing);
        let is_there =
            |route: &ShardRoute| table.shards().iter().any(|shard| Arc::ptr_eq(shard, &route.shard));
        self.other_shard_routes.retain(is_there);
        if !is_there(&self.shard_route) {
            self.shard_route = self.shard_route.fork(Arc::clone(table.first()));
        }
    }

    #[inline(never)]
    fn switch_to_shard_of(&mut self, call: Call<'_>) {
        let shard = self.table.value().shard_for(call.routing_key());
        if Arc::ptr_eq(shard, &self.shard_route.shard) {
            return;
        }
        let known = self.other_shard_routes.iter().position(|route| Arc::ptr_eq(&route.shard, shard));
        let next = match known {
            Some(index) => self.other_shard_routes.swap_remove(index),
            None => self.shard_route.fork(Arc::clone(shard)),
        };
        let last = mem::replace(&mut self.shard_route, next);
        self.other_shard_routes.push(last);
    }

    /// Takes the shard's shared connection if that of the last call is gone.
    pub(super) fn find_link(&mut self) {
        if self.shard_route.link.is_none() {
            self.shard_route.link = self.shard_route.shard.ready_link(self.shared_index).and_then(Result::ok);
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
        self.shard_route.replica_route.is_some()
    }

    /// Chooses the replica for the next call.
    pub(crate) fn choose_replica(&mut self, scan: Option<Scan>) {
        let ShardRoute { shard, link, replica_route, .. } = &mut self.shard_route;
        if let Some(replica_route) = replica_route {
            *link = replica_route.choose(shard, link.take(), scan);
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
            self.shard_route.shard.on_call(event, || self.core.runtime.now());
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
        if let Some(ready) = self.shard_route.shard.ready_link(self.shared_index) {
            return ready;
        }
        let link = self.shard_route.shard.link(self.shared_index, &*self.core.runtime, bound).await?;
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
        let left = self.shard_route.link.take();
        if let Some(replica_route) = &mut self.shard_route.replica_route {
            replica_route.avoid(left);
        }
    }

    /// Waits before the next attempt, unless the call may `move_on` to another server that can answer at once.
    pub(super) async fn pause_before(&mut self, at: Instant, generation: Generation, move_on: bool) {
        let ShardRoute { shard, replica_route: Some(replica_route), .. } = &mut self.shard_route else {
            return self.pause(at, generation).await;
        };
        if !(move_on && replica_route.can_move_on(&self.core, shard)) {
            sleep_until(&*self.core.runtime, at).await;
        }
    }

    /// Waits until `until`, or until another master is followed.
    pub(super) async fn pause(&self, until: Instant, generation: Generation) {
        let runtime = &*self.core.runtime;
        future::or(sleep_until(runtime, until), self.shard_route.shard.master_changed(generation)).await;
    }
}
