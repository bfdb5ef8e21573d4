//! What callers see while the master changes.

use std::time::Duration;

use super::kit::Kit;
use super::load::{Load, check};
use crate::{Error, Server, Topology};

tests![
    a_killed_master_is_a_slow_call,
    a_master_that_hangs_is_a_slow_call,
    a_planned_failover_loses_nothing,
    a_killed_master_is_a_slow_call_where_writes_need_a_replica,
    a_planned_failover_loses_nothing_where_writes_need_a_replica,
];

/// What makes a master refuse writes that no replica would have.
const NEED_A_REPLICA: &str = "min-replicas-to-write 1";

async fn a_killed_master_is_a_slow_call(kit: Kit) {
    is_a_slow_call(&kit, Topology::start().unwrap(), Topology::kill_master).await;
}

async fn a_master_that_hangs_is_a_slow_call(kit: Kit) {
    is_a_slow_call(&kit, Topology::start().unwrap(), Topology::hang_master).await;
}

async fn a_killed_master_is_a_slow_call_where_writes_need_a_replica(kit: Kit) {
    let topology = Topology::builder().config(NEED_A_REPLICA).start().unwrap();
    is_a_slow_call(&kit, topology, Topology::kill_master).await;
}

async fn is_a_slow_call(kit: &Kit, topology: Topology, fault: fn(&Topology) -> Result<&Server, Error>) {
    let client = kit.client_of_topology(&topology).await;
    let load = Load::start(kit, &client);
    load.progress(1_000).await;
    let old = fault(&topology).unwrap();
    topology.wait_for_new_master(old).unwrap();
    load.progress(1_000).await;
    check(&topology, &load.finish().await);
}

async fn a_planned_failover_loses_nothing(kit: Kit) {
    let topology = Topology::builder().demote_after(Duration::from_secs(1)).start().unwrap();
    planned_failover_loses_nothing(&kit, topology).await;
}

async fn a_planned_failover_loses_nothing_where_writes_need_a_replica(kit: Kit) {
    let topology = Topology::builder().config(NEED_A_REPLICA).demote_after(Duration::from_secs(1));
    planned_failover_loses_nothing(&kit, topology.start().unwrap()).await;
}

async fn planned_failover_loses_nothing(kit: &Kit, topology: Topology) {
    let client = kit.client_of_topology(&topology).await;
    let load = Load::start(kit, &client);
    load.progress(1_000).await;
    let old = topology.planned_failover().unwrap();
    topology.wait_for_new_master(old).unwrap();
    load.progress(1_000).await;
    let seen = load.finish().await;
    topology.wait_until_healthy().unwrap();
    assert!(seen.iter().all(|seen| seen.maybe == 0), "no call was left in doubt");
    // The old master's last replies and its replica's promotion are a race that no client decides.
    let lost = check(&topology, &seen);
    assert!(lost <= 5, "{lost} acknowledged increments were lost");
}
