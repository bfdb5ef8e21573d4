//! Who is followed when servers and Sentinels see different things, and when everything is restarted.

use std::time::Duration;

use redis::AsyncCommands;

use super::kit::{Kit, calls, config, connections};
use super::load::{Load, check};
use crate::{Server, Topology};

tests![
    a_master_that_is_cut_off_gets_no_write_after_the_promotion,
    a_sentinel_with_an_old_view_is_not_believed_though_it_comes_first,
    a_rolling_restart_is_a_few_slow_calls,
    writes_go_on_when_a_failover_is_given_up,
    sentinels_that_were_all_away_are_heard_again,
];

/// How many writes a server was ever sent.
fn written(server: &Server) -> u64 {
    ["incrby", "set"].map(|command| calls(server, command)).iter().sum()
}

fn names(sentinel: &Server, master: &Server) -> bool {
    let address = sentinel.query(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]).unwrap();
    address.items()[1].text() == Some(master.port().to_string().as_str())
}

fn at_a_failover(sentinel: &Server) -> bool {
    let master = sentinel.query(&["SENTINEL", "MASTER", "mymaster"]).unwrap();
    master.field("flags").unwrap().contains("failover_in_progress")
}

async fn a_master_that_is_cut_off_gets_no_write_after_the_promotion(kit: Kit) {
    let topology = Topology::builder().partitionable().demote_after(Duration::from_secs(1)).start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let load = Load::start(&kit, &client);
    load.progress(500).await;
    let old = topology.master().unwrap();
    let sentinels = topology.sentinels();
    let majority = topology.replicas().unwrap().into_iter().chain(&sentinels[1..]).collect::<Vec<_>>();
    topology.partition(&[old], &majority).unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    let before = written(old);
    kit.until("all Sentinels have heard of it", || sentinels.iter().all(|sentinel| names(sentinel, new)))
        .await;
    load.progress(500).await;
    assert_eq!(written(old), before, "the old master still says that it is one, and takes writes");

    // The old master learns of it, and serves as a replica.
    topology.heal().unwrap();
    topology.wait_until_healthy().unwrap();
    load.progress(500).await;
    check(&topology, &load.finish().await);
    assert_eq!((connections(old), topology.master().unwrap().port()), (0, new.port()));
}

async fn a_sentinel_with_an_old_view_is_not_believed_though_it_comes_first(kit: Kit) {
    let topology = Topology::builder().partitionable().start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let load = Load::start(&kit, &client);
    load.progress(500).await;
    let old = topology.master().unwrap();
    let [stale, others @ ..] = topology.sentinels() else { panic!("three Sentinels") };
    let majority = topology.replicas().unwrap().into_iter().chain(others).collect::<Vec<_>>();
    topology.partition(&[old, stale], &majority).unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    let before = written(old);
    kit.until("the majority agrees", || others.iter().all(|sentinel| names(sentinel, new))).await;
    load.progress(500).await;
    assert!(names(stale, old));

    // Nor by clients that know nothing else yet.
    let stale_alone = format!("redis+sentinel://{}/mymaster", topology.sentinel_addresses()[0]);
    for url in [topology.url(), stale_alone] {
        let late = kit.connect(config(&url)).await.unwrap();
        late.connection().set::<_, _, ()>("late", &url).await.unwrap();
        assert_eq!(new.query(&["GET", "late"]).unwrap().text(), Some(url.as_str()));
    }
    assert_eq!(written(old), before);
    check(&topology, &load.finish().await);
}

async fn a_rolling_restart_is_a_few_slow_calls(kit: Kit) {
    // What is restarted has to find its keys again.
    let topology = Topology::builder().config("appendonly yes").start().unwrap();
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

async fn writes_go_on_when_a_failover_is_given_up(kit: Kit) {
    let second = Duration::from_secs(1);
    let topology =
        Topology::builder().replicas(1).failover_timeout(second).demote_after(second).start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let load = Load::start(&kit, &client);
    load.progress(500).await;
    let [candidate] = topology.replicas().unwrap()[..] else { panic!("one replica") };
    candidate.hang().unwrap();
    let master = topology.planned_failover().unwrap();
    let leader = &topology.sentinels()[0];
    kit.until("it is given up", || !at_a_failover(leader)).await;
    load.progress(500).await;
    // Only now the candidate hears that it is to be master.
    candidate.resume().unwrap();
    topology.wait_until_healthy().unwrap();
    load.progress(500).await;
    let seen = load.finish().await;
    assert!(seen.iter().all(|seen| seen.maybe == 0), "no call was left in doubt");
    assert_eq!(topology.master().unwrap().port(), master.port());
    assert_eq!(check(&topology, &seen), 0, "nothing went to the candidate");
}

async fn sentinels_that_were_all_away_are_heard_again(kit: Kit) {
    let topology = Topology::start().unwrap();
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
