//! Reads from the replicas that Sentinels name, while servers fail and change their roles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ha_redis_core::{Client, Connection, Event};
use redis::AsyncCommands;

use super::kit::{BOUND, Kit, Spawned, calls, config};
use crate::{Server, Topology};

tests![
    a_killed_master_is_a_slow_read_and_the_promoted_replica_is_left,
    after_a_planned_failover_the_old_master_is_read_from,
    a_hanging_replica_is_left_when_the_sentinels_find_it_down,
    replicas_without_a_master_are_named_in_the_error,
    without_any_sentinel_the_replicas_are_used_on,
    sentinels_that_are_reset_take_no_replica_away,
];

/// The client's reply timeout: longer than any reply here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client that reads from replicas alone, of a topology whose servers all have `key`.
async fn client(kit: &Kit, topology: &Topology, failover_wait: Duration) -> Client {
    let settings = config(&topology.url()).to_builder().replica_fallback(false);
    let settings = settings.failover_wait(failover_wait).socket_timeout(PATIENCE);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut write = redis::pipe();
    write.set("key", "value").ignore().cmd("WAIT").arg(2).arg(0).ignore();
    write.exec_async(&mut client.connection()).await.unwrap();
    client
}

async fn read(redis: &mut Connection) {
    assert_eq!(redis.get::<_, String>("key").await.unwrap(), "value");
}

/// Reads until the last 20 reads were answered by all replicas that are up, and by no other server.
async fn until_replicas_are_read_from(kit: &Kit, topology: &Topology, redis: &mut Connection) {
    let start = Instant::now();
    let up = || topology.servers().iter().filter(|server| server.is_running() && !server.is_hanging());
    loop {
        let before: Vec<_> = up().map(|server| (server, calls(server, "get"))).collect();
        for _ in 0..20 {
            read(redis).await;
        }
        let read_from = before.into_iter().filter(|(server, before)| calls(server, "get") > *before);
        let read_from: Vec<u16> = read_from.map(|(server, _)| server.port()).collect();
        let master = topology.master().unwrap().port();
        let replicas: Vec<u16> = up().map(Server::port).filter(|port| *port != master).collect();
        if read_from == replicas {
            return;
        }
        assert!(start.elapsed() < BOUND, "{read_from:?} were read from in place of {replicas:?}");
        kit.sleep(Duration::from_millis(20)).await;
    }
}

/// A caller that reads all the time. It panics at the first error.
struct Reader {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    task: Spawned<()>,
}

impl Reader {
    fn start(kit: &Kit, client: &Client) -> Self {
        let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&reads));
        let (timer, mut redis) = (kit.clone(), client.replica_connection());
        let task = kit.spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                read(&mut redis).await;
                counted.fetch_add(1, Ordering::Relaxed);
                timer.sleep(Duration::from_millis(1)).await;
            }
        });
        Self { stop, reads, task }
    }

    async fn progress(&self, kit: &Kit) {
        let target = self.reads.load(Ordering::Relaxed) + 100;
        let progress = || self.task.has_ended() || self.reads.load(Ordering::Relaxed) >= target;
        kit.until("reads go on", progress).await;
    }

    async fn finish(self, kit: &Kit) {
        self.stop.store(true, Ordering::Relaxed);
        kit.within("the reader ends", self.task.end()).await;
    }
}

async fn a_killed_master_is_a_slow_read_and_the_promoted_replica_is_left(kit: Kit) {
    let topology = Topology::start().unwrap();
    // On a busy machine the failover may take two attempts, and the loser of the first is a replica ten seconds later.
    let client = client(&kit, &topology, BOUND).await;
    let mut redis = client.replica_connection();
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
    let reader = Reader::start(&kit, &client);
    reader.progress(&kit).await;
    let old = topology.kill_master().unwrap();
    topology.wait_for_new_master(old).unwrap();
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
    reader.progress(&kit).await;
    reader.finish(&kit).await;
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
}

