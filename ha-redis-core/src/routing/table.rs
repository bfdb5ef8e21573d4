//! The shards of a deployment, and which of them owns which key.

use std::sync::Arc;

use crate::topology::ShardId;

/// The shards, by number, and how keys are spread over them.
///
/// A table does not change: another one takes its place. One shard that owns all keys is the same machine as many that
/// share them.
#[derive(Debug)]
pub(crate) struct RoutingTable<S> {
    shards: Vec<Arc<S>>,
    partition: Partition,
}

/// How keys are spread over the shards.
#[derive(Clone, Copy, Debug)]
enum Partition {
    /// One shard owns all keys.
    Whole,
    /// The shard of a key is what this function says.
    #[cfg(test)]
    ByKey(fn(&[u8]) -> ShardId),
}

impl<S> RoutingTable<S> {
    /// One shard that owns all keys.
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

    /// The shard that owns a key; the first one for whatever has none.
    #[cfg_attr(not(test), expect(unused_variables, reason = "one shard owns all keys"))]
    pub(crate) fn shard_for(&self, key: Option<&[u8]>) -> &Arc<S> {
        let id = match self.partition {
            Partition::Whole => ShardId::default(),
            #[cfg(test)]
            Partition::ByKey(shard_of) => key.map(shard_of).unwrap_or_default(),
        };
        self.shards.get(id.0).unwrap_or(self.first())
    }

    /// The shard for whatever has no key.
    pub(crate) fn first(&self) -> &Arc<S> {
        &self.shards[0]
    }
}
