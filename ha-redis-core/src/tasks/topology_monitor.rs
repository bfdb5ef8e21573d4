//! The task that knows who is master: it gathers what is heard, asks the state machine, and carries out what
//! that says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use futures_lite::future;

use crate::address::Address;
use crate::config::RedisConfig;
use crate::conn::link::Generation;
use crate::conn::raw_connection::RawConnection;
use crate::coop_budget::CoopBudget;
use crate::error::{Error, Kind};
use crate::events::Event;
use crate::node::core::Core;
use crate::node::outage::OutageCause;
use crate::node::shard::AddressSource;
use crate::proto::Role;
use crate::retry::{Backoff, Jitter};
use crate::tasks::membership::Membership;
use crate::tasks::sentinel;
use crate::time::{sleep_until, until};
use crate::topology::sentinel::{Action, FailoverConfig, Input, Naming, SentinelMonitor};

/// How often a replica that is being promoted is asked for its role: most turn master within a second. For those that do
/// not, the pauses grow with the time that has passed.
const ROLE_INTERVAL: Duration = Duration::from_millis(15);
const LONGEST_ROLE_INTERVAL: Duration = Duration::from_millis(250);
/// Between attempts to reach it.
const REDIAL: Backoff =
    Backoff { base: ROLE_INTERVAL, cap: Duration::from_millis(250), jitter: Jitter::Equal };
/// When so many notices wait for the supervisor, what Sentinels publish is dropped: the poll beneath finds out what it
/// would say. There are few of all others, and nothing makes up for them.
const NOTICES: usize = 256;

/// What the supervisor is told.
#[derive(Debug)]
pub(crate) enum MonitorEvent {
    /// From the Sentinels, or from a watched replica.
    Heard(Box<Input>),
    /// From the connections of one generation.
    Connected {
        generation: Generation,
    },
    Lost {
        generation: Generation,
    },
    NotMaster {
        generation: Generation,
    },
}

impl From<Input> for MonitorEvent {
    fn from(input: Input) -> Self {
        Self::Heard(Box::new(input))
    }
}

/// The supervisor's letter box.
#[derive(Debug)]
pub(crate) struct MonitorMailbox {
    sender: Sender<MonitorEvent>,
    receiver: Receiver<MonitorEvent>,
}

impl MonitorMailbox {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = async_channel::unbounded();
        Self { sender, receiver }
    }

    pub(crate) fn tell(&self, notice: MonitorEvent) {
        let published =
            matches!(&notice, MonitorEvent::Heard(input) if matches!(**input, Input::Heard { .. }));
        if published && self.sender.len() >= NOTICES {
            tracing::debug!(?notice, "a notice was dropped");
        } else {
            // The receiver stands beside the sender: this cannot fail.
            let _ = self.sender.try_send(notice);
        }
    }
}

pub(crate) async fn run(core: Arc<Core>) {
    let mut supervisor = TopologyMonitor::new(Arc::clone(&core));
    supervisor.add_sentinels(core.config.sentinel_hosts().to_vec());
    future::or(supervisor.supervise(), core.pool.closing()).await;
}

/// The tasks of one Sentinel. They end when this is dropped.
struct SentinelTasks {
    /// Has it asked.
    bell: Sender<()>,
    _listening: Sender<()>,
}

struct TopologyMonitor {
    core: Arc<Core>,
    follower: SentinelMonitor,
    generation: Generation,
    sentinels: BTreeMap<Address, SentinelTasks>,
    roll: Membership,
    /// Ends the watch over a replica when it is dropped.
    watch: Option<Sender<()>>,
    /// A switch was announced, and neither done nor abandoned yet.
    switching: bool,
    naming: Naming,
}

impl TopologyMonitor {
    fn new(core: Arc<Core>) -> Self {
        let config = &core.config;
        let now = core.runtime.now();
        let follower = SentinelMonitor::new(rules(config), config.sentinel_hosts(), now);
        Self {
            follower,
            generation: Generation::default(),
            sentinels: BTreeMap::new(),
            roll: Membership::default(),
            watch: None,
            switching: false,
            naming: Naming::default(),
            core,
        }
    }

