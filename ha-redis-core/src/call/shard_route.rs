//! What a handle keeps of one shard between its calls.

use std::sync::Arc;

use crate::call::replica_route::ReplicaRoute;
use crate::call::scans::Scanning;
use crate::conn::link::Link;
use crate::node::shard::Shard;
use crate::replica_choice::ReplicaChoice;

/// How a handle reaches a shard: the connection, and what its scans and reads from replicas depend on.
#[derive(Debug)]
pub(super) struct ShardRoute {
    pub(super) shard: Arc<Shard>,
    /// The connection of the last call, and most likely of the next.
    pub(super) link: Option<Arc<Link>>,
    /// `None` if the handle sends its calls to the master.
    pub(super) replica_route: Option<Box<ReplicaRoute>>,
    /// The handle's scans on the master.
    pub(super) scanning: Option<Box<Scanning>>,
}

impl ShardRoute {
    /// Returns a route to the master of a shard.
    pub(super) fn new(shard: Arc<Shard>) -> Self {
        Self { shard, link: None, replica_route: None, scanning: None }
    }

    /// Sends the calls to replicas from now on.
    pub(super) fn read_replicas(&mut self, choice: Arc<dyn ReplicaChoice>) {
        self.replica_route = Some(Box::new(ReplicaRoute::new(choice, &self.shard)));
    }

    /// Returns a new route of the same kind, for another handle or to another shard.
    pub(super) fn fork(&self, shard: Arc<Shard>) -> Self {
        let replica_route = self.replica_route.as_ref().map(|route| Box::new(route.fork(&shard)));
        Self { replica_route, ..Self::new(shard) }
    }
}
