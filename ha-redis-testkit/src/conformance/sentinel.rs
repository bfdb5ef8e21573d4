//! Tests finding the master through Sentinels.

use std::time::Duration;

use redis::AsyncCommands;

use super::kit::{Kit, config, connections, settings};

tests! {
    everywhere: [
        unknown_name_error_differs_from_unreachable,
        dead_configured_sentinels_skipped,
        master_used_without_sentinels,
        switch_closes_connections_to_old_master,
        master_restart_delays_calls,
        two_failovers_followed,
        one_configured_sentinel_of_three_suffices,
    ],
    plain: [
        non_sentinel_server_is_an_error,
        master_and_topology_discovered,
    ],
}

async fn master_and_topology_discovered(kit: Kit) {
    let topology = kit.topology_builder().password("data").sentinel_password("watch").start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    assert!(client.is_sentinel_mode());
    let master = topology.master().unwrap();
    assert_eq!(client.discover_master().await.unwrap().to_string(), master.address().to_string());
    assert_eq!(client.discover_replicas().await.unwrap().len(), 2);
    let described = client.topology().await.unwrap();
    assert!(described.is_healthy(), "{described}");
    assert_eq!((described.sentinels, described.known_sentinels, described.quorum), (3, 3, 2));
    topology.sentinels()[0].kill().unwrap();
    topology.sentinels()[1].kill().unwrap();
    let described = client.topology().await.unwrap();
    assert!(!described.is_healthy(), "one Sentinel of three cannot fail over: {described}");
}

async fn unknown_name_error_differs_from_unreachable(kit: Kit) {
    let topology = kit.topology();
    let hosts = topology.sentinel_addresses().iter().map(ToString::to_string).collect::<Vec<_>>();
    let unknown = settings(&topology.url()).sentinel_master_name("nosuch").build().unwrap();
    let unknown = kit.connect(unknown).await.unwrap_err();
    let unreachable = settings(&topology.url()).sentinel_hosts([("127.0.0.1", 1), ("127.0.0.1", 2)]);
    let unreachable = kit.connect(unreachable.build().unwrap()).await.unwrap_err();
    assert!(unknown.is_sentinel() && unreachable.is_sentinel());
    let (unknown, unreachable) = (unknown.to_string(), unreachable.to_string());
    assert!(unknown.contains("no Sentinel monitors a master named `nosuch`"), "{unknown}");
    hosts.iter().for_each(|host| assert!(unknown.contains(host.as_str()), "{unknown}"));
    assert!(unreachable.contains("no Sentinel could be queried"), "{unreachable}");
    for address in ["127.0.0.1:1 did not answer", "127.0.0.1:2 did not answer"] {
        assert!(unreachable.contains(address), "{unreachable}");
    }
}

async fn dead_configured_sentinels_skipped(kit: Kit) {
    let topology = kit.topology();
    let alive = topology.sentinels()[1].port();
    let hosts = [("127.0.0.1", 1), ("127.0.0.1", alive)];
    let first_is_dead = settings(&topology.url()).sentinel_hosts(hosts).build().unwrap();
    let client = kit.connect(first_is_dead).await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}

async fn master_used_without_sentinels(kit: Kit) {
    let topology = kit.topology();
    let client = kit.client_of_topology(&topology).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    topology.sentinels().iter().for_each(|sentinel| sentinel.kill().unwrap());
    redis.set::<_, _, ()>("key", 2).await.unwrap();
    // The client also replaces a lost connection to the last known master.
    let master = topology.master().unwrap();
    master.query(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    redis.set::<_, _, ()>("key", 3).await.unwrap();
    assert_eq!(redis.get::<_, i64>("key").await.unwrap(), 3);
}

async fn switch_closes_connections_to_old_master(kit: Kit) {
    let topology = kit.topology();
    let client = kit.client_of_topology(&topology).await;
    let mut own = client.dedicated().await.unwrap();
    own.set::<_, _, ()>("key", 1).await.unwrap();
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    client.connection().set::<_, _, ()>("key", 2).await.unwrap();
    kit.until("the client has left the old master", || connections(old) == 0).await;
    assert!(own.get::<_, i64>("key").await.is_err(), "the dedicated connection is not reused");
    assert!(connections(new) >= 1);
}

async fn master_restart_delays_calls(kit: Kit) {
    let topology = kit.topology();
    let client = kit.client_of_topology(&topology).await;
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    topology.master().unwrap().restart().unwrap();
    redis.set::<_, _, ()>("key", 2).await.unwrap();
    assert_eq!(redis.get::<_, i64>("key").await.unwrap(), 2);
}

async fn two_failovers_followed(kit: Kit) {
    let topology = kit.topology_builder().demote_after(Duration::from_secs(1)).start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let mut redis = client.connection();
    for round in 0..2 {
        redis.set::<_, _, ()>("round", round).await.unwrap();
        let old = topology.planned_failover().unwrap();
        let new = topology.wait_for_new_master(old).unwrap();
        topology.wait_until_healthy().unwrap();
        redis.set::<_, _, ()>("after", round).await.unwrap();
        assert_eq!(new.query(&["GET", "after"]).unwrap().text(), Some(round.to_string().as_str()));
    }
}

async fn one_configured_sentinel_of_three_suffices(kit: Kit) {
    let topology = kit.topology();
    let one = settings(&topology.url()).sentinel_hosts([("127.0.0.1", topology.sentinels()[0].port())]);
    let client = kit.connect(one.build().unwrap()).await.unwrap();
    let described = client.topology().await.unwrap();
    assert_eq!(
        (described.sentinels, described.known_sentinels),
        (3, 3),
        "the client learns the other Sentinels"
    );
    topology.sentinels()[0].kill().unwrap();
    let old = topology.kill_master().unwrap();
    topology.wait_for_new_master(old).unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
    client.close().await;
    assert!(client.topology().await.unwrap_err().is_closed());
}

async fn non_sentinel_server_is_an_error(kit: Kit) {
    let server = kit.server();
    let url = format!("redis+sentinel://{}/mymaster", server.address());
    let error = kit.connect(config(&url)).await.unwrap_err();
    assert!(error.to_string().contains("unknown command"), "{error}");
}
