//! The task that monitors the topology: it collects inputs, passes them to the source, and runs the actions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use futures_lite::future;

use crate::address::Address;
use crate::config::RedisConfig;
use crate::coop_budget::CoopBudget;
use crate::error::{Error, Kind};
use crate::events::Event;
use crate::generation::Generation;
use crate::node::core::Core;
use crate::node::shard::Shard;
use crate::sync::Seen;
use crate::tasks::membership::ReplicaMembership;
#[cfg(feature = "sentinel")]
use crate::tasks::sentinels::{self, Sentinels};
use crate::tasks::watch_promotion::watch_promotion;
use crate::tasks::{custom_source, dropped};
use crate::time::until;
use crate::topology::{Action, AddressSource, Input, MonitorEvent, ShardId, Source, SourceKind};

pub(crate) struct TopologyMonitor {
    core: Arc<Core>,
    source: Source,
    config: Seen<RedisConfig>,
    shards: BTreeMap<ShardId, WatchedShard>,
    #[cfg(feature = "sentinel")]
    sentinels: Sentinels,
}

/// A shard, and what is in progress there.
struct WatchedShard {
    shard: Arc<Shard>,
    /// The generation of the current master.
    generation: Generation,
    /// What names that master, for errors.
    address_source: AddressSource,
    membership: ReplicaMembership,
    /// Whether a switch was announced and is neither done nor aborted yet.
    switching: bool,
    /// Stops watching a replica that is being promoted when it is dropped.
    promotion: Option<Sender<()>>,
}

