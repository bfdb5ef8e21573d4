//! Where the topology comes from: the configuration, Sentinels, or a source that a user brings.
//!
//! A [`Source`] is a state machine: it is told what was heard, and says what is to be done. It does no I/O and reads no
//! clock.

use std::error::Error as StdError;
use std::fmt;
use std::time::Instant;

use async_trait::async_trait;

use crate::address::Address;
use crate::topology::messages::{Action, Input, ShardId};
#[cfg(feature = "sentinel")]
use crate::topology::sentinel::SentinelMonitor;
use crate::topology::{AddressSource, Replica};

/// A source of the topology that a user brings: Consul, a Kubernetes API, a cloud's own, a file.
///
/// It says who is master and which replicas there are. The client does the rest: it checks that the master says so itself,
/// ends the connections to the one before, fences what was given up, and judges the replicas. Give it to
/// [`Client::with_topology_source`](crate::Client::with_topology_source).
///
/// ```
/// use async_trait::async_trait;
/// use ha_redis_core::{Address, TopologySource, TopologyUpdate};
///
/// /// Always the same servers.
/// #[derive(Debug)]
/// struct Fixed(Option<TopologyUpdate>);
///
/// #[async_trait]
/// impl TopologySource for Fixed {
///     async fn next_update(&mut self) -> Result<TopologyUpdate, Box<dyn std::error::Error + Send + Sync>> {
///         match self.0.take() {
///             Some(update) => Ok(update),
///             None => std::future::pending().await,
///         }
///     }
/// }
///
/// let source = Fixed(Some(TopologyUpdate::new(Address::tcp("10.0.0.1", 6379))));
/// ```
#[async_trait]
pub trait TopologySource: fmt::Debug + Send + 'static {
    /// Waits for the next change of the topology, and returns all of it. The first call returns it as it is now.
    ///
    /// It runs in a task of the client, one call at a time, and is not asked again before it has returned. It may be
    /// dropped at any await when the client is closed.
    ///
    /// # Errors
    /// When the topology cannot be read. Callers that wait for a master are told why. The client asks again after a
    /// pause of 0.1 to 1 seconds, and goes on with what it knows.
    async fn next_update(&mut self) -> Result<TopologyUpdate, Box<dyn StdError + Send + Sync>>;
}

/// The servers of a deployment, as a [`TopologySource`] tells of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopologyUpdate {
    /// The master.
    pub master: Address,
    /// Its replicas. The client connects to at most 64 of them, and only when they are read from.
    pub replicas: Vec<Address>,
}

impl TopologyUpdate {
    /// A master without replicas.
    pub fn new(master: Address) -> Self {
        Self { master, replicas: Vec::new() }
    }

    /// The same with these replicas.
    #[must_use]
    pub fn with_replicas(mut self, replicas: impl IntoIterator<Item = Address>) -> Self {
        self.replicas = replicas.into_iter().collect();
        self
    }
}

/// What says who is master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// The address in the configuration is the master, whatever the server there says of itself.
    Direct,
    /// Sentinels.
    #[cfg(feature = "sentinel")]
    Sentinel,
    /// A user's own source.
    Custom,
}

impl SourceKind {
    /// Returns true if somebody other than the server itself says that it is master, so that its role is checked.
    pub(crate) fn names_master(self) -> bool {
        self != Self::Direct
    }

    /// Returns true if the source lists the master's replicas. Otherwise the master is asked for them.
    pub(crate) fn lists_replicas(self) -> bool {
        self != Self::Direct
    }

    /// Returns true if the source is asked, before a lost connection is made again, whether the master is still the same.
    pub(crate) fn confirms_master(self) -> bool {
        match self {
            #[cfg(feature = "sentinel")]
            Self::Sentinel => true,
            Self::Direct | Self::Custom => false,
        }
    }
}

