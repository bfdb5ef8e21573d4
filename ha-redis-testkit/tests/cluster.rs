//! Tests clusters: complete after the start, and what happens in failovers, migrations and partitions.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ha_redis_testkit::{Cluster, Environment, Error, Failover, Reply, Server};

/// The timeout of operations that are immediate unless the machine is very busy.
const BOUND: Duration = Duration::from_secs(20);

fn role(node: &Server) -> String {
    node.query(&["ROLE"]).unwrap().items()[0].text().unwrap().to_owned()
}

fn setting(node: &Server, name: &str) -> String {
    node.query(&["CONFIG", "GET", name]).unwrap().field(name).unwrap().to_owned()
}

/// Returns the code of the error that the node answers with.
fn refusal(node: &Server, command: &[&str]) -> Option<String> {
    match node.query(command) {
        Err(Error::Refused { message, .. }) => message.split(' ').next().map(str::to_owned),
        Ok(_) => None,
        Err(error) => panic!("{error}"),
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "timed out waiting for: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the slots and the ports of their owners, as one node sees them.
fn owners(cluster: &Cluster, seen_by: &Server) -> Vec<(RangeInclusive<u16>, u16)> {
    cluster.slots(seen_by).unwrap().into_iter().map(|(slots, node)| (slots, node.port())).collect()
}

#[test]
fn cluster_complete_after_start() {
    let cluster = Cluster::start().unwrap();
    let [a, b, c, replicas @ ..] = cluster.nodes() else { panic!("three masters") };
    let expected = vec![(0..=5460, a.port()), (5461..=10922, b.port()), (10923..=16383, c.port())];
    assert_eq!(replicas.len(), 3);
    for (node, expected_role) in
        cluster.nodes().iter().zip(["master", "master", "master", "slave", "slave", "slave"])
    {
        assert_eq!(role(node), expected_role);
        assert_eq!(owners(&cluster, node), expected);
        assert_eq!(setting(node, "cluster-node-timeout"), "1000");
        assert_eq!(setting(node, "cluster-replica-no-failover"), "no");
    }
    for (master, replica) in [a, b, c].into_iter().zip(replicas) {
        let ports: Vec<u16> = cluster.replicas_of(master).iter().map(|node| node.port()).collect();
        assert_eq!(ports, [replica.port()]);
    }
    let slot = cluster.slot_of("key").unwrap();
    assert_eq!((slot, cluster.master_of(slot).unwrap().port()), (12539, c.port()));
    c.query(&["SET", "key", "value"]).unwrap();
    assert_eq!(refusal(a, &["GET", "key"]).as_deref(), Some("MOVED"));
    let addresses: Vec<String> = cluster.nodes().iter().map(|node| node.address().to_string()).collect();
    assert_eq!(cluster.url(), format!("redis+cluster://{}", addresses.join(",")));
}

#[test]
fn settings_applied() {
    let builder = Cluster::builder()
        .masters(1)
        .replicas(2)
        .node_timeout(Duration::from_secs(7))
        .require_full_coverage(false)
        .password("a secret")
        .config("maxmemory 20mb");
    assert!(!format!("{builder:?}").contains("secret"));
    let cluster = builder.start().unwrap();
    assert!(cluster.url().starts_with("redis+cluster://:a%20secret@127.0.0.1:"), "{}", cluster.url());
    assert_eq!(cluster.nodes().len(), 3);
    for node in cluster.nodes() {
        assert_eq!(setting(node, "cluster-node-timeout"), "7000");
        assert_eq!(setting(node, "cluster-require-full-coverage"), "no");
        assert_eq!(setting(node, "maxmemory"), "20971520");
    }
    assert_eq!(cluster.replicas_of(cluster.node(0)).len(), 2);
}

#[test]
fn killed_master_returns_as_replica() {
    let cluster = Cluster::start().unwrap();
    let slot = cluster.slot_of("key").unwrap();
    let old = cluster.master_of(slot).unwrap();
    let [replica] = cluster.replicas_of(old)[..] else { panic!("one replica") };
    old.kill().unwrap();
    let new = cluster.wait_for_new_master(slot, old).unwrap();
    assert_eq!((new.port(), role(new).as_str()), (replica.port(), "master"));

    old.restart().unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(role(old), "slave");
    assert_eq!(cluster.replicas_of(new)[0].port(), old.port());
    assert_eq!(cluster.master_of(slot).unwrap().port(), new.port());
}

#[test]
fn restarted_nodes_remember_cluster() {
    let builder = Cluster::builder().masters(2).node_timeout(Duration::from_secs(30));
    let cluster = builder.config("appendonly yes").start().unwrap();
    let [master, _, replica, _] = cluster.nodes() else { panic!("two masters and their replicas") };
    master.query(&["SET", "b", "value"]).unwrap();
    for node in cluster.nodes() {
        node.restart().unwrap();
    }
    cluster.wait_until_healthy().unwrap();
    assert_eq!((role(master).as_str(), role(replica).as_str()), ("master", "slave"));
    assert_eq!(master.query(&["GET", "b"]).unwrap().text(), Some("value"));
    assert_eq!(setting(master, "cluster-node-timeout"), "30000");
}

#[test]
fn hung_master_replaced() {
    let cluster = Cluster::start().unwrap();
    let old = cluster.node(1);
    old.hang().unwrap();
    assert!(matches!(cluster.master_of(8000), Err(Error::NotReady(_))));
    let new = cluster.wait_for_new_master(8000, old).unwrap();
    assert_ne!(new.port(), old.port());
    old.resume().unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!((role(new).as_str(), role(old).as_str()), ("master", "slave"));
}

#[test]
fn planned_failover_loses_no_acknowledged_write() {
    let cluster = Cluster::start().unwrap();
    let slot = cluster.slot_of("list").unwrap();
    let old = cluster.master_of(slot).unwrap();
    let [new] = cluster.replicas_of(old)[..] else { panic!("one replica") };
    let (written, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let acknowledged = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut acknowledged = Vec::new();
            for number in (0..).take_while(|_| !done.load(Ordering::Relaxed)) {
                let number = number.to_string();
                // While the failover goes on, one of them answers: the other with MOVED.
                if [old, new].iter().any(|node| node.query(&["RPUSH", "list", &number]).is_ok()) {
                    acknowledged.push(number);
                    written.store(acknowledged.len(), Ordering::Relaxed);
                }
            }
            acknowledged
        });
        let write_more = || {
            let enough = written.load(Ordering::Relaxed) + 100;
            wait_until("writes", || written.load(Ordering::Relaxed) >= enough || writer.is_finished());
        };
        write_more();
        cluster.failover(new, Failover::Planned).unwrap();
        write_more();
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    cluster.wait_until_healthy().unwrap();
    assert_eq!(cluster.master_of(slot).unwrap().port(), new.port());
    assert_eq!(role(old), "slave");
    let list = new.query(&["LRANGE", "list", "0", "-1"]).unwrap();
    let list: HashSet<&str> = list.items().iter().filter_map(Reply::text).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|number| !list.contains(number.as_str())).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn failover_refused_by_master() {
    let cluster = Cluster::builder().masters(1).replicas(0).start().unwrap();
    for how in [Failover::Planned, Failover::Force, Failover::Takeover] {
        assert!(matches!(cluster.failover(cluster.node(0), how), Err(Error::Refused { .. })));
    }
}

#[test]
fn forced_failover_without_master() {
    let cluster = Cluster::builder().config("cluster-replica-no-failover yes").start().unwrap();
    let (old, new) = (cluster.node(0), cluster.node(3));
    old.kill().unwrap();
    // The replica answers this as soon as it has lost its master.
    wait_until("refusal", || refusal(new, &["CLUSTER", "FAILOVER"]).is_some());
    cluster.failover(new, Failover::Force).unwrap();
    assert_eq!(cluster.master_of(0).unwrap().port(), new.port());
    old.restart().unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(role(old), "slave");
}

#[test]
fn takeover_needs_no_majority() {
    let cluster = Cluster::builder().masters(2).start().unwrap();
    let [old, _, new, _] = cluster.nodes() else { panic!("two masters and their replicas") };
    old.kill().unwrap();
    cluster.failover(new, Failover::Takeover).unwrap();
    assert_eq!(cluster.master_of(0).unwrap().port(), new.port());
    old.restart().unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(role(old), "slave");
}

#[test]
fn slots_served_without_full_coverage() {
    for required in [true, false] {
        let cluster = Cluster::builder().replicas(0).require_full_coverage(required).start().unwrap();
        let [serving, dead, _] = cluster.nodes() else { panic!("three masters") };
        let slot = cluster.slot_of("b").unwrap();
        assert_eq!(cluster.master_of(slot).unwrap().port(), serving.port());
        dead.kill().unwrap();
        let failed =
            || serving.query(&["CLUSTER", "NODES"]).unwrap().text().unwrap().contains("master,fail ");
        wait_until("failure", failed);
        let expected = required.then_some("CLUSTERDOWN");
        wait_until("reaction", || refusal(serving, &["GET", "b"]).as_deref() == expected);
        assert!(matches!(cluster.master_of(8000), Err(Error::NotReady(_))));
    }
}

#[test]
fn migrated_slot_answers_ask_then_moved() {
    let cluster = Cluster::start().unwrap();
    let slot = cluster.slot_of("{tag}").unwrap();
    let old = cluster.master_of(slot).unwrap();
    let new = cluster.nodes()[..3].iter().find(|node| node.port() != old.port()).unwrap();
    let keys: Vec<String> = (0..250).map(|number| format!("{{tag}}{number}")).collect();
    for key in &keys {
        old.query(&["SET", key, key]).unwrap();
    }
    let get = |node: &Server, key: usize| node.query(&["GET", &keys[key]]).unwrap();
    let refused = |node: &Server, key: usize| refusal(node, &["GET", &keys[key]]).unwrap();

    let migration = cluster.start_migration(slot, new).unwrap();
    assert_eq!((migration.from().port(), migration.to().port()), (old.port(), new.port()));
    migration.move_keys(&[&keys[0]]).unwrap();
    assert_eq!(refused(old, 0), "ASK");
    assert_eq!(refusal(old, &["MGET", &keys[0], &keys[1]]).unwrap(), "TRYAGAIN");
    assert_eq!(get(old, 1).text(), Some(keys[1].as_str()));
    assert_eq!(refused(new, 0), "MOVED");

    migration.move_all_keys().unwrap();
    assert_eq!(refused(old, 249), "ASK");
    migration.finish().unwrap();
    assert_eq!(refused(old, 249), "MOVED");
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(get(new, number).text(), Some(key.as_str()));
    }
    cluster.wait_until_healthy().unwrap();
    assert_eq!(cluster.master_of(slot).unwrap().port(), new.port());
}

