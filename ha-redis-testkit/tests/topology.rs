//! Tests topologies: ready for a failover after the start, and what happens in one.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use ha_redis_testkit::{Error, Reply, Server, Topology};

fn role(server: &Server) -> String {
    server.query(&["ROLE"]).unwrap().items()[0].text().unwrap().to_owned()
}

#[test]
fn topology_complete_after_start() {
    let topology = Topology::start().unwrap();
    assert_eq!(topology.servers().len(), 3);
    assert_eq!(topology.master().unwrap().port(), topology.servers()[0].port());
    for replica in topology.replicas().unwrap() {
        assert_eq!(role(replica), "slave");
    }
    let [a, b, c] = topology.sentinel_addresses()[..] else { panic!("three Sentinels") };
    assert_eq!(topology.url(), format!("redis+sentinel://{a},{b},{c}/mymaster"));
    for sentinel in topology.sentinels() {
        let quorum = sentinel.query(&["SENTINEL", "CKQUORUM", "mymaster"]).unwrap();
        assert!(quorum.text().unwrap().starts_with("OK 3 usable Sentinels"), "{quorum:?}");
    }
}

#[test]
fn killed_master_returns_as_replica() {
    let topology = Topology::start().unwrap();
    let old = topology.kill_master().unwrap();
    assert!(!old.is_running());
    let new = topology.wait_for_new_master(old).unwrap();
    assert_eq!(role(new), "master");
    assert_eq!(topology.master().unwrap().port(), new.port());

    old.restart().unwrap();
    topology.wait_until_healthy().unwrap();
    assert_eq!(role(old), "slave");
    assert_eq!(topology.master().unwrap().port(), new.port());
}

#[test]
fn hung_master_replaced() {
    let topology = Topology::start().unwrap();
    let old = topology.hang_master().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    assert_ne!(new.port(), old.port());
    assert_eq!(topology.master().unwrap().port(), new.port());
}

#[test]
fn planned_failover_succeeds_after_start() {
    let topology = Topology::start().unwrap();
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    topology.wait_until_healthy().unwrap();
    assert_eq!(topology.master().unwrap().port(), new.port());
    assert_eq!(role(old), "slave");
}

#[test]
fn writes_after_start_reach_replicas() {
    let topology = Topology::start().unwrap();
    let old = topology.master().unwrap();
    old.query(&["SET", "key", "value"]).unwrap();
    topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("value"));
}

#[test]
fn passwords_and_names_applied() {
    let topology = Topology::builder()
        .replicas(1)
        .master_name("main")
        .password("data secret")
        .sentinel_password("watch secret")
        .config("maxmemory 20mb")
        .start()
        .unwrap();
    assert_eq!(topology.master_name(), "main");
    let url = topology.url();
    assert!(url.starts_with("redis+sentinel://:data%20secret@"), "{url}");
    assert!(url.ends_with("/main?sentinel_password=watch%20secret"), "{url}");
    assert!(!format!("{topology:?} {:?}", Topology::builder().password("secret")).contains("secret"));
    for server in topology.servers() {
        let memory = server.query(&["CONFIG", "GET", "maxmemory"]).unwrap();
        assert_eq!(memory.field("maxmemory"), Some("20971520"));
    }

    let old = topology.planned_failover().unwrap();
    topology.wait_for_new_master(old).unwrap();
    topology.wait_until_healthy().unwrap();
}

#[test]
fn topology_without_sentinels() {
    let topology = Topology::builder().replicas(1).sentinels(0).start().unwrap();
    topology.master().unwrap().query(&["SET", "key", "value"]).unwrap();
    assert_eq!(topology.master().unwrap().query(&["WAIT", "1", "1900"]).unwrap(), Reply::Integer(1));
    assert!(matches!(topology.planned_failover(), Err(Error::NotReady(_))));
}

#[test]
fn isolated_master_reachable_for_clients() {
    let topology = Topology::builder().replicas(1).partitionable().start().unwrap();
    let [old, new] = topology.servers() else { panic!("two servers") };
    let [near, s1, s2] = topology.sentinels() else { panic!("three Sentinels") };
    topology.partition(&[old], &[new, s1, s2]).unwrap();
    old.query(&["SET", "key", "of the minority"]).unwrap();
    topology.wait_for_new_master(old).unwrap();
    assert_eq!((role(old), role(new)), ("master".into(), "master".into()));
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), None, "the partition blocked the write");
    assert!(near.query(&["PING"]).is_ok());

    topology.heal().unwrap();
    topology.wait_until_healthy().unwrap();
    assert_eq!(topology.master().unwrap().port(), new.port());
    assert_eq!(role(old), "slave");
    // The server that was isolated can become master again.
    topology.planned_failover().unwrap();
    assert_eq!(topology.wait_for_new_master(new).unwrap().port(), old.port());
    topology.wait_until_healthy().unwrap();
}

#[test]
fn isolated_sentinel_keeps_its_view() {
    let topology = Topology::builder().partitionable().start().unwrap();
    let old = topology.master().unwrap();
    let [stale, others @ ..] = topology.sentinels() else { panic!("three Sentinels") };
    let rest: Vec<&Server> = topology.servers().iter().chain(others).collect();
    topology.partition(&[stale], &rest).unwrap();
    old.kill().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    let named = |sentinel: &Server| {
        let address = sentinel.query(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]).unwrap();
        address.items()[1].text().unwrap().to_owned()
    };
    let start = std::time::Instant::now();
    while others.iter().any(|sentinel| named(sentinel) != new.port().to_string()) {
        assert!(start.elapsed().as_secs() < 20, "the majority does not agree");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(named(stale), old.port().to_string());
}

#[test]
fn partition_needs_network() {
    let topology = Topology::builder().replicas(0).sentinels(0).start().unwrap();
    assert!(matches!(topology.partition(&[], &[]), Err(Error::NotReady(_))));
}
