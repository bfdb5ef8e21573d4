//! The inputs of a topology source, and the actions that it returns.

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

/// An input of a topology source.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// A connection to the master of the shard is up.
    Connected,
    /// The connection to the master was lost.
    Lost,
    /// The current master replied that it is not the master.
    NotMaster,
    /// An update from a topology source of the application.
    Update(TopologyUpdate),
    /// A Sentinel's answer to the query sent at `asked_at`, or why there was none.
    #[cfg(feature = "sentinel")]
    Answer { sentinel: Address, asked_at: Instant, answer: Result<SentinelReport, QueryError> },
    /// An event that a Sentinel published.
    #[cfg(feature = "sentinel")]
    Event { sentinel: Address, event: SentinelEvent },
    /// The subscription to a Sentinel's events is up, possibly after a gap.
    #[cfg(feature = "sentinel")]
    Subscribed,
    /// A watched replica replied that it is the master.
    Promoted(
        #[cfg_attr(not(feature = "sentinel"), expect(dead_code, reason = "only Sentinels promote"))] Address,
    ),
    /// The time of a tick has come.
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

/// An action that a topology source asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "sentinel"), expect(dead_code, reason = "only Sentinels have these done"))]
pub(crate) enum Action {
    #[cfg(feature = "sentinel")]
    /// Query every Sentinel.
    QuerySentinels,
    #[cfg(feature = "sentinel")]
    /// Query and subscribe to these Sentinels too.
    AddSentinels(Vec<Address>),
    #[cfg(feature = "sentinel")]
    /// Stop using this Sentinel.
    RemoveSentinel(Address),
    /// Connect to this master only. Ends a hold.
    Follow(Address),
    /// Allow reconnecting: the Sentinels still name the master whose connection was lost.
    AllowReconnect,
    /// Hold all commands to the master for now.
    Hold,
    /// End the hold.
    Release,
    /// Ask this replica for its role until it is master. If it `was_master`, it may not have learned of its
    /// demotion yet: its role counts only once it has reported the role replica.
    Watch { replica: Address, was_master: bool },
    /// Stop asking.
    Unwatch,
    /// Refuse writes, for this reason.
    RefuseWrites(String),
    /// Allow writes again.
    AllowWrites,
    /// Log a warning.
    Warn(String),
    /// Fail the calls that wait for a master, with this cause.
    Fail(String),
}