/// Where the topology comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The address in the configuration.
    Direct(Address),
    #[cfg(feature = "sentinel")]
    Sentinel { monitor: Box<SentinelMonitor>, master_name: String },
    /// What a user's own source said last.
    Custom(Option<TopologyUpdate>),
}

impl Source {
    /// What is to be done before anything was heard.
    pub(crate) fn start(&self) -> Option<(ShardId, Action)> {
        match self {
            Self::Direct(address) => Some((ShardId::default(), Action::Follow(address.clone()))),
            #[cfg(feature = "sentinel")]
            Self::Sentinel { .. } => None,
            Self::Custom(_) => None,
        }
    }

    /// Handles what was heard of one shard.
    #[cfg_attr(not(feature = "sentinel"), expect(unused_variables, reason = "only Sentinels are timed"))]
    pub(crate) fn handle(&mut self, shard: ShardId, input: Input, now: Instant) -> Vec<(ShardId, Action)> {
        let actions = match self {
            Self::Direct(_) => Vec::new(),
            #[cfg(feature = "sentinel")]
            Self::Sentinel { monitor, .. } => monitor.handle(input, now),
            Self::Custom(last) => match input {
                Input::Update(update) => follow_update(last, update),
                _ => Vec::new(),
            },
        };
        actions.into_iter().map(|action| (shard, action)).collect()
    }

    /// When [`Input::Tick`] is due, if ever.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        match self {
            #[cfg(feature = "sentinel")]
            Self::Sentinel { monitor, .. } => Some(monitor.next_tick()),
            Self::Direct(_) | Self::Custom(_) => None,
        }
    }

    /// The replicas of a shard's master, as far as the source can tell.
    pub(crate) fn replicas(&self) -> Option<Vec<Replica>> {
        match self {
            Self::Direct(_) => None,
            #[cfg(feature = "sentinel")]
            Self::Sentinel { monitor, .. } => monitor.replicas(),
            Self::Custom(last) => {
                let replicas = last.as_ref()?.replicas.iter();
                Some(replicas.map(|address| Replica::new(address.clone(), true)).collect())
            }
        }
    }

    /// The epoch in which the master is followed; 0 where there are none.
    pub(crate) fn epoch(&self) -> u64 {
        match self {
            #[cfg(feature = "sentinel")]
            Self::Sentinel { monitor, .. } => monitor.epoch(),
            Self::Direct(_) | Self::Custom(_) => 0,
        }
    }

    /// Who names the master, for errors about it.
    pub(crate) fn address_source(&self) -> AddressSource {
        match self {
            Self::Direct(_) => AddressSource::Configuration,
            #[cfg(feature = "sentinel")]
            Self::Sentinel { monitor, master_name } => {
                AddressSource::Sentinels { master_name: master_name.clone(), naming: monitor.naming() }
            }
            Self::Custom(_) => AddressSource::Custom,
        }
    }
}

/// Follows what a user's own source says now.
fn follow_update(last: &mut Option<TopologyUpdate>, update: TopologyUpdate) -> Vec<Action> {
    let is_same = last.as_ref().is_some_and(|last| last.master == update.master);
    let master = update.master.clone();
    *last = Some(update);
    if is_same { Vec::new() } else { vec![Action::Follow(master)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_source_switches_only_to_another_master() {
        let mut source = Source::Custom(None);
        let (a, b) = (Address::tcp("a", 1), Address::tcp("b", 1));
        let mut update = |update| source.handle(ShardId(0), Input::Update(update), Instant::now());
        assert_eq!(update(TopologyUpdate::new(a.clone())), [(ShardId(0), Action::Follow(a.clone()))]);
        assert_eq!(update(TopologyUpdate::new(a.clone()).with_replicas([b.clone()])), []);
        assert_eq!(update(TopologyUpdate::new(b.clone())), [(ShardId(0), Action::Follow(b))]);
        assert_eq!(source.replicas(), Some(Vec::new()));
        assert_eq!(Source::Custom(None).replicas(), None, "nothing was said yet");
    }
}
