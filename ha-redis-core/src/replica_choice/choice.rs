//! The interface of a choice among replicas.

use std::fmt;
use std::time::Duration;

use crate::address::Address;

/// Chooses the replica for a read. [`ReplicaStrategy`](crate::ReplicaStrategy) provides the usual strategies;
/// implement this trait for others, and pass it to
/// [`Client::replica_connection_by`](crate::Client::replica_connection_by).
///
/// The client calls it for every read, on the caller's task: it must neither block nor take long.
///
/// ```
/// use ha_redis_core::{ReplicaCandidate, ReplicaChoice, SelectionContext};
/// use std::time::Duration;
///
/// /// Any replica that answers within a millisecond; none if all are slower.
/// #[derive(Debug)]
/// struct Near;
///
/// impl ReplicaChoice for Near {
///     fn choose(&self, candidates: &[ReplicaCandidate], _context: SelectionContext) -> Option<usize> {
///         candidates.iter().position(|candidate| candidate.latency < Duration::from_millis(1))
///     }
/// }
/// ```
pub trait ReplicaChoice: fmt::Debug + Send + Sync + 'static {
    /// Returns the index of the replica to read from. `candidates` are the replicas that are healthy now, sorted by
    /// address; there is at least one. `None` means none of them: the read then goes where it would go without a
    /// healthy replica.
    fn choose(&self, candidates: &[ReplicaCandidate], context: SelectionContext) -> Option<usize>;
}

/// A replica that can serve reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaCandidate {
    /// The address of the replica, as the master or the Sentinels report it.
    pub address: Address,
    /// How long the replica takes to reply, measured about every second and smoothed. It includes the wait behind
    /// other callers' commands on the connection.
    pub latency: Duration,
    /// How many bytes of the master's writes the replica had not applied in the last measurement, about a second ago
    /// or less.
    pub lag_bytes: u64,
    /// Whether the setting `preferred_replicas` matches the replica.
    pub preferred: bool,
}

impl ReplicaCandidate {
    /// Creates a candidate at `address` with default values: for tests of a choice.
    pub fn new(address: Address) -> Self {
        Self { address, latency: Duration::ZERO, lag_bytes: 0, preferred: false }
    }
}

/// The inputs that differ between one choice and the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SelectionContext {
    /// A counter that grows by one with each choice of a client.
    pub number: u64,
    /// A random number.
    pub random: u64,
}

impl SelectionContext {
    /// Creates the context of choice `number`, whose random number is derived from it and from `seed`.
    pub fn new(number: u64, seed: u64) -> Self {
        // SplitMix64: a good random number from a counter in a few instructions.
        let mut random = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self { number, random: random ^ (random >> 31) }
    }
}