impl TopologyMonitor {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        let source = match core.source {
            SourceKind::Direct => Source::Direct(core.config().address()),
            SourceKind::Custom => Source::Custom(None),
            #[cfg(feature = "sentinel")]
            SourceKind::Sentinel => sentinels::source(&core.config(), core.runtime.now()),
        };
        let watched = |shard: &Arc<Shard>| WatchedShard {
            shard: Arc::clone(shard),
            generation: Generation::default(),
            address_source: source.address_source(),
            membership: ReplicaMembership::default(),
            switching: false,
            promotion: None,
        };
        let table = core.routing.load();
        let shards = table.shards().iter().map(|shard| (shard.id, watched(shard))).collect();
        Self {
            source,
            config: Seen::of(core.config_snapshot()),
            shards,
            #[cfg(feature = "sentinel")]
            sentinels: Sentinels::new(core),
            core: Arc::clone(core),
        }
    }

    /// Runs the first action of the source, if it has one.
    pub(crate) fn start(&mut self) {
        if let Some((shard, action)) = self.source.start() {
            self.run_action(shard, action);
        }
    }

    /// Monitors the topology until the client is closed.
    pub(crate) async fn run(mut self) {
        self.start_tasks();
        let core = Arc::clone(&self.core);
        future::or(self.watch(), core.lifecycle.closing()).await;
    }

    /// Starts the tasks of the source. The monitor's own task does it: if the runtime refuses that one, nothing was taken
    /// or changed, and the next call starts the client.
    fn start_tasks(&mut self) {
        if let Some(source) = self.core.take_custom_source() {
            let task = custom_source::run(Arc::clone(&self.core), source);
            self.spawn(ShardId::default(), task);
        }
        #[cfg(feature = "sentinel")]
        if self.core.source == SourceKind::Sentinel {
            self.add_sentinels(self.core.config().sentinel_hosts().to_vec());
        }
    }

    async fn watch(&mut self) {
        let core = Arc::clone(&self.core);
        let mut budget = CoopBudget::new();
        loop {
            budget.spend_event();
            budget.proceed().await;
            let event = core.monitor.next();
            let input = match self.source.next_tick() {
                Some(tick) => until(&*core.runtime, tick, event).await,
                None => Ok(event.await),
            };
            let input = match input {
                Ok(Some(event)) => self.input_of(event),
                Ok(None) => return,
                Err(_) => Some((ShardId::default(), Input::Tick)),
            };
            if let Some((shard, input)) = input {
                self.handle(shard, input);
            }
        }
    }

    /// Returns the input of an event; `None` if it comes from connections of an older generation.
    fn input_of(&mut self, event: MonitorEvent) -> Option<(ShardId, Input)> {
        match event {
            MonitorEvent::Source(input) => {
                #[cfg(feature = "sentinel")]
                if let Input::Answer { sentinel, answer, .. } = &*input {
                    self.sentinels.on_answer(sentinel, answer.is_ok());
                }
                Some((ShardId::default(), *input))
            }
            #[cfg(feature = "sentinel")]
            MonitorEvent::Published(input, share) => {
                // The Sentinel may send another event.
                drop(share);
                Some((ShardId::default(), *input))
            }
            MonitorEvent::Shard { shard, generation, input } => {
                let current = self.shards.get(&shard).map(|watched| watched.generation);
                (current == Some(generation)).then_some((shard, *input))
            }
        }
    }

    fn handle(&mut self, shard: ShardId, input: Input) {
        if self.config.is_outdated(self.core.config_snapshot()) {
            self.config = Seen::of(self.core.config_snapshot());
            self.source.set_promotion_hold(promotion_hold(self.config.value()));
        }
        let lists_replicas = input.lists_replicas();
        let actions = self.source.handle(shard, input, self.core.runtime.now());
        let replicas = self.source.replicas().filter(|_| lists_replicas);
        if let (Some(replicas), Some(watched)) = (replicas, self.shards.get_mut(&shard)) {
            let events = watched.membership.update(&replicas);
            events.into_iter().for_each(|event| self.core.events.send(event));
            watched.shard.list_replicas(replicas);
        }
        actions.into_iter().for_each(|(shard, action)| self.run_action(shard, action));
        self.update_address_source(shard);
    }

    fn run_action(&mut self, id: ShardId, action: Action) {
        let Some(watched) = self.shards.get_mut(&id) else { return };
        let shard = &watched.shard;
        match action {
            Action::Follow(address) => self.follow(id, address),
            Action::AllowReconnect => shard.confirm(),
            Action::Hold => {
                tracing::info!(shard = %id, "replica selected for promotion: holding commands");
                shard.hold();
            }
            Action::Release => shard.release(),
            Action::RefuseWrites(reason) => {
                tracing::warn!(shard = %id, reason, "refusing writes (sentinel_require_majority)");
                let message =
                    format!("writes are refused because sentinel_require_majority is set: {reason}");
                shard.restrict(Some(Error::new(Kind::Sentinel, message)));
            }
            Action::AllowWrites => {
                tracing::info!(shard = %id, "allowing writes again: a majority of the Sentinels answers");
                shard.restrict(None);
            }
            Action::Warn(what) => tracing::warn!("{what}"),
            Action::Fail(reason) => shard.fail(Error::new(failure_kind(&self.core), reason)),
            Action::Watch { replica, was_master } => {
                watched.announce_switch(&self.core, replica.clone());
                let (promotion, unwatched) = async_channel::bounded::<()>(1);
                watched.promotion = Some(promotion);
                let core = Arc::clone(&self.core);
                self.spawn(id, async move {
                    future::or(watch_promotion(&core, replica, was_master), dropped(unwatched)).await;
                });
            }
            Action::Unwatch => {
                watched.abandon_switch(&self.core);
                watched.promotion = None;
            }
            #[cfg(feature = "sentinel")]
            Action::QuerySentinels => self.sentinels.query_all(),
            #[cfg(feature = "sentinel")]
            Action::AddSentinels(addresses) => self.add_sentinels(addresses),
            #[cfg(feature = "sentinel")]
            Action::RemoveSentinel(address) => self.sentinels.remove(&address),
        }
    }

    fn follow(&mut self, id: ShardId, address: Address) {
        let Some(watched) = self.shards.get_mut(&id) else { return };
        watched.switching = false;
        watched.address_source = self.source.address_source();
        if self.core.source.names_master() {
            let (from, epoch) = (watched.shard.master(), self.source.epoch());
            self.core.events.send(Event::Switched { from, to: address.clone(), epoch });
        }
        watched.generation = watched.shard.follow(address.clone(), watched.address_source.clone());
        tracing::info!(shard = %id, %address, generation = %watched.generation, "following master");
    }

    /// Updates what errors about the master report as its source.
    fn update_address_source(&mut self, shard: ShardId) {
        let Some(watched) = self.shards.get_mut(&shard) else { return };
        let address_source = self.source.address_source();
        if watched.address_source != address_source {
            watched.address_source = address_source.clone();
            watched.shard.set_address_source(address_source);
        }
    }

    #[cfg(feature = "sentinel")]
    fn add_sentinels(&mut self, addresses: Vec<Address>) {
        for address in addresses {
            for task in self.sentinels.add(address) {
                self.spawn(ShardId::default(), task);
            }
        }
    }

    /// Starts a task that ends when the client is closed.
    fn spawn(&self, shard: ShardId, work: impl Future<Output = ()> + Send + 'static) {
        let core = Arc::clone(&self.core);
        let task = async move { future::or(work, core.lifecycle.closing()).await };
        if let Err(error) = self.core.spawn(Box::pin(task))
            && let Some(watched) = self.shards.get(&shard)
        {
            watched.shard.fail(error);
        }
    }
}

/// Returns how long commands are held back. With a longer hold, calls would time out while they are held for nothing.
pub(crate) fn promotion_hold(config: &RedisConfig) -> Duration {
    config.promotion_hold().min(config.failover_wait() / 2)
}

/// Returns the kind of error for calls that find no master.
fn failure_kind(core: &Core) -> Kind {
    match core.source {
        #[cfg(feature = "sentinel")]
        SourceKind::Sentinel => core.sentinel_list.permanent_failure().unwrap_or(Kind::Sentinel),
        SourceKind::Direct | SourceKind::Custom => Kind::Connect,
    }
}

impl WatchedShard {
    fn announce_switch(&mut self, core: &Core, candidate: Address) {
        self.switching = true;
        self.shard.on_failover_begun(core.runtime.now());
        core.events.send(Event::SwitchBegun { from: self.shard.master(), candidate });
    }

    fn abandon_switch(&mut self, core: &Core) {
        if std::mem::take(&mut self.switching) {
            self.shard.on_failover_abandoned();
            core.events.send(Event::SwitchAbandoned);
        }
    }
}
