//! One look at the servers, when a caller asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::address::Address;
use crate::engine::core::Core;
use crate::engine::sentinel_task::ask;
use crate::engine::supervisor::rules;
use crate::error::{Error, Kind};
use crate::sentinel::{Action, Follower, Input, Instance, View, is_up};
use crate::topology::{Replica, SentinelState, Topology};

/// Asks every Sentinel that is known at once, then those that they name, and decides as the client does when it starts.
pub(crate) async fn discover(core: &Arc<Core>) -> Result<Topology, Error> {
    let mut unasked = core.sentinel_list.addresses();
    let mut follower = Follower::new(rules(&core.config), &unasked, core.runtime.now());
    let mut answers = BTreeMap::new();
    let mut master = None;
    while !unasked.is_empty() {
        let asked = core.runtime.now();
        for (sentinel, answer) in ask_all(core, &std::mem::take(&mut unasked)).await? {
            let answer = answer.map_err(|error| error.message().to_owned());
            answers.insert(sentinel.clone(), answer.clone());
            for action in follower.handle(Input::Answer { sentinel, asked, answer }, core.runtime.now()) {
                match action {
                    Action::Follow(address) => master = Some(address),
                    Action::Meet(others) => unasked.extend(others),
                    _ => {}
                }
            }
        }
    }
    let master = master.ok_or_else(|| {
        Error::new(core.sentinel_list.hopeless().unwrap_or(Kind::Sentinel), follower.account())
    })?;
    Ok(describe(master, answers))
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
fn describe(master: Address, mut answers: BTreeMap<Address, Result<View, String>>) -> Topology {
    // One that was asked at two addresses counts once.
    let mut ids = BTreeSet::new();
    answers.retain(|_, answer| match answer {
        Ok(View { id: Some(id), .. }) => ids.insert(id.clone()),
        _ => true,
    });
    let mut topology = Topology::of(master);
    let naming = answers.values().flatten().filter_map(|view| Some((view.master.as_ref()?, view)));
    topology.sentinels = naming.clone().count();
    let newest = naming.filter(|(named, _)| named.address == topology.master);
    if let Some((named, view)) = newest.max_by_key(|(named, _)| named.epoch) {
        topology.replicas = view.replicas.iter().map(replica).collect();
        // One that does not say how many there are knows no fewer than answer.
        topology.known_sentinels = (named.other_sentinels + 1).max(topology.sentinels);
        topology.quorum = named.quorum;
        topology.epoch = named.epoch;
        topology.master_healthy = is_up(&named.flags);
    }
    topology.sentinel_states = answers.into_iter().map(|(address, answer)| state(address, answer)).collect();
    topology
}

fn state(address: Address, answer: Result<View, String>) -> SentinelState {
    match answer {
        Ok(View { master: Some(master), tilt, .. }) => SentinelState {
            address,
            master: Some(master.address),
            epoch: Some(master.epoch),
            tilt,
            error: None,
        },
        Ok(View { refusal, tilt, .. }) => {
            let error = refusal.unwrap_or_else(|| "it knows no master of this name".to_owned());
            SentinelState { address, master: None, epoch: None, tilt, error: Some(error) }
        }
        Err(error) => SentinelState { address, master: None, epoch: None, tilt: false, error: Some(error) },
    }
}

fn replica(instance: &Instance) -> Replica {
    Replica::new(instance.address.clone(), instance.is_up() && instance.master_link_up)
}
