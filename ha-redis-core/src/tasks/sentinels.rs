//! The Sentinels in use: the tasks of each, and which of them answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_channel::Sender;
use futures_lite::future;

use crate::address::Address;
use crate::config::RedisConfig;
use crate::node::core::Core;
use crate::runtime::Task;
use crate::tasks::membership::SentinelMembership;
use crate::tasks::topology_monitor::promotion_hold;
use crate::tasks::{dropped, sentinel};
use crate::topology::Source;
use crate::topology::sentinel::{FailoverConfig, SentinelMonitor};

/// How many queries, a quarter of a second apart, a slow Sentinel may miss at the start.
const INITIAL_ATTEMPTS: u32 = 3;

/// Creates the state machine for the Sentinels of a configuration.
pub(crate) fn source(config: &RedisConfig, now: Instant) -> Source {
    let monitor = SentinelMonitor::new(failover_config(config), config.sentinel_hosts(), now);
    Source::Sentinel { monitor: Box::new(monitor), master_name: config.sentinel_master_name().to_owned() }
}

pub(crate) fn failover_config(config: &RedisConfig) -> FailoverConfig {
    FailoverConfig {
        master_name: config.sentinel_master_name().to_owned(),
        early_promotion: config.early_promotion(),
        promotion_hold: promotion_hold(config),
        require_majority: config.sentinel_require_majority(),
        initial_attempts: INITIAL_ATTEMPTS,
    }
}

pub(crate) struct Sentinels {
    core: Arc<Core>,
    tasks: BTreeMap<Address, SentinelTasks>,
    membership: SentinelMembership,
}

/// The tasks of one Sentinel. They end when this is dropped.
struct SentinelTasks {
    /// Triggers a query.
    trigger: Sender<()>,
    _subscription: Sender<()>,
}

impl Sentinels {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        let (tasks, membership) = (BTreeMap::new(), SentinelMembership::default());
        Self { core: Arc::clone(core), tasks, membership }
    }

    /// Adds a Sentinel and returns its tasks.
    pub(crate) fn add(&mut self, address: Address) -> [Task; 2] {
        let (trigger, triggered) = async_channel::bounded(1);
        let (alive, ended) = async_channel::bounded::<()>(1);
        let queries = sentinel::run_queries(Arc::clone(&self.core), address.clone(), triggered);
        let subscription = sentinel::run_subscription(Arc::clone(&self.core), address.clone());
        self.core.sentinel_list.add(address.clone());
        self.tasks.insert(address, SentinelTasks { trigger, _subscription: alive });
        [Box::pin(queries), Box::pin(future::or(subscription, dropped(ended)))]
    }

    /// Stops using a Sentinel.
    pub(crate) fn remove(&mut self, address: &Address) {
        self.core.sentinel_list.remove(address);
        self.membership.forget(address);
        self.tasks.remove(address);
    }

    pub(crate) fn query_all(&self) {
        for sentinel in self.tasks.values() {
            // A full channel means that a query is already due.
            let _ = sentinel.trigger.try_send(());
        }
    }

    /// Records whether a Sentinel answered.
    pub(crate) fn on_answer(&mut self, sentinel: &Address, is_up: bool) {
        if !self.tasks.contains_key(sentinel) {
            return;
        }
        match is_up {
            true => self.core.sentinel_list.answered(sentinel),
            false => self.core.sentinel_list.failed(sentinel),
        }
        if let Some(event) = self.membership.update(sentinel, is_up) {
            self.core.events.send(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn hold_is_shorter_than_callers_wait() {
        let hold = |failover_wait: f64| {
            let settings = RedisConfig::builder().failover_wait(Duration::from_secs_f64(failover_wait));
            failover_config(&settings.build().unwrap()).promotion_hold
        };
        assert_eq!(hold(30.0), Duration::from_secs(2));
        assert_eq!(hold(1.0), Duration::from_millis(500));
        assert_eq!(hold(0.0), Duration::ZERO);
    }
}