    async fn supervise(&mut self) {
        let core = Arc::clone(&self.core);
        let mut budget = CoopBudget::new();
        loop {
            budget.spend_event();
            budget.proceed().await;
            let next = async { core.mailbox.receiver.recv().await.ok() };
            let tick = self.follower.next_tick();
            let input = match until(&*core.runtime, tick, next).await {
                Ok(None) => return,
                Ok(Some(notice)) => self.input(notice),
                Err(_) => Some(Input::Tick),
            };
            if let Some(input) = input {
                let answered = matches!(input, Input::Answer { .. });
                let actions = self.follower.handle(input, core.runtime.now());
                if let Some(replicas) = self.follower.replicas().filter(|_| answered) {
                    self.roll.replicas(&replicas).into_iter().for_each(|event| core.events.tell(event));
                    core.pool.list_replicas(replicas);
                }
                actions.into_iter().for_each(|action| self.carry_out(action));
                self.tell_naming();
            }
        }
    }

    /// Connections of an older generation have nothing to say any more.
    fn input(&mut self, notice: MonitorEvent) -> Option<Input> {
        let (generation, input) = match notice {
            MonitorEvent::Heard(input) => {
                if let Input::Answer { sentinel, answer, .. } = &*input
                    && self.sentinels.contains_key(sentinel)
                {
                    match answer {
                        Ok(_) => self.core.sentinel_list.answered(sentinel),
                        Err(_) => self.core.sentinel_list.failed(sentinel),
                    }
                    if let Some(event) = self.roll.sentinel(sentinel, answer.is_ok()) {
                        self.core.events.tell(event);
                    }
                }
                return Some(*input);
            }
            MonitorEvent::Connected { generation } => (generation, Input::Connected),
            MonitorEvent::Lost { generation } => (generation, Input::Lost),
            MonitorEvent::NotMaster { generation } => (generation, Input::NotMaster),
        };
        (generation == self.generation).then_some(input)
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Ask => self.sentinels.values().for_each(|sentinel| {
                // A full channel says that the task is to ask anyway.
                let _ = sentinel.bell.try_send(());
            }),
            Action::AddSentinels(sentinels) => self.add_sentinels(sentinels),
            Action::RemoveSentinel(sentinel) => {
                self.core.sentinel_list.remove(&sentinel);
                self.roll.forget_sentinel(&sentinel);
                self.sentinels.remove(&sentinel);
            }
            Action::Follow(address) => {
                self.switching = false;
                self.naming = self.follower.naming();
                let from = self.core.pool.master();
                let epoch = self.follower.epoch();
                self.core.events.tell(Event::Switched { from, to: address.clone(), epoch });
                self.generation =
                    self.core.pool.follow(address.clone(), address_source(&self.core, self.naming));
                tracing::info!(%address, generation = %self.generation, "following the master");
            }
            Action::Confirm => self.core.pool.confirm(),
            Action::Hold => {
                tracing::info!("a replica was selected for promotion: holding commands back");
                self.core.pool.hold();
            }
            Action::Release => self.core.pool.release(),
            Action::Watch { replica, before } => {
                self.announce_switch(replica.clone());
                self.watch(replica, before);
            }
            Action::Unwatch => {
                self.abandon_switch();
                self.watch = None;
            }
            Action::Close(explain) => {
                tracing::warn!(explain, "no more writes (sentinel_require_majority)");
                let message = format!("no writes, since sentinel_require_majority is set and {explain}");
                self.core.pool.restrict(Some(Error::new(Kind::Sentinel, message)));
            }
            Action::Open => {
                tracing::info!("writes go on: a majority of the Sentinels is back");
                self.core.pool.restrict(None);
            }
            Action::Warn(what) => tracing::warn!("{what}"),
            Action::Fail(explain) => {
                let kind = self.core.sentinel_list.permanent_failure().unwrap_or(Kind::Sentinel);
                self.core.pool.fail(Error::new(kind, explain));
            }
        }
    }

    /// Errors about the master say who names it.
    fn tell_naming(&mut self) {
        let naming = self.follower.naming();
        if naming != std::mem::replace(&mut self.naming, naming) {
            self.core.pool.rename(address_source(&self.core, naming));
        }
    }

    fn add_sentinels(&mut self, sentinels: Vec<Address>) {
        for address in sentinels {
            let (bell, rung) = async_channel::bounded(1);
            let (listening, ended) = async_channel::bounded::<()>(1);
            let core = Arc::clone(&self.core);
            self.spawn(sentinel::answer(core, address.clone(), rung));
            let listen = sentinel::listen(Arc::clone(&self.core), address.clone());
            self.spawn(future::or(listen, dropped(ended)));
            self.core.sentinel_list.add(address.clone());
            self.sentinels.insert(address, SentinelTasks { bell, _listening: listening });
        }
    }

    fn announce_switch(&mut self, candidate: Address) {
        self.switching = true;
        let from = self.core.pool.master();
        if let Some(master) = &from {
            self.core.outages.begin(OutageCause::Announced, master, self.core.runtime.now());
        }
        self.core.events.tell(Event::SwitchBegun { from, candidate });
    }

    fn abandon_switch(&mut self) {
        if std::mem::take(&mut self.switching) {
            self.core.outages.call_off();
            self.core.events.tell(Event::SwitchAbandoned);
        }
    }

    fn watch(&mut self, replica: Address, before: bool) {
        let (watch, unwatched) = async_channel::bounded::<()>(1);
        self.watch = Some(watch);
        let core = Arc::clone(&self.core);
        self.spawn(async move {
            future::or(watch_promotion(&core, replica, before), dropped(unwatched)).await;
        });
    }

    /// Starts a task that ends when the client is closed.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let core = Arc::clone(&self.core);
        let task = async move { future::or(work, core.pool.closing()).await };
        if let Err(error) = self.core.spawn(Box::pin(task)) {
            self.core.pool.fail(error);
        }
    }
}

