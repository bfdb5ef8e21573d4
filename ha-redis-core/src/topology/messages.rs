//! What a source of the topology is told, and what it has done.

use std::fmt;
#[cfg(feature = "sentinel")]
use std::time::Instant;

use crate::address::Address;
use crate::topology::TopologyUpdate;
#[cfg(feature = "sentinel")]
use crate::topology::sentinel::{QueryError, SentinelEvent, SentinelReport};

/// The number of a shard: a master with its replicas, and the keys that they own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShardId(pub(crate) usize);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something that was heard.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// There is a connection to the master of the shard.
    Connected,
    /// The connection to the master was lost.
    Lost,
    /// The server that is followed says that it is no master.
    NotMaster,
    /// What a user's own source says.
    Update(TopologyUpdate),
    /// What a Sentinel answered to the question that was `asked_at` then, or why it did not.
    #[cfg(feature = "sentinel")]
    Answer { sentinel: Address, asked_at: Instant, answer: Result<SentinelReport, QueryError> },
    /// What a Sentinel published.
    #[cfg(feature = "sentinel")]
    Heard { sentinel: Address, event: SentinelEvent },
    /// The subscription to a Sentinel's events has begun, maybe after a gap.
    #[cfg(feature = "sentinel")]
    Subscribed,
    /// A watched replica says that it is master.
    Promoted(
        #[cfg_attr(not(feature = "sentinel"), expect(dead_code, reason = "only Sentinels promote"))] Address,
    ),
    /// Time has passed.
    Tick,
}

impl Input {
    /// Returns true if the source may list other replicas now.
    pub(crate) fn lists_replicas(&self) -> bool {
        match self {
            Self::Update(_) => true,
            #[cfg(feature = "sentinel")]
            Self::Answer { .. } => true,
            _ => false,
        }
    }
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "sentinel"), expect(dead_code, reason = "only Sentinels have these done"))]
pub(crate) enum Action {
    #[cfg(feature = "sentinel")]
    /// Ask every Sentinel.
    Ask,
    #[cfg(feature = "sentinel")]
    /// Listen to these Sentinels too.
    AddSentinels(Vec<Address>),
    #[cfg(feature = "sentinel")]
    /// Listen to this one no more.
    RemoveSentinel(Address),
    /// Connect to this master, and to no other any more. Ends a hold.
    Follow(Address),
    /// The Sentinels still name the master whose connection was lost: it may be connected to again.
    Confirm,
    /// Send nothing more to the master for now.
    Hold,
    /// Go on sending.
    Release,
    /// Ask this replica for its role, again and again, until it is master. One that was master `before` may not know
    /// yet that it is none: its word counts only once it was seen as a replica.
    Watch { replica: Address, before: bool },
    /// Stop asking.
    Unwatch,
    /// Let no more writes through, for this reason.
    Close(String),
    /// Let writes through again.
    Open,
    /// Tell whoever reads the logs.
    Warn(String),
    /// Tell those who wait why there is no master.
    Fail(String),
}
