//! Tests which master the client follows when servers and Sentinels are partitioned or restarted.

use std::time::Duration;

use redis::AsyncCommands;

use super::kit::{Kit, calls, config, connections};
use super::load::{Load, check};
use crate::Server;

tests! {
    everywhere: [
        isolated_master_gets_no_writes_after_promotion,
        stale_first_sentinel_ignored,
        rolling_restart_delays_calls,
        writes_resume_after_aborted_failover,
        sentinels_reconnect_after_full_outage,
    ],
}

/// Returns how many SET commands the server has received.
fn written(server: &Server) -> u64 {
    ["incrby", "set"].map(|command| calls(server, command)).iter().sum()
}

fn reports_master(sentinel: &Server, master: &Server) -> bool {
    let address = sentinel.query(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]).unwrap();
    address.items()[1].text() == Some(master.port().to_string().as_str())
}

fn failover_in_progress(sentinel: &Server) -> bool {
    let master = sentinel.query(&["SENTINEL", "MASTER", "mymaster"]).unwrap();
    master.field("flags").unwrap().contains("failover_in_progress")
}

async fn isolated_master_gets_no_writes_after_promotion(kit: Kit) {
    let topology =
        kit.topology_builder().partitionable().demote_after(Duration::from_secs(1)).start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let load = Load::start(&kit, &client);
    load.progress(500).await;
    let old = topology.master().unwrap();
    let sentinels = topology.sentinels();
    let majority = topology.replicas().unwrap().into_iter().chain(&sentinels[1..]).collect::<Vec<_>>();
    topology.partition(&[old], &majority).unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    let before = written(old);
    kit.until("all Sentinels report the new master", || {
        sentinels.iter().all(|sentinel| reports_master(sentinel, new))
    })
    .await;
    load.progress(500).await;
    assert_eq!(written(old), before, "the old master still reports the master role and accepts writes");

    // The old master learns about the failover and becomes a replica.
    topology.heal().unwrap();
    topology.wait_until_healthy().unwrap();
    load.progress(500).await;
    check(&topology, &load.finish().await);
    assert_eq!((connections(old), topology.master().unwrap().port()), (0, new.port()));
}

async fn stale_first_sentinel_ignored(kit: Kit) {
    let topology = kit.topology_builder().partitionable().start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let load = Load::start(&kit, &client);
    load.progress(500).await;
    let old = topology.master().unwrap();
    let [stale, others @ ..] = topology.sentinels() else { panic!("three Sentinels") };
    let majority = topology.replicas().unwrap().into_iter().chain(others).collect::<Vec<_>>();
    topology.partition(&[old, stale], &majority).unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    let before = written(old);
    kit.until("the majority agrees", || others.iter().all(|sentinel| reports_master(sentinel, new))).await;
    load.progress(500).await;
    assert!(reports_master(stale, old));

    // Clients that know no other Sentinel yet ignore it as well.
    let all = config(&topology.url());
    let stale_alone = all.to_builder().sentinel_hosts([("127.0.0.1", stale.port())]).build().unwrap();
    for (config, known) in [(all, "all Sentinels"), (stale_alone, "the stale one")] {
        let late = kit.connect(config).await.unwrap();
        late.connection().set::<_, _, ()>("late", known).await.unwrap();
        assert_eq!(new.query(&["GET", "late"]).unwrap().text(), Some(known));
    }
    assert_eq!(written(old), before);
    check(&topology, &load.finish().await);
}

async fn rolling_restart_delays_calls(kit: Kit) {
    // Restarted servers must keep their keys.
    let topology = kit.topology_builder().config("appendonly yes").start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let load = Load::start(&kit, &client);
    for server in topology.servers().iter().chain(topology.sentinels()) {
        server.terminate().unwrap();
        server.restart().unwrap();
        topology.wait_until_healthy().unwrap();
        load.progress(100).await;
    }
    for seen in load.finish().await {
        assert!(seen.other_errors.is_empty(), "{:?}", seen.other_errors);
    }
}

async fn writes_resume_after_aborted_failover(kit: Kit) {
    let second = Duration::from_secs(1);
    let topology =
        kit.topology_builder().replicas(1).failover_timeout(second).demote_after(second).start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let load = Load::start(&kit, &client);
    load.progress(500).await;
    let [candidate] = topology.replicas().unwrap()[..] else { panic!("one replica") };
    candidate.hang().unwrap();
    let master = topology.planned_failover().unwrap();
    let leader = &topology.sentinels()[0];
    kit.until("the failover is aborted", || !failover_in_progress(leader)).await;
    load.progress(500).await;
    // Only now the candidate receives its promotion.
    candidate.resume().unwrap();
    topology.wait_until_healthy().unwrap();
    load.progress(500).await;
    let seen = load.finish().await;
    assert!(seen.iter().all(|seen| seen.maybe == 0), "no call has an unknown outcome");
    assert_eq!(topology.master().unwrap().port(), master.port());
    assert_eq!(check(&topology, &seen), 0, "the candidate received no write");
}

async fn sentinels_reconnect_after_full_outage(kit: Kit) {
    let topology = kit.topology();
    let client = kit.client_of_topology(&topology).await;
    let mut redis = client.connection();
    topology.sentinels().iter().for_each(|sentinel| sentinel.terminate().unwrap());
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    topology.sentinels().iter().for_each(|sentinel| sentinel.restart().unwrap());
    topology.wait_until_healthy().unwrap();
    let old = topology.kill_master().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    redis.set::<_, _, ()>("key", 2).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("2"));
}