#[test]
fn reads_during_migration_find_every_key() {
    let cluster = Cluster::start().unwrap();
    let slot = cluster.slot_of("{tag}").unwrap();
    let old = cluster.master_of(slot).unwrap();
    let new = cluster.nodes()[..3].iter().find(|node| node.port() != old.port()).unwrap();
    for number in 0..1000 {
        old.query(&["SET", &format!("{{tag}}{number}"), "value"]).unwrap();
    }
    let (reads, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let sources = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut sources = Vec::new();
            while !done.load(Ordering::Relaxed) {
                sources.push(read_following_redirects("{tag}999", old, new));
                reads.fetch_add(1, Ordering::Relaxed);
            }
            sources
        });
        let wait_for_reads = || {
            // The first of them may have begun before.
            let enough = reads.load(Ordering::Relaxed) + 2;
            wait_until("reads", || reads.load(Ordering::Relaxed) >= enough || reader.is_finished());
        };
        wait_for_reads();
        let migration = cluster.start_migration(slot, new).unwrap();
        migration.move_all_keys().unwrap();
        wait_for_reads();
        migration.finish().unwrap();
        wait_for_reads();
        done.store(true, Ordering::Relaxed);
        let mut sources = reader.join().unwrap();
        sources.dedup();
        sources
    });
    assert_eq!(sources, ["owner", "ASK", "MOVED"]);
    assert_eq!(new.query(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).unwrap(), Reply::Integer(1000));
}

