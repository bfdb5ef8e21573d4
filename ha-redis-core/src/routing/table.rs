//! The shards of a deployment, and which of them owns which key.

use std::sync::Arc;

use crate::topology::ShardId;

/// The shards by number, and the partition of the keys.
///
/// A table is immutable; a new one replaces it. A single shard that owns all keys uses the same code as many shards.
#[derive(Debug)]
pub(crate) struct RoutingTable<S> {
    shards: Vec<Arc<S>>,
    partition: Partition,
}

/// How the keys are partitioned among the shards.
#[derive(Clone, Copy, Debug)]
enum Partition {
    /// One shard owns all keys.
    Whole,
    /// This function returns the shard of a key.
    #[cfg(test)]
    ByKey(fn(&[u8]) -> ShardId),
}

impl<S> RoutingTable<S> {
    /// Creates a table with one shard that owns all keys.
    pub(crate) fn whole(shard: Arc<S>) -> Self {
        Self { shards: vec![shard], partition: Partition::Whole }
    }

    #[cfg(test)]
    pub(crate) fn by_key(shards: Vec<Arc<S>>, shard_of: fn(&[u8]) -> ShardId) -> Self {
        Self { shards, partition: Partition::ByKey(shard_of) }
    }

    pub(crate) fn shards(&self) -> &[Arc<S>] {
        &self.shards
    }

    /// Returns true if every call goes to this shard.
    #[inline]
    pub(crate) fn owns_all(&self, shard: &Arc<S>) -> bool {
        matches!(self.partition, Partition::Whole) && Arc::ptr_eq(&self.shards[0], shard)
    }

    /// Returns the shard that owns a key; the first one for calls without a key.
    #[cfg_attr(not(test), expect(unused_variables, reason = "one shard owns all keys"))]
    pub(crate) fn shard_for(&self, key: Option<&[u8]>) -> &Arc<S> {
        let id = match self.partition {
            Partition::Whole => ShardId::default(),
            #[cfg(test)]
            Partition::ByKey(shard_of) => key.map(shard_of).unwrap_or_default(),
        };
        self.shards.get(id.0).unwrap_or(self.first())
    }

    /// Returns the shard for calls without a key.
    pub(crate) fn first(&self) -> &Arc<S> {
        &self.shards[0]
    }
}
