//! One look at the servers, when a caller asks for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::address::Address;
use crate::engine::core::Core;
use crate::engine::sentinel_task::ask;
use crate::error::{Error, Kind};
use crate::sentinel::{Action, Follower, Input, Instance, View, is_up};
use crate::topology::{Replica, Topology};

/// Asks every Sentinel of the configuration at once, then those that they name, and decides as the client does when it starts.
pub(crate) async fn discover(core: &Arc<Core>) -> Result<Topology, Error> {
    let sentinels = core.config.sentinel_hosts();
    let mut follower = Follower::new(core.config.sentinel_master_name(), sentinels, core.runtime.now());
    let mut views = BTreeMap::new();
    let mut master = None;
    let mut unasked = sentinels.to_vec();
    while !unasked.is_empty() {
        for (sentinel, answer) in ask_all(core, &std::mem::take(&mut unasked)).await? {
            if let Ok(view) = &answer {
                // One that was asked by two addresses counts once.
                views.insert(view.id.clone().unwrap_or_else(|| sentinel.to_string()), view.clone());
            }
            let answer = answer.map_err(|error| error.message().to_owned());
            for action in follower.handle(Input::Answer { sentinel, answer }, core.runtime.now()) {
                match action {
                    Action::Follow(address) => master = Some(address),
                    Action::Meet(others) => unasked.extend(others),
                    _ => {}
                }
            }
        }
    }
    let master = master.ok_or_else(|| Error::new(Kind::Sentinel, follower.account()))?;
    Ok(describe(master, &views.into_values().collect::<Vec<_>>()))
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
    Replica::new(instance.address.clone(), instance.is_up() && instance.master_link_up)
}
