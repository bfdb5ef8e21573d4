//! Watches a replica that is being promoted.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::config::Jitter;
use crate::conn::raw_connection::RawConnection;
use crate::node::core::Core;
use crate::proto::Role;
use crate::retry::Backoff;
use crate::time::{sleep_until, until};
use crate::topology::{AddressSource, Input, MonitorEvent, Naming};

/// How often a replica that is being promoted is asked for its role. Most become master within a second; for others
/// the interval grows with the time that has passed.
const ROLE_INTERVAL: Duration = Duration::from_millis(15);
const MAX_ROLE_INTERVAL: Duration = Duration::from_millis(250);
/// The pauses between attempts to connect.
const RECONNECT: Backoff =
    Backoff { base: ROLE_INTERVAL, cap: Duration::from_millis(250), jitter: Jitter::Equal };

/// Asks a replica for its role until it is master, on one connection as long as that lasts. If it was master
/// before, its role counts only once it has reported the role replica.
pub(crate) async fn watch_promotion(core: &Core, replica: Address, was_master: bool) {
    let mut is_role_trusted = !was_master;
    let master_name = core.config().sentinel_master_name().to_owned();
    let address_source = AddressSource::Sentinels { master_name, naming: Naming::Selected };
    let start = core.runtime.now();
    for failures in 0.. {
        let began = core.runtime.now();
        if let Ok((raw, greeting)) = core.data.connect(&replica, &address_source).await
            && becomes_master(core, raw, greeting.role, start, &mut is_role_trusted).await
        {
            tracing::info!(%replica, "the replica is master");
            core.monitor.send(MonitorEvent::from(Input::Promoted(replica)));
            return;
        }
        // Sentinel ends the connections of a replica that it promotes, so a lost connection may be the promotion.
        let pause = RECONNECT.delay(failures, core.runtime.random());
        sleep_until(&*core.runtime, began + pause).await;
    }
}

/// Returns true if the server became master before the connection ended.
async fn becomes_master(
    core: &Core,
    mut raw: RawConnection,
    mut role: Option<Role>,
    start: Instant,
    is_role_trusted: &mut bool,
) -> bool {
    // Its replies are no larger than those of a handshake.
    raw.limit_to_handshake();
    loop {
        *is_role_trusted |= role == Some(Role::Replica);
        if *is_role_trusted && role == Some(Role::Master) {
            return true;
        }
        let now = core.runtime.now();
        let interval = now.saturating_duration_since(start) / 100;
        let pause = now + interval.clamp(ROLE_INTERVAL, MAX_ROLE_INTERVAL);
        if until(&*core.runtime, pause, raw.receive_value()).await.is_ok() {
            return false;
        }
        let bound = core.runtime.now() + core.config().socket_connect_timeout();
        match until(&*core.runtime, bound, raw.role()).await {
            Ok(Ok(is)) => role = is,
            _ => return false,
        }
    }
}