/// Waits until the other end of the channel is dropped.
async fn dropped(channel: Receiver<()>) {
    let _ = channel.recv().await;
}

/// A Sentinel that is slow at the start answers one of so many questions, a quarter of a second apart.
const INITIAL_ATTEMPTS: u32 = 3;

pub(crate) fn rules(config: &RedisConfig) -> FailoverConfig {
    FailoverConfig {
        master_name: config.sentinel_master_name().to_owned(),
        early_promotion: config.early_promotion(),
        // With a longer one, callers would give up while commands are held back for nothing.
        promotion_hold: config.promotion_hold().min(config.failover_wait() / 2),
        require_majority: config.sentinel_require_majority(),
        initial_attempts: INITIAL_ATTEMPTS,
    }
}

fn address_source(core: &Core, naming: Naming) -> AddressSource {
    AddressSource::Sentinels { master_name: core.config.sentinel_master_name().to_owned(), naming }
}

/// Asks a replica for its role until it is master, on one connection for as long as that lasts. One that was master
/// `before` is believed only once it was a replica.
async fn watch_promotion(core: &Core, replica: Address, before: bool) {
    let mut believed = !before;
    let address_source = address_source(core, Naming::Selected);
    let start = core.runtime.now();
    for failures in 0.. {
        let began = core.runtime.now();
        if let Ok((raw, greeting)) = core.data.connect(&replica, &address_source).await
            && becomes_master(core, raw, greeting.role, start, &mut believed).await
        {
            tracing::info!(%replica, "the replica is master");
            core.mailbox.tell(MonitorEvent::from(Input::Promoted(replica)));
            return;
        }
        // A Sentinel that promotes a replica ends its connections, so a loss may well be the promotion.
        let pause = REDIAL.delay(failures, core.runtime.random());
        sleep_until(&*core.runtime, began + pause).await;
    }
}

/// Whether the server turned master before the connection ended.
async fn becomes_master(
    core: &Core,
    mut raw: RawConnection,
    mut role: Option<Role>,
    start: Instant,
    believed: &mut bool,
) -> bool {
    // It has nothing more to say than a handshake takes.
    raw.limit_to_handshake();
    loop {
        *believed |= role == Some(Role::Replica);
        if *believed && role == Some(Role::Master) {
            return true;
        }
        let now = core.runtime.now();
        let interval = now.saturating_duration_since(start) / 100;
        let pause = now + interval.clamp(ROLE_INTERVAL, LONGEST_ROLE_INTERVAL);
        if until(&*core.runtime, pause, raw.receive_value()).await.is_ok() {
            return false;
        }
        let bound = core.runtime.now() + core.config.socket_connect_timeout();
        match until(&*core.runtime, bound, raw.role()).await {
            Ok(Ok(is)) => role = is,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_not_held_back_for_longer_than_their_callers_wait() {
        let hold = |failover_wait: f64| {
            let settings = RedisConfig::builder().failover_wait(Duration::from_secs_f64(failover_wait));
            rules(&settings.build().unwrap()).promotion_hold
        };
        assert_eq!(hold(30.0), Duration::from_secs(2));
        assert_eq!(hold(1.0), Duration::from_millis(500));
        assert_eq!(hold(0.0), Duration::ZERO);
    }
}
