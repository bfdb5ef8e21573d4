//! One look at the servers, when a caller asks for it.

use std::sync::Arc;

use crate::address::Address;
use crate::engine::core::Core;
use crate::engine::sentinel_task::ask;
use crate::error::{Error, Kind};
use crate::sentinel::{Action, Follower, Input, Instance, View};
use crate::topology::{Replica, Topology};

/// Asks every Sentinel of the configuration at once, and decides as the client does when it starts.
pub(crate) async fn discover(core: &Arc<Core>) -> Result<Topology, Error> {
    let sentinels = core.config.sentinel_hosts();
    let answers = ask_all(core, sentinels).await?;
    let mut follower = Follower::new(core.config.sentinel_master_name(), sentinels, core.runtime.now());
    let mut views = Vec::new();
    let mut decided = None;
    for (sentinel, answer) in answers {
        views.extend(answer.clone());
        let input = Input::Answer { sentinel, answer: answer.map_err(|error| error.message().to_owned()) };
        for action in follower.handle(input, core.runtime.now()) {
            match action {
                Action::Follow(address) => decided = Some(Ok(address)),
                Action::Fail(account) => decided = Some(Err(Error::new(Kind::Sentinel, account))),
                _ => {}
            }
        }
    }
    let unknown = || Err(Error::new(Kind::Sentinel, "the Sentinels have not agreed on a master"));
    Ok(describe(decided.unwrap_or_else(unknown)?, &views))
}

async fn ask_all(
    core: &Arc<Core>,
    sentinels: &[Address],
) -> Result<Vec<(Address, Result<View, Error>)>, Error> {
    let (sender, receiver) = async_channel::bounded(sentinels.len().max(1));
    for sentinel in sentinels.iter().cloned() {
        let (sender, asker) = (sender.clone(), Arc::clone(core));
        core.spawn(Box::pin(async move {
            let answer = ask(&asker, &sentinel, &mut None).await;
            // Nobody listens when the caller has gone away.
            let _ = sender.send((sentinel, answer)).await;
        }))?;
    }
    drop(sender);
    let mut answers = Vec::new();
    while let Ok(answer) = receiver.recv().await {
        answers.push(answer);
    }
    Ok(answers)
}

/// The topology by the newest of the views that name this master.
fn describe(master: Address, views: &[View]) -> Topology {
    let naming = views.iter().filter_map(|view| Some((view.master.as_ref()?, view)));
    let newest = naming.filter(|(named, _)| named.address == master).max_by_key(|(named, _)| named.epoch);
    let answered = views.iter().filter(|view| view.master.is_some()).count();
    let Some((named, view)) = newest else {
        return Topology { sentinels: answered, ..Topology::of(master) };
    };
    Topology {
        replicas: view.replicas.iter().map(replica).collect(),
        sentinels: answered,
        known_sentinels: named.other_sentinels + 1,
        quorum: named.quorum,
        epoch: named.epoch,
        master_healthy: is_up(&named.flags),
        ..Topology::of(master)
    }
}

fn replica(instance: &Instance) -> Replica {
    Replica { address: instance.address.clone(), healthy: is_up(&instance.flags) && instance.master_link_up }
}

fn is_up(flags: &str) -> bool {
    !flags.split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected" | "master_down"))
}
