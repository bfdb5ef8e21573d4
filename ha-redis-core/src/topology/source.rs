//! The sources of the topology: the configuration, Sentinels, or a source of the application.
//!
//! A [`Source`] is a state machine: it takes inputs and returns the actions to take. It does no I/O and reads no
//! clock.

use std::error::Error as StdError;
use std::fmt;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::address::Address;
use crate::topology::messages::{Action, Input, ShardId};
#[cfg(feature = "sentinel")]
use crate::topology::sentinel::SentinelMonitor;
use crate::topology::{AddressSource, Replica};

/// A topology source of the application: Consul, the Kubernetes API, a cloud provider's API, a file.
///
/// It names the master and lists the replicas. The client does the rest: it verifies the role of the master, closes the
/// connections to the previous one, fences abandoned connections, and checks the replicas. Pass it to
/// [`ClientOptions::topology_source`](crate::ClientOptions::topology_source).
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
    /// Waits for the next change and returns the whole topology. The first call returns the current topology.
    ///
    /// The client calls it from a task, and calls it again 10 ms after it has returned. When the client is closed, the
    /// future may be dropped at any `.await`. If it panics, the client ends: every later call reports that.
    ///
    /// # Errors
    /// Returns an error if the topology cannot be read. The client calls again after a pause of 0.1 to 1 seconds and
    /// continues with the last topology. If there is none yet, calls wait for a master up to `failover_wait`, and their
    /// errors name this one as the cause.
    async fn next_update(&mut self) -> Result<TopologyUpdate, Box<dyn StdError + Send + Sync>>;
}

/// The servers of a deployment, as a [`TopologySource`] returns them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopologyUpdate {
    /// The master.
    pub master: Address,
    /// Its replicas. The client connects to at most 64 of them, and only if reads go to replicas.
    pub replicas: Vec<Address>,
}

impl TopologyUpdate {
    /// A master without replicas.
    pub fn new(master: Address) -> Self {
        Self { master, replicas: Vec::new() }
    }

    /// Sets the replicas.
    #[must_use]
    pub fn with_replicas(mut self, replicas: impl IntoIterator<Item = Address>) -> Self {
        self.replicas = replicas.into_iter().collect();
        self
    }
}

/// The kind of source that determines the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// The configured address is the master, whatever role its server reports.
    Direct,
    /// Sentinels.
    #[cfg(feature = "sentinel")]
    Sentinel,
    /// A topology source of the application.
    Custom,
}

impl SourceKind {
    /// Returns true if the source names the master, so that the role of the server must be checked.
    pub(crate) fn names_master(self) -> bool {
        self != Self::Direct
    }

    /// Returns true if the source lists the master's replicas. Otherwise the master is asked for them.
    pub(crate) fn lists_replicas(self) -> bool {
        self != Self::Direct
    }

    /// Returns true if the source must confirm the master before a lost connection is made again.
    pub(crate) fn confirms_master(self) -> bool {
        match self {
            #[cfg(feature = "sentinel")]
            Self::Sentinel => true,
            Self::Direct | Self::Custom => false,
        }
    }
}

/// A source of the topology.
#[derive(Debug)]
pub(crate) enum Source {
    /// The address in the configuration.
    Direct(Address),
    #[cfg(feature = "sentinel")]
    Sentinel { monitor: Box<SentinelMonitor>, master_name: String },
    /// The last update of the application's source.
    Custom(Option<TopologyUpdate>),
}

impl Source {
    /// Sets how long commands are held back during a promotion, from now on.
    pub(crate) fn set_promotion_hold(&mut self, hold: Duration) {
        match self {
            #[cfg(feature = "sentinel")]
            Self::Sentinel { monitor, .. } => monitor.set_promotion_hold(hold),
            // They know of no promotion in advance.
            Self::Direct(_) | Self::Custom(_) => _ = hold,
        }
    }

    /// Returns the first action, if one is due before any input.
    pub(crate) fn start(&self) -> Option<(ShardId, Action)> {
        match self {
            Self::Direct(address) => Some((ShardId::default(), Action::Follow(address.clone()))),
            #[cfg(feature = "sentinel")]
            Self::Sentinel { .. } => None,
            Self::Custom(_) => None,
        }
    }

    /// Handles an input of one shard.
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

    /// Returns when [`Input::Tick`] is due, if ever.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        match self {
            #[cfg(feature = "sentinel")]
            Self::Sentinel { monitor, .. } => Some(monitor.next_tick()),
            Self::Direct(_) | Self::Custom(_) => None,
        }
    }

    /// Returns the replicas of a shard's master, as far as the source knows them.
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

    /// Returns the epoch of the current master; 0 where there are no epochs.
    pub(crate) fn epoch(&self) -> u64 {
        match self {
            #[cfg(feature = "sentinel")]
            Self::Sentinel { monitor, .. } => monitor.epoch(),
            Self::Direct(_) | Self::Custom(_) => 0,
        }
    }

    /// Returns what names the master, for errors about it.
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

/// Follows the master of an update, if it is another one.
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
        assert_eq!(Source::Custom(None).replicas(), None, "nothing was received yet");
    }
}
