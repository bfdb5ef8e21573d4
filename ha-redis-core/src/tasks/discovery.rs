//! A query of the current topology on behalf of a caller.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::error::{Error, Kind};
use crate::node::core::{Core, not_driven};
use crate::tasks::sentinel::query;
use crate::tasks::sentinels::failover_config;
use crate::time::{Elapsed, until};
use crate::topology::Topology;
use crate::topology::sentinel::{FailoverConfig, QueryError, SentinelMonitor, SentinelReport};
use crate::topology::{Action, Input};

/// How late a task may be.
const GRACE: Duration = Duration::from_secs(1);

/// Queries every configured Sentinel at once, then those that they list, and decides as the client does at its start.
/// Sentinels that were discovered before are queried if none of the configured ones is of use.
pub(crate) async fn discover(core: &Arc<Core>) -> Result<Topology, Error> {
    let known = core.sentinel_list.addresses();
    match discover_from(core, core.config().sentinel_hosts()).await {
        Err(_) if known.len() > core.config().sentinel_hosts().len() => discover_from(core, &known).await,
        discovered => discovered,
    }
}

async fn discover_from(core: &Arc<Core>, sentinels: &[Address]) -> Result<Topology, Error> {
    let mut unqueried = sentinels.to_vec();
    let config = FailoverConfig { initial_attempts: 1, ..failover_config(&core.config()) };
    let mut monitor = SentinelMonitor::new(config, &unqueried, core.runtime.now());
    // Each is queried once, so the loop ends whatever they list.
    let mut known: BTreeSet<_> = unqueried.iter().cloned().collect();
    while !unqueried.is_empty() {
        let asked_at = core.runtime.now();
        for (sentinel, answer) in query_all(core, &std::mem::take(&mut unqueried)).await? {
            let answer = answer.map_err(|error| QueryError::from(&error));
            for action in monitor.handle(Input::Answer { sentinel, asked_at, answer }, core.runtime.now()) {
                if let Action::AddSentinels(others) = action {
                    unqueried.extend(others.into_iter().filter(|other| known.insert(other.clone())));
                }
            }
        }
    }
    monitor.topology().map_err(|explain| {
        Error::new(core.sentinel_list.permanent_failure().unwrap_or(Kind::Sentinel), explain)
    })
}

async fn query_all(
    core: &Arc<Core>,
    sentinels: &[Address],
) -> Result<Vec<(Address, Result<SentinelReport, Error>)>, Error> {
    let (sender, receiver) = async_channel::bounded(sentinels.len().max(1));
    for sentinel in sentinels.iter().cloned() {
        let (sender, querier) = (sender.clone(), Arc::clone(core));
        core.spawn(Box::pin(async move {
            let answer = query(&querier, &sentinel, &mut None).await;
            // The receiver is gone if the caller was dropped.
            let _ = sender.send((sentinel, answer)).await;
        }))?;
    }
    drop(sender);
    let config = core.config();
    // If the client's runtime is not driven, the tasks miss their own deadlines.
    let timeout = config.sentinel_socket_connect_timeout() + config.sentinel_socket_timeout() + GRACE;
    let mut answers = Vec::new();
    let all = async {
        while let Ok(answer) = receiver.recv().await {
            answers.push(answer);
        }
    };
    let received = until(&*core.runtime, core.runtime.now() + timeout, all).await;
    match received {
        Err(Elapsed) if answers.is_empty() => Err(not_driven()),
        _ => Ok(answers),
    }
}