/// Checks that a key is found, and returns whether the owner had it or which redirect led to it.
fn read_following_redirects(key: &str, owner: &Server, other: &Server) -> &'static str {
    let message = match owner.query(&["GET", key]) {
        Ok(reply) => {
            assert_eq!(reply.text(), Some("value"));
            return "owner";
        }
        Err(Error::Refused { message, .. }) => message,
        Err(error) => panic!("{error}"),
    };
    assert!(message.ends_with(&other.address().to_string()), "{message}");
    if message.starts_with("MOVED") {
        assert_eq!(other.query(&["GET", key]).unwrap().text(), Some("value"));
        return "MOVED";
    }
    assert!(message.starts_with("ASK"), "{message}");
    let mut connection = TcpStream::connect(other.address()).unwrap();
    write!(connection, "ASKING\r\nGET {key}\r\n").unwrap();
    let lines: Vec<String> = BufReader::new(connection).lines().take(3).map(Result::unwrap).collect();
    assert_eq!(lines, ["+OK", "$5", "value"]);
    "ASK"
}

#[test]
fn added_node_serves_and_leaves() {
    let mut cluster = Cluster::builder().masters(2).start().unwrap();
    cluster.node(0).query(&["SET", "b", "value"]).unwrap();
    let slot = cluster.slot_of("b").unwrap();
    let added = cluster.add_node().unwrap();
    assert_eq!(role(added), "master");
    let port = added.port();
    cluster.wait_until_healthy().unwrap();
    cluster.migrate_slot(slot, cluster.node(4)).unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(cluster.master_of(slot).unwrap().port(), port);
    assert_eq!(cluster.node(4).query(&["GET", "b"]).unwrap().text(), Some("value"));
    assert!(matches!(cluster.forget_node(4), Err(Error::NotReady(what)) if what.contains("owns slots")));

    // The node loses its last slot.
    cluster.migrate_slot(slot, cluster.node(0)).unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(role(cluster.node(4)), "slave");
    let left = cluster.forget_node(4).unwrap();
    assert_eq!((left.port(), cluster.nodes().len()), (port, 4));
    cluster.wait_until_healthy().unwrap();
    assert_eq!(left.query(&["CLUSTER", "INFO"]).unwrap().field("cluster_known_nodes"), Some("1"));
    assert_eq!(refusal(&left, &["GET", "b"]).as_deref(), Some("CLUSTERDOWN"));
    assert_eq!(cluster.node(0).query(&["GET", "b"]).unwrap().text(), Some("value"));
}

