//! Tests what callers see while the master changes.

use std::time::Duration;

use ha_redis_core::{Outcome, RedisErrorExt};
use redis::AsyncCommands;

use super::kit::{Kit, blocked_clients};
use super::load::{Load, check};
use crate::{Error, Server, Topology};

tests! {
    everywhere: [
        killed_master_delays_calls,
        hung_master_delays_calls,
        planned_failover_loses_no_writes,
        killed_master_delays_calls_with_min_replicas,
        planned_failover_loses_no_writes_with_min_replicas,
        planned_failover_ends_calls_of_own_connections,
        killed_master_ends_calls_of_own_connections,
    ],
}

/// With this setting a master refuses writes while it has no replica.
const MIN_REPLICAS_CONFIG: &str = "min-replicas-to-write 1";

async fn killed_master_delays_calls(kit: Kit) {
    check_failover_delays_calls(&kit, kit.topology(), Topology::kill_master).await;
}

async fn hung_master_delays_calls(kit: Kit) {
    check_failover_delays_calls(&kit, kit.topology(), Topology::hang_master).await;
}

async fn killed_master_delays_calls_with_min_replicas(kit: Kit) {
    let topology = kit.topology_builder().config(MIN_REPLICAS_CONFIG).start().unwrap();
    check_failover_delays_calls(&kit, topology, Topology::kill_master).await;
}

async fn check_failover_delays_calls(
    kit: &Kit,
    topology: Topology,
    fault: fn(&Topology) -> Result<&Server, Error>,
) {
    let client = kit.client_of_topology(&topology).await;
    let load = Load::start(kit, &client);
    load.progress(1_000).await;
    let old = fault(&topology).unwrap();
    topology.wait_for_new_master(old).unwrap();
    load.progress(1_000).await;
    check(&topology, &load.finish().await);
}

async fn planned_failover_ends_calls_of_own_connections(kit: Kit) {
    check_calls_of_own_connections(&kit, Topology::planned_failover).await;
}

async fn killed_master_ends_calls_of_own_connections(kit: Kit) {
    check_calls_of_own_connections(&kit, Topology::kill_master).await;
}

/// Blocking calls and dedicated connections stay with the master on which they began.
async fn check_calls_of_own_connections(kit: &Kit, fault: fn(&Topology) -> Result<&Server, Error>) {
    let topology = kit.topology();
    let client = kit.client_of_topology(&topology).await;
    let mut own = client.dedicated().await.unwrap();
    own.set::<_, _, ()>("key", 1).await.unwrap();
    let (mut popping, mut reading) = (client.connection(), client.connection());
    let popping = kit.spawn(async move { popping.blpop::<_, (String, String)>("queue", 0.0).await });
    let reading = kit.spawn(async move {
        let mut read = redis::cmd("XREAD");
        read.arg("BLOCK")
            .arg(0)
            .arg("STREAMS")
            .arg("stream")
            .arg("0")
            .query_async::<redis::Value>(&mut reading)
            .await
    });
    let master = topology.master().unwrap();
    kit.until("both calls block", || blocked_clients(master) == 2).await;
    let old = fault(&topology).unwrap();
    let new = topology.wait_for_new_master(old).unwrap();

    let popped = kit.within("the pop ends", popping.end()).await.unwrap_err();
    assert_eq!(popped.outcome(), Outcome::MaybeApplied, "{popped}");
    kit.until("the read blocks on the new master", || blocked_clients(new) == 1).await;
    client.connection().xadd::<_, _, _, _, ()>("stream", "*", &[("field", "value")]).await.unwrap();
    kit.within("the read returns", reading.end()).await.unwrap();
    for _ in 0..2 {
        let error = own.set::<_, _, ()>("key", 2).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
    }
    client.dedicated().await.unwrap().set::<_, _, ()>("key", 3).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("3"));
}

async fn planned_failover_loses_no_writes(kit: Kit) {
    let topology = kit.topology_builder().demote_after(Duration::from_secs(1)).start().unwrap();
    check_planned_failover(&kit, topology).await;
}

async fn planned_failover_loses_no_writes_with_min_replicas(kit: Kit) {
    let topology = kit.topology_builder().config(MIN_REPLICAS_CONFIG).demote_after(Duration::from_secs(1));
    check_planned_failover(&kit, topology.start().unwrap()).await;
}

async fn check_planned_failover(kit: &Kit, topology: Topology) {
    let client = kit.client_of_topology(&topology).await;
    let load = Load::start(kit, &client);
    load.progress(1_000).await;
    let old = topology.planned_failover().unwrap();
    topology.wait_for_new_master(old).unwrap();
    load.progress(1_000).await;
    let seen = load.finish().await;
    topology.wait_until_healthy().unwrap();
    assert!(seen.iter().all(|seen| seen.maybe == 0), "no call has an unknown outcome");
    // Replies that the old master sent before replication caught up may be lost. No client can prevent this.
    let lost = check(&topology, &seen);
    assert!(lost <= 5, "{lost} acknowledged increments were lost");
}
