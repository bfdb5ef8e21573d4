//! What a choice among replicas is made from.

use std::fmt;
use std::time::Duration;

use crate::address::Address;

/// Chooses the replica that a read goes to. [`ReplicaStrategy`](crate::ReplicaStrategy) has the usual ways; write your
/// own for others, and give it to [`Client::replica_connection_by`](crate::Client::replica_connection_by).
///
/// It is asked for every read, on the caller's task: it must neither wait nor take long.
///
/// ```
/// use ha_redis_core::{ReplicaCandidate, ReplicaChoice, Turn};
/// use std::time::Duration;
///
/// /// Any replica that answers within a millisecond; none, when all are slower.
/// #[derive(Debug)]
/// struct Near;
///
/// impl ReplicaChoice for Near {
///     fn choose(&self, candidates: &[ReplicaCandidate], _turn: Turn) -> Option<usize> {
///         candidates.iter().position(|candidate| candidate.latency < Duration::from_millis(1))
///     }
/// }
/// ```
pub trait ReplicaChoice: fmt::Debug + Send + Sync + 'static {
    /// The index of the replica to read from. `candidates` are those that are healthy now, in the order of their
    /// addresses; there is at least one. `None` is for none of them: the read then goes where it would go if there were no
    /// healthy replica.
    fn choose(&self, candidates: &[ReplicaCandidate], turn: SelectionContext) -> Option<usize>;
}

/// A replica that may be read from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaCandidate {
    /// Where it listens, as its master or the Sentinels name it.
    pub address: Address,
    /// How long it takes to answer, measured about every second and smoothed. It includes the wait behind other
    /// callers' commands on the connection.
    pub latency: Duration,
    /// How many bytes of its master's writes it had not applied when it was asked last, about a second ago or less.
    pub lag_bytes: u64,
    /// Whether the setting `preferred_replicas` names it.
    pub preferred: bool,
}

impl ReplicaCandidate {
    /// A candidate at `address` of which nothing else is known: for tests of a choice.
    pub fn new(address: Address) -> Self {
        Self { address, latency: Duration::ZERO, lag_bytes: 0, preferred: false }
    }
}

/// What tells one choice from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SelectionContext {
    /// Grows by one with each choice of a client.
    pub number: u64,
    /// A random number.
    pub random: u64,
}

impl SelectionContext {
    /// Turn number `number`, whose random number follows from it and from `seed`.
    pub fn new(number: u64, seed: u64) -> Self {
        // SplitMix64: a good random number from a counter, in a few instructions.
        let mut random = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random = (random ^ (random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        random = (random ^ (random >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self { number, random: random ^ (random >> 31) }
    }
}
