//! Tests what operators do to Sentinels: remove one for good, recreate them, and make them monitor another master.

use std::time::Duration;

use ha_redis_core::{Client, RedisConfig};
use redis::AsyncCommands;

use super::kit::{BOUND, Kit, calls, connections, settings};
use super::scripted::Sentinels;
use crate::{Server, Topology};

tests! {
    everywhere: [
        recreated_sentinels_followed_with_one_missing,
        unlisted_master_gets_no_writes,
        dead_configured_address_ignored,
        recreated_sentinels_keep_same_master,
    ],
    plain: [
        error_does_not_attribute_unlisted_master,
        answering_sentinels_not_overcounted,
    ],
}

/// Returns a topology in its second configuration epoch, and a client that knows that epoch.
async fn in_second_epoch(kit: &Kit, settings: impl FnOnce(&Topology) -> RedisConfig) -> (Topology, Client) {
    let topology = kit.topology_builder().demote_after(Duration::from_secs(1)).start().unwrap();
    let client = kit.connect(settings(&topology)).await.unwrap();
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    topology.wait_until_healthy().unwrap();
    kit.until_master(&client, new).await;
    (topology, client)
}

/// Returns a configuration with a wait long enough for everything the client must detect first.
fn config_with_long_wait(url: &str) -> RedisConfig {
    settings(url).failover_wait(BOUND).build().unwrap()
}

/// Promotes a replica with REPLICAOF NO ONE, as an operator does.
fn promote(topology: &Topology) -> &Server {
    let promoted = topology.replicas().unwrap()[0];
    promoted.query(&["REPLICAOF", "NO", "ONE"]).unwrap();
    promoted
}

async fn recreated_sentinels_followed_with_one_missing(kit: Kit) {
    let (topology, client) = in_second_epoch(&kit, |topology| config_with_long_wait(&topology.url())).await;
    let [recreated @ .., removed] = topology.sentinels() else { panic!("three Sentinels") };
    removed.kill().unwrap();
    recreated.iter().for_each(|sentinel| sentinel.kill().unwrap());
    let new = promote(&topology);
    topology.kill_master().unwrap();
    recreated.iter().for_each(|sentinel| topology.replace_sentinel(sentinel, new).unwrap());
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("1"));
}

async fn unlisted_master_gets_no_writes(kit: Kit) {
    let (topology, client) = in_second_epoch(&kit, |topology| config_with_long_wait(&topology.url())).await;
    let old = topology.master().unwrap();
    let [others @ .., removed] = topology.sentinels() else { panic!("three Sentinels") };
    removed.kill().unwrap();
    let new = promote(&topology);
    topology.monitor_anew(others, new).unwrap();
    // The old master is alive and accepts writes.
    kit.until_master(&client, new).await;
    let before = calls(old, "set");
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!((calls(old, "set"), calls(new, "set")), (before, 1));
    kit.until("the client has left the old master", || connections(old) == 0).await;
}

async fn dead_configured_address_ignored(kit: Kit) {
    let with_a_dead_one = |topology: &Topology| {
        let alive = topology.sentinels().iter().map(Server::port);
        let hosts = std::iter::once(1).chain(alive).map(|port| ("127.0.0.1", port));
        settings(&topology.url()).failover_wait(BOUND).sentinel_hosts(hosts).build().unwrap()
    };
    let (topology, client) = in_second_epoch(&kit, with_a_dead_one).await;
    let new = promote(&topology);
    topology.monitor_anew(topology.sentinels(), new).unwrap();
    kit.until_master(&client, new).await;
    let described = client.topology().await.unwrap();
    assert_eq!((described.sentinels, described.known_sentinels), (3, 3), "{described}");
}

async fn recreated_sentinels_keep_same_master(kit: Kit) {
    let by_votes_alone = |topology: &Topology| {
        settings(&topology.url()).failover_wait(BOUND).early_promotion(false).build().unwrap()
    };
    let (topology, client) = in_second_epoch(&kit, by_votes_alone).await;
    let master = topology.master().unwrap();
    let [recreated @ .., removed] = topology.sentinels() else { panic!("three Sentinels") };
    removed.kill().unwrap();
    recreated.iter().for_each(|sentinel| topology.replace_sentinel(sentinel, master).unwrap());
    // The client already knows an epoch as high as that of their first failover.
    let settled = || {
        let replicas = |sentinel: &Server| {
            let master = sentinel.query(&["SENTINEL", "MASTER", "mymaster"]).unwrap();
            master.field("num-slaves") == Some("2") && master.field("num-other-sentinels") == Some("1")
        };
        recreated.iter().all(replicas)
    };
    kit.until("the Sentinels have found each other and the replicas", settled).await;
    master.kill().unwrap();
    let new = topology.wait_for_new_master(master).unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("1"));
}

async fn error_does_not_attribute_unlisted_master(kit: Kit) {
    let master = kit.server();
    let sentinels = Sentinels::naming(&master, 3);
    let settings = sentinels.settings().failover_wait(Duration::from_secs(1)).retry_attempts(0);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    (0..3).for_each(|number| sentinels.change(number, |replies| replies.master = None));
    master.kill().unwrap();
    let error = kit.error_that(&client, |error| error.contains("no Sentinel names")).await;
    assert!(!error.contains("which the Sentinels name"), "{error}");
}

async fn answering_sentinels_not_overcounted(kit: Kit) {
    let master = kit.server();
    let sentinels = Sentinels::naming(&master, 3);
    // The recreated Sentinels do not know any others yet.
    (0..3).for_each(|number| sentinels.change(number, |replies| replies.others = 0));
    let client = kit.connect(sentinels.config()).await.unwrap();
    let described = client.topology().await.unwrap();
    assert_eq!((described.sentinels, described.known_sentinels), (3, 3), "{described}");
}