#[test]
fn dead_node_forgotten_after_its_replica() {
    let mut cluster = Cluster::builder().masters(1).replicas(0).start().unwrap();
    cluster.add_node().unwrap();
    cluster.add_node().unwrap();
    cluster.replicate(cluster.node(2), cluster.node(1)).unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(cluster.replicas_of(cluster.node(1))[0].port(), cluster.node(2).port());
    assert!(matches!(cluster.forget_node(1), Err(Error::NotReady(what)) if what.contains("has replicas")));
    assert_eq!(role(&cluster.forget_node(2).unwrap()), "master");
    cluster.node(1).kill().unwrap();
    assert!(!cluster.forget_node(1).unwrap().is_running());
    assert_eq!(cluster.nodes().len(), 1);
    cluster.wait_until_healthy().unwrap();
}

#[test]
fn clusters_do_not_find_each_other() {
    let start = || Cluster::builder().masters(2).start().unwrap();
    let (one, other) = thread::scope(|scope| {
        let one = scope.spawn(start);
        (start(), one.join().unwrap())
    });
    for (cluster, foreign) in [(&one, &other), (&other, &one)] {
        cluster.wait_until_healthy().unwrap();
        for node in cluster.nodes() {
            let nodes = node.query(&["CLUSTER", "NODES"]).unwrap();
            let nodes = nodes.text().unwrap();
            assert_eq!(nodes.lines().count(), 4, "{nodes}");
            assert!(
                foreign.addresses().iter().all(|address| !nodes.contains(&format!("{address}@"))),
                "{nodes}"
            );
        }
    }
}

#[test]
fn protected_nodes_fail_over_and_migrate() {
    for environment in Environment::PROTECTED {
        let cluster = Cluster::builder().environment(environment).start().unwrap();
        let url = cluster.url();
        assert!(url.starts_with("rediss+cluster://") && url.contains("ssl_ca_certs="), "{url}");
        assert_eq!(url.contains("ssl_certfile="), environment == Environment::MtlsAcl, "{url}");
        let slot = cluster.slot_of("key").unwrap();
        let old = cluster.master_of(slot).unwrap();
        old.query(&["SET", "key", "value"]).unwrap();
        let [new] = cluster.replicas_of(old)[..] else { panic!("one replica") };
        cluster.failover(new, Failover::Planned).unwrap();
        cluster.wait_until_healthy().unwrap();
        cluster.migrate_slot(slot, cluster.node(0)).unwrap();
        assert_eq!(cluster.node(0).query(&["GET", "key"]).unwrap().text(), Some("value"));
    }
}

#[test]
fn keys_migrate_with_password() {
    let cluster = Cluster::builder().masters(2).replicas(0).password("a \"secret\"").start().unwrap();
    let slot = cluster.slot_of("b").unwrap();
    cluster.node(0).query(&["SET", "b", "value"]).unwrap();
    cluster.migrate_slot(slot, cluster.node(1)).unwrap();
    assert_eq!(cluster.node(1).query(&["GET", "b"]).unwrap().text(), Some("value"));
}

#[test]
fn isolated_master_replaced() {
    let cluster = Cluster::builder().partitionable().start().unwrap();
    let (old, others): (Vec<&Server>, Vec<&Server>) =
        cluster.nodes().iter().partition(|node| node.port() == cluster.node(0).port());
    cluster.partition(&old, &others).unwrap();
    let new = cluster.wait_for_new_master(0, old[0]).unwrap();
    assert_eq!((role(old[0]), role(new)), ("master".into(), "master".into()));
    wait_until("isolation", || refusal(old[0], &["GET", "b"]).as_deref() == Some("CLUSTERDOWN"));
    assert_eq!(owners(&cluster, old[0])[0].1, old[0].port());
    wait_until("news", || others.iter().all(|node| owners(&cluster, node)[0].1 == new.port()));

    cluster.heal().unwrap();
    cluster.wait_until_healthy().unwrap();
    assert_eq!(role(old[0]), "slave");
    assert_eq!(cluster.master_of(0).unwrap().port(), new.port());
}

#[test]
fn partition_needs_network() {
    let cluster = Cluster::builder().masters(1).replicas(0).start().unwrap();
    assert!(matches!(cluster.partition(&[], &[]), Err(Error::NotReady(_))));
    assert!(matches!(cluster.heal(), Err(Error::NotReady(_))));
}
