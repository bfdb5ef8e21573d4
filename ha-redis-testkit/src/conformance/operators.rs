//! What operators do to Sentinels: they lose one for good, make others anew, and have them watch another master.

use std::time::Duration;

use ha_redis_core::{Client, RedisConfig};
use redis::AsyncCommands;

use super::kit::{BOUND, Kit, calls, config, connections};
use super::scripted::Sentinels;
use crate::{Server, Topology};

tests![
    sentinels_made_anew_are_followed_though_one_is_gone_for_good,
    a_master_that_no_sentinel_names_any_more_gets_no_write,
    a_dead_address_in_the_configuration_takes_no_part,
    sentinels_made_anew_do_not_part_a_client_from_a_master_that_they_still_name,
    a_master_that_no_sentinel_names_is_not_said_to_be_named,
    no_more_sentinels_answer_than_there_are,
];

/// A topology in its second configuration epoch, and a client that knows it.
async fn in_second_epoch(kit: &Kit, settings: impl FnOnce(&Topology) -> RedisConfig) -> (Topology, Client) {
    let topology = Topology::builder().demote_after(Duration::from_secs(1)).start().unwrap();
    let client = kit.connect(settings(&topology)).await.unwrap();
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    topology.wait_until_healthy().unwrap();
    kit.until_master(&client, new).await;
    (topology, client)
}

/// Calls wait long enough for whatever the client has to find out first.
fn patient(url: &str) -> RedisConfig {
    config(url).to_builder().failover_wait(BOUND).build().unwrap()
}

/// Makes a replica a master of its own, as an operator does by hand.
fn promote(topology: &Topology) -> &Server {
    let promoted = topology.replicas().unwrap()[0];
    promoted.query(&["REPLICAOF", "NO", "ONE"]).unwrap();
    promoted
}

async fn sentinels_made_anew_are_followed_though_one_is_gone_for_good(kit: Kit) {
    let (topology, client) = in_second_epoch(&kit, |topology| patient(&topology.url())).await;
    let [anew @ .., gone] = topology.sentinels() else { panic!("three Sentinels") };
    gone.kill().unwrap();
    anew.iter().for_each(|sentinel| sentinel.kill().unwrap());
    let new = promote(&topology);
    topology.kill_master().unwrap();
    anew.iter().for_each(|sentinel| topology.replace_sentinel(sentinel, new).unwrap());
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("1"));
}

async fn a_master_that_no_sentinel_names_any_more_gets_no_write(kit: Kit) {
    let (topology, client) = in_second_epoch(&kit, |topology| patient(&topology.url())).await;
    let old = topology.master().unwrap();
    let [others @ .., gone] = topology.sentinels() else { panic!("three Sentinels") };
    gone.kill().unwrap();
    let new = promote(&topology);
    topology.monitor_anew(others, new).unwrap();
    // The old master lives, and takes whatever it is sent.
    kit.until_master(&client, new).await;
    let before = calls(old, "set");
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!((calls(old, "set"), calls(new, "set")), (before, 1));
    kit.until("the client has left the old master", || connections(old) == 0).await;
}

async fn a_dead_address_in_the_configuration_takes_no_part(kit: Kit) {
    let with_a_dead_one = |topology: &Topology| patient(&topology.url().replace("//", "//127.0.0.1:1,"));
    let (topology, client) = in_second_epoch(&kit, with_a_dead_one).await;
    let new = promote(&topology);
    topology.monitor_anew(topology.sentinels(), new).unwrap();
    kit.until_master(&client, new).await;
    let described = client.topology().await.unwrap();
    assert_eq!((described.sentinels, described.known_sentinels), (3, 3), "{described}");
}

async fn sentinels_made_anew_do_not_part_a_client_from_a_master_that_they_still_name(kit: Kit) {
    let by_votes_alone = |topology: &Topology| patient(&format!("{}?early_promotion=false", topology.url()));
    let (topology, client) = in_second_epoch(&kit, by_votes_alone).await;
    let master = topology.master().unwrap();
    let [anew @ .., gone] = topology.sentinels() else { panic!("three Sentinels") };
    gone.kill().unwrap();
    anew.iter().for_each(|sentinel| topology.replace_sentinel(sentinel, master).unwrap());
    // Their first failover has an epoch that the client has known for long.
    let settled = || {
        let replicas = |sentinel: &Server| {
            let master = sentinel.query(&["SENTINEL", "MASTER", "mymaster"]).unwrap();
            master.field("num-slaves") == Some("2") && master.field("num-other-sentinels") == Some("1")
        };
        anew.iter().all(replicas)
    };
    kit.until("they have found each other and the replicas", settled).await;
    master.kill().unwrap();
    let new = topology.wait_for_new_master(master).unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("1"));
}

async fn a_master_that_no_sentinel_names_is_not_said_to_be_named(kit: Kit) {
    let master = Server::start().unwrap();
    let sentinels = Sentinels::naming(&master, 3);
    let settings = sentinels.settings().failover_wait(Duration::from_secs(1)).retry_attempts(0);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    (0..3).for_each(|number| sentinels.change(number, |says| says.master = None));
    master.kill().unwrap();
    let told = kit.error_that(&client, |error| error.contains("no Sentinel names")).await;
    assert!(!told.contains("which the Sentinels name"), "{told}");
}

async fn no_more_sentinels_answer_than_there_are(kit: Kit) {
    let master = Server::start().unwrap();
    let sentinels = Sentinels::naming(&master, 3);
    // Those that were just made anew know of nobody else yet.
    (0..3).for_each(|number| sentinels.change(number, |says| says.others = 0));
    let client = kit.connect(sentinels.config()).await.unwrap();
    let described = client.topology().await.unwrap();
    assert_eq!((described.sentinels, described.known_sentinels), (3, 3), "{described}");
}
