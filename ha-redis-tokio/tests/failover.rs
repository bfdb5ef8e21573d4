//! What callers see while the master changes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![cfg(feature = "sentinel")]

mod common;

use common::client_of_topology;
use common::load::{Load, check};
use ha_redis_testkit::Topology;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_is_a_slow_call() {
    let topology = Topology::start().unwrap();
    let client = client_of_topology(&topology).await;
    let load = Load::start(&client);
    load.progress(1_000).await;
    let old = topology.kill_master().unwrap();
    topology.wait_for_new_master(old).unwrap();
    load.progress(1_000).await;
    check(&topology, &load.finish().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_hangs_is_a_slow_call() {
    let topology = Topology::start().unwrap();
    let client = client_of_topology(&topology).await;
    let load = Load::start(&client);
    load.progress(1_000).await;
    let old = topology.hang_master().unwrap();
    topology.wait_for_new_master(old).unwrap();
    load.progress(1_000).await;
    check(&topology, &load.finish().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_loses_nothing() {
    let topology = Topology::start().unwrap();
    let client = client_of_topology(&topology).await;
    let load = Load::start(&client);
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
