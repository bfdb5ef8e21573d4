//! One look at the servers, when a caller asks for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::error::{Error, Kind};
use crate::node::core::{Core, not_driven};
use crate::tasks::sentinel::ask;
use crate::tasks::sentinels::failover_config;
use crate::time::{Elapsed, until};
use crate::topology::Topology;
use crate::topology::sentinel::{FailoverConfig, QueryError, SentinelMonitor, SentinelReport};
use crate::topology::{Action, Input};

/// How late a task may be.
const GRACE: Duration = Duration::from_secs(1);

/// Asks every Sentinel of the configuration at once, then those that they name, and decides as the client does when it
/// starts. Those that were learned before are asked where those of the configuration are of no use.
pub(crate) async fn discover(core: &Arc<Core>) -> Result<Topology, Error> {
    let known = core.sentinel_list.addresses();
    match discover_from(core, core.config.sentinel_hosts()).await {
        Err(_) if known.len() > core.config.sentinel_hosts().len() => discover_from(core, &known).await,
        discovered => discovered,
    }
}

async fn discover_from(core: &Arc<Core>, sentinels: &[Address]) -> Result<Topology, Error> {
    let mut unasked = sentinels.to_vec();
    let config = FailoverConfig { initial_attempts: 1, ..failover_config(&core.config) };
    let mut follower = SentinelMonitor::new(config, &unasked, core.runtime.now());
    // Each is asked once: whatever they name, this comes to an end.
    let mut known: BTreeSet<_> = unasked.iter().cloned().collect();
    while !unasked.is_empty() {
        let asked = core.runtime.now();
        for (sentinel, answer) in ask_all(core, &std::mem::take(&mut unasked)).await? {
            let answer = answer.map_err(|error| QueryError::from(&error));
            for action in
                follower.handle(Input::Answer { sentinel, asked_at: asked, answer }, core.runtime.now())
            {
                if let Action::AddSentinels(others) = action {
                    unasked.extend(others.into_iter().filter(|other| known.insert(other.clone())));
                }
            }
        }
    }
    follower.topology().map_err(|explain| {
        Error::new(core.sentinel_list.permanent_failure().unwrap_or(Kind::Sentinel), explain)
    })
}

async fn ask_all(
    core: &Arc<Core>,
    sentinels: &[Address],
) -> Result<Vec<(Address, Result<SentinelReport, Error>)>, Error> {
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
    let config = &core.config;
    // Where the client's runtime is not driven, the tasks' own bounds are not kept.
    let patience = config.sentinel_socket_connect_timeout() + config.sentinel_socket_timeout() + GRACE;
    let mut answers = Vec::new();
    let all = async {
        while let Ok(answer) = receiver.recv().await {
            answers.push(answer);
        }
    };
    let told = until(&*core.runtime, core.runtime.now() + patience, all).await;
    match told {
        Err(Elapsed) if answers.is_empty() => Err(not_driven()),
        _ => Ok(answers),
    }
}