async fn after_a_planned_failover_the_old_master_is_read_from(kit: Kit) {
    let topology = Topology::builder().demote_after(Duration::from_secs(1)).start().unwrap();
    let client = client(&kit, &topology, BOUND).await;
    let reader = Reader::start(&kit, &client);
    reader.progress(&kit).await;
    let old = topology.planned_failover().unwrap();
    topology.wait_for_new_master(old).unwrap();
    topology.wait_until_healthy().unwrap();
    let replicas = topology.replicas().unwrap();
    assert!(replicas.iter().any(|replica| replica.port() == old.port()));
    until_replicas_are_read_from(&kit, &topology, &mut client.replica_connection()).await;
    reader.progress(&kit).await;
    reader.finish(&kit).await;
}

async fn a_hanging_replica_is_left_when_the_sentinels_find_it_down(kit: Kit) {
    let topology = Topology::start().unwrap();
    let client = client(&kit, &topology, BOUND).await;
    let mut redis = client.replica_connection();
    let replicas = topology.replicas().unwrap();
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
    replicas[0].hang().unwrap();
    // The Sentinels need half a second to find out, and the client asks them every two.
    let start = Instant::now();
    for _ in 0..100 {
        read(&mut redis).await;
    }
    assert!(start.elapsed() < PATIENCE / 2, "took {:?}", start.elapsed());
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
    replicas[0].resume().unwrap();
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
}

async fn replicas_without_a_master_are_named_in_the_error(kit: Kit) {
    let topology = Topology::start().unwrap();
    let strict = client(&kit, &topology, Duration::from_secs(1)).await;
    let mut redis = strict.replica_connection();
    let replicas = topology.replicas().unwrap();
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
    for replica in &replicas {
        replica.query(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    }
    let start = Instant::now();
    let error = loop {
        match redis.get::<_, String>("key").await {
            Ok(_) => assert!(start.elapsed() < BOUND, "a replica without a master is read from"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("its link to its master is down"), "{error}");
    assert!(replicas.iter().all(|replica| error.contains(&replica.address().to_string())), "{error}");
}

async fn without_any_sentinel_the_replicas_are_used_on(kit: Kit) {
    let topology = Topology::start().unwrap();
    let client = client(&kit, &topology, BOUND).await;
    let mut redis = client.replica_connection();
    let replicas = topology.replicas().unwrap();
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
    topology.sentinels().iter().for_each(|sentinel| sentinel.kill().unwrap());
    // Also when their connections are lost.
    replicas.iter().for_each(|replica| _ = replica.query(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap());
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
}

async fn sentinels_that_are_reset_take_no_replica_away(kit: Kit) {
    let topology = Topology::start().unwrap();
    // A read waits for a replica, but not until the Sentinels look again which there are: that takes them ten seconds.
    let client = client(&kit, &topology, Duration::from_secs(1)).await;
    let mut events = client.events();
    let mut redis = client.replica_connection();
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
    let reset = |sentinel: &Server| drop(sentinel.query(&["SENTINEL", "RESET", "mymaster"]).unwrap());
    topology.sentinels().iter().for_each(reset);
    let forgotten = async {
        for _ in 0..2 {
            while !matches!(events.next().await.unwrap(), Event::ReplicaDown(_)) {}
        }
    };
    kit.within("the client hears of no replica", forgotten).await;
    for _ in 0..20 {
        read(&mut redis).await;
    }
    // One that follows this master no more is left all the same.
    let [left, kept] = topology.replicas().unwrap()[..] else { panic!("two replicas") };
    left.query(&["REPLICAOF", "NO", "ONE"]).unwrap();
    let before = || calls(left, "get");
    let start = Instant::now();
    loop {
        let (left_before, kept_before) = (before(), calls(kept, "get"));
        for _ in 0..20 {
            read(&mut redis).await;
        }
        if before() == left_before && calls(kept, "get") == kept_before + 20 {
            return;
        }
        assert!(start.elapsed() < BOUND, "it is still read from");
    }
}
