//! The task that knows who is master: it gathers what is heard, asks the state machine, and carries out what
//! that says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures_lite::future;
use redis::cmd;

use crate::address::Address;
use crate::engine::connector::GivenBy;
use crate::engine::core::Core;
use crate::engine::sentinel_task;
use crate::engine::time::{sleep, until};
use crate::error::{Error, Kind};
use crate::pool::Generation;
use crate::proto::{Role, read_role};
use crate::sentinel::{Action, Follower, Input};

/// How often a replica that is being promoted is asked for its role.
const ROLE_INTERVAL: Duration = Duration::from_millis(15);
/// Notices that wait for the supervisor. More are dropped: the poll beneath finds out what they would say.
const NOTICES: usize = 256;

/// What the supervisor is told.
#[derive(Debug)]
pub(crate) enum Notice {
    /// From the Sentinels, or from a watched replica.
    Heard(Input),
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

/// The supervisor's letter box.
#[derive(Debug)]
pub(crate) struct Notices {
    sender: Sender<Notice>,
    receiver: Receiver<Notice>,
}

impl Notices {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = async_channel::bounded(NOTICES);
        Self { sender, receiver }
    }

    pub(crate) fn tell(&self, notice: Notice) {
        if let Err(error) = self.sender.try_send(notice) {
            tracing::debug!(%error, "a notice was dropped");
        }
    }
}

pub(crate) async fn run(core: Arc<Core>) {
    let mut supervisor = Supervisor::new(Arc::clone(&core));
    supervisor.meet(core.config.sentinel_hosts().to_vec());
    future::or(supervisor.supervise(), core.pool.closing()).await;
}

struct Supervisor {
    core: Arc<Core>,
    follower: Follower,
    generation: Generation,
    /// Rings the tasks that ask the Sentinels.
    bells: BTreeMap<Address, Sender<()>>,
    /// Ends the watch over a replica when it is dropped.
    watch: Option<Sender<()>>,
}

impl Supervisor {
    fn new(core: Arc<Core>) -> Self {
        let config = &core.config;
        let now = core.runtime.now();
        let follower = Follower::new(config.sentinel_master_name(), config.sentinel_hosts(), now);
        Self { follower, generation: Generation::default(), bells: BTreeMap::new(), watch: None, core }
    }

    async fn supervise(&mut self) {
        let core = Arc::clone(&self.core);
        loop {
            let next = async { core.notices.receiver.recv().await.ok() };
            let tick = self.follower.next_tick();
            let input = match until(&*core.runtime, tick, next).await {
                Ok(None) => return,
                Ok(Some(notice)) => self.input(notice),
                Err(_) => Some(Input::Tick),
            };
            if let Some(input) = input {
                let actions = self.follower.handle(input, core.runtime.now());
                actions.into_iter().for_each(|action| self.carry_out(action));
            }
        }
    }

    /// Connections of an older generation have nothing to say any more.
    fn input(&self, notice: Notice) -> Option<Input> {
        let (generation, input) = match notice {
            Notice::Heard(input) => return Some(input),
            Notice::Connected { generation } => (generation, Input::Connected),
            Notice::Lost { generation } => (generation, Input::Lost),
            Notice::NotMaster { generation } => (generation, Input::NotMaster),
        };
        (generation == self.generation).then_some(input)
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Ask => self.bells.values().for_each(|bell| {
                // A full channel says that the task is to ask anyway.
                let _ = bell.try_send(());
            }),
            Action::Meet(sentinels) => self.meet(sentinels),
            Action::Follow(address) => {
                let master_name = self.core.config.sentinel_master_name().to_owned();
                self.generation = self.core.pool.follow(address.clone(), GivenBy::Sentinels { master_name });
                tracing::info!(%address, generation = %self.generation, "following the master");
            }
            Action::Hold => {
                tracing::info!("a replica was selected for promotion: holding commands back");
                self.core.pool.hold();
            }
            Action::Release => self.core.pool.release(),
            Action::Watch(replica) => self.watch(replica),
            Action::Unwatch => self.watch = None,
            Action::Fail(account) => self.core.pool.fail(Error::new(Kind::Sentinel, account)),
        }
    }

    fn meet(&mut self, sentinels: Vec<Address>) {
        for address in sentinels {
            let (bell, rung) = async_channel::bounded(1);
            let core = Arc::clone(&self.core);
            self.spawn(sentinel_task::answer(core, address.clone(), rung));
            self.spawn(sentinel_task::listen(Arc::clone(&self.core), address.clone()));
            self.bells.insert(address, bell);
        }
    }

    fn watch(&mut self, replica: Address) {
        let (watch, unwatched) = async_channel::bounded::<()>(1);
        self.watch = Some(watch);
        let core = Arc::clone(&self.core);
        self.spawn(async move {
            future::or(watch_promotion(&core, replica), async {
                let _ = unwatched.recv().await;
            })
            .await;
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

/// Asks a replica for its role until it is master, on one connection for as long as that lasts.
async fn watch_promotion(core: &Core, replica: Address) {
    let given_by = GivenBy::Sentinels { master_name: core.config.sentinel_master_name().to_owned() };
    loop {
        if let Ok((mut dialog, mut role)) = core.data.connect(&replica, &given_by).await {
            loop {
                if role == Some(Role::Master) {
                    tracing::info!(%replica, "the replica is master");
                    core.notices.tell(Notice::Heard(Input::Promoted(replica)));
                    return;
                }
                sleep(&*core.runtime, ROLE_INTERVAL).await;
                let bound = core.runtime.now() + core.config.socket_connect_timeout();
                match until(&*core.runtime, bound, dialog.ask(&[cmd("ROLE")])).await {
                    Ok(Ok(replies)) => role = replies.first().and_then(|reply| read_role(reply).ok()),
                    _ => break,
                }
            }
        }
        sleep(&*core.runtime, ROLE_INTERVAL).await;
    }
}
