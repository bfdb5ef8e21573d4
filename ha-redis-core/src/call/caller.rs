//! What a handle has for its calls: its shard, its connection, its options.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::call::future::CallFuture;
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

/// Sends calls, one at a time, over the connection that is in use now, and again where that is allowed.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(super) core: Arc<ClientGuard>,
    /// The shards, as they were at the last call.
    table: Seen<RoutingTable<Shard>>,
    /// The shard of the last call.
    pub(super) shard: Arc<Shard>,
    pub(super) shared_index: usize,
    /// How this handle's calls are repeated, and how long they may take. Shared, as handles are many.
    pub(super) options: Arc<CallOptions>,
    /// How this handle finds replicas to read from; `None` when it goes to the master.
    pub(super) replica_route: Option<Box<ReplicaRoute>>,
    /// The connection of the last call: most likely that of the next.
    pub(super) link: Option<Arc<Link>>,
    /// Who gave this handle the cursors of its scans at the master.
    pub(super) scanning: Option<Box<Scanning>>,
    /// For a repeat that its caller makes: how many connections had been given up before.
    pub(super) fences: Option<u64>,
    /// Kept from call to call. A call that is dropped on its way takes the slot with it.
    pub(super) slot: Option<Arc<ReplySlot>>,
}

/// Which connection a call goes over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    /// The one that the handle shares with others.
    Shared,
    /// The same for steps of scans, which go on at the server process that gave their cursors.
    Scan,
    /// One of its own, since the server may let it wait: at most so long, or for ever.
    Own(Option<Duration>),
}

impl Caller {
    pub(crate) fn new(core: Arc<ClientGuard>, options: Arc<CallOptions>) -> Self {
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

    /// The same for one attempt of several that their caller makes, all over `shared_index`: behind so many fences.
    pub(crate) fn repeating(mut self, shared_index: usize, fences: u64) -> Self {
        (self.shared_index, self.fences) = (shared_index, Some(fences));
        self
    }

    /// The same for calls that replicas answer.
    pub(crate) fn reading_replicas(mut self, choice: Arc<dyn ReplicaChoice>) -> Self {
        self.replica_route = Some(Box::new(ReplicaRoute::new(choice, &self.shard)));
        self
    }

    pub(crate) fn fork(&self) -> Self {
        let replica_route =
            self.replica_route.as_ref().map(|replica_route| Box::new(replica_route.fork(&self.shard)));
        let fork = Self { replica_route, ..Self::new(Arc::clone(&self.core), Arc::clone(&self.options)) };
        match self.fences {
            Some(fences) => fork.repeating(self.shared_index, fences),
            None => fork,
        }
    }

    /// The options of this handle alone.
    pub(crate) fn options_mut(&mut self) -> &mut CallOptions {
        Arc::make_mut(&mut self.options)
    }

    /// Turns to the shard that owns the key of a call.
    #[inline]
    pub(super) fn route(&mut self, call: Call<'_>) {
        let table = self.table.refresh(&self.core.routing);
        if !table.owns_all(&self.shard) {
            self.turn_to_shard_of(call);
        }
    }

    #[cold]
    fn turn_to_shard_of(&mut self, call: Call<'_>) {
        let shard = self.table.value().shard_for(call.routing_key());
        if !Arc::ptr_eq(shard, &self.shard) {
            // What a handle has of one shard means nothing to another.
            (self.link, self.scanning) = (None, None);
            self.shard = Arc::clone(shard);
            if let Some(replica_route) = &mut self.replica_route {
                **replica_route = replica_route.fork(&self.shard);
            }
        }
    }

    /// Turns to the connection that is in use, if the one of the last call is there no more.
    pub(super) fn find_link(&mut self) {
        if self.link.is_none() {
            self.link = self.shard.ready_link(self.shared_index).and_then(Result::ok);
        }
    }

    /// Whether its calls have no time at all.
    pub(super) fn is_late(&self) -> bool {
        self.options.timeout.is_some_and(|timeout| timeout.is_zero())
    }

    #[cfg(feature = "aio")]
    pub(crate) fn config(&self) -> &crate::config::RedisConfig {
        &self.core.config
    }

    pub(crate) fn reads_replicas(&self) -> bool {
        self.replica_route.is_some()
    }

    /// Turns to the replica that the next call is to go to.
    pub(crate) fn take_turn(&mut self, scan: Option<Scan>) {
        if let Some(replica_route) = &mut self.replica_route {
            self.link = replica_route.turn(&self.shard, self.link.take(), scan);
        }
    }

    /// Runs a call to its end: at most one attempt and the policy's retries, each with the reply timeout, and
    /// waits of at most `failover_wait` for a connection before each.
    pub(crate) fn call<'a>(&'a mut self, call: Call<'a>) -> CallFuture<'a> {
        CallFuture::new(self, call)
    }

    /// Tells the report of an outage of the master, to which reads from replicas do not belong.
    pub(super) fn record(&self, event: CallEvent) {
        if !self.reads_replicas() {
            self.shard.on_call(event, || self.core.runtime.now());
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        // Too far away to be told is no deadline.
        self.options.timeout.and_then(|timeout| self.core.runtime.now().checked_add(timeout))
    }

    pub(super) fn wait_bound(&self, deadline: Option<Instant>) -> Instant {
        let bound = self.core.runtime.now() + self.core.config.failover_wait();
        deadline.map_or(bound, |deadline| deadline.min(bound))
    }

    pub(super) fn reply_bound(&self, deadline: Option<Instant>) -> ReplyBound {
        ReplyBound { within: Some(self.core.config.socket_timeout()), by: deadline }
    }

    /// The shared connection to the master that this handle uses.
    pub(super) async fn master_link(&self, bound: Instant) -> Result<Arc<Link>, Error> {
        if let Some(ready) = self.shard.ready_link(self.shared_index) {
            return ready;
        }
        let link = self.shard.link(self.shared_index, &*self.core.runtime, bound).await?;
        self.record(CallEvent::Held);
        Ok(link)
    }

    /// What was sent over this connection may still reach the server: a repeat goes over one that is fenced behind so many.
    pub(super) fn record_given_up(&self, link: &Link) -> u64 {
        self.core.fences.add(link);
        self.core.fences.count()
    }

    /// Leaves a connection on which an attempt has failed.
    pub(super) fn drop_link(&mut self) {
        let left = self.link.take();
        if let Some(replica_route) = &mut self.replica_route {
            replica_route.avoid(left);
        }
    }

    /// Waits before the next attempt, unless the call may `move_on` and another server can answer it at once.
    pub(super) async fn pause_before(&mut self, at: Instant, generation: Generation, move_on: bool) {
        let Some(replica_route) = &mut self.replica_route else {
            return self.pause(at, generation).await;
        };
        if !(move_on && replica_route.can_move_on(&self.core, &self.shard)) {
            sleep_until(&*self.core.runtime, at).await;
        }
    }

    /// Waits until `until`; news of another master ends the wait.
    pub(super) async fn pause(&self, until: Instant, generation: Generation) {
        let runtime = &*self.core.runtime;
        future::or(sleep_until(runtime, until), self.shard.master_changed(generation)).await;
    }
}
