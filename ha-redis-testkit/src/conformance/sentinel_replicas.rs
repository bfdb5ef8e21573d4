//! Tests reads from the replicas that Sentinels list, while servers fail and change their roles.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ha_redis_core::{Client, Connection, Event};
use redis::AsyncCommands;

use super::kit::{BOUND, Kit, Spawned, calls, settings};
use crate::{Server, Topology};

tests! {
    everywhere: [
        killed_master_moves_reads_off_promoted_replica,
        old_master_used_for_reads_after_planned_failover,
        hung_replica_left_when_sentinels_report_it_down,
        error_names_replicas_without_master,
        replicas_used_without_sentinels,
        sentinel_reset_keeps_replicas,
    ],
}

/// The client's reply timeout, longer than any reply here takes.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// Returns a client that reads only from replicas, for a topology whose servers all have `key`.
async fn client(kit: &Kit, topology: &Topology, failover_wait: Duration) -> Client {
    let settings = settings(&topology.url()).replica_fallback(false);
    let settings = settings.failover_wait(failover_wait).socket_timeout(REPLY_TIMEOUT);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut write = redis::pipe();
    write.set("key", "value").ignore().cmd("WAIT").arg(2).arg(0).ignore();
    write.exec_async(&mut client.connection()).await.unwrap();
    client
}

async fn read(redis: &mut Connection) {
    assert_eq!(redis.get::<_, String>("key").await.unwrap(), "value");
}

/// Reads until the last 20 reads were answered by all running replicas, and by no other server.
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
        assert!(start.elapsed() < BOUND, "{read_from:?} answered reads, expected {replicas:?}");
        kit.sleep(Duration::from_millis(20)).await;
    }
}

/// A caller that reads in a loop. It panics at the first error.
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
        kit.until("reads still succeed", progress).await;
    }

    async fn finish(self, kit: &Kit) {
        self.stop.store(true, Ordering::Relaxed);
        kit.within("the reader ends", self.task.end()).await;
    }
}

async fn killed_master_moves_reads_off_promoted_replica(kit: Kit) {
    let topology = kit.topology();
    // On a busy machine the failover may take two attempts. The candidate of the first becomes a replica ten
    // seconds later.
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

async fn old_master_used_for_reads_after_planned_failover(kit: Kit) {
    let topology = kit.topology_builder().demote_after(Duration::from_secs(1)).start().unwrap();
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

async fn hung_replica_left_when_sentinels_report_it_down(kit: Kit) {
    let topology = kit.topology();
    let client = client(&kit, &topology, BOUND).await;
    let mut redis = client.replica_connection();
    let replicas = topology.replicas().unwrap();
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
    replicas[0].hang().unwrap();
    // The Sentinels need half a second to detect it, and the client queries them every two seconds.
    let start = Instant::now();
    for _ in 0..100 {
        read(&mut redis).await;
    }
    assert!(start.elapsed() < REPLY_TIMEOUT / 2, "took {:?}", start.elapsed());
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
    replicas[0].resume().unwrap();
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
}

async fn error_names_replicas_without_master(kit: Kit) {
    let topology = kit.topology();
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
            Ok(_) => assert!(start.elapsed() < BOUND, "reads still use a replica without a master"),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("its link to its master is down"), "{error}");
    assert!(replicas.iter().all(|replica| error.contains(&replica.address().to_string())), "{error}");
}

async fn replicas_used_without_sentinels(kit: Kit) {
    let topology = kit.topology();
    let client = client(&kit, &topology, BOUND).await;
    let mut redis = client.replica_connection();
    let replicas = topology.replicas().unwrap();
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
    topology.sentinels().iter().for_each(|sentinel| sentinel.kill().unwrap());
    // The client keeps using the replicas even if their connections are lost.
    replicas.iter().for_each(|replica| _ = replica.query(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap());
    until_replicas_are_read_from(&kit, &topology, &mut redis).await;
}

async fn sentinel_reset_keeps_replicas(kit: Kit) {
    let topology = kit.topology();
    // A read waits for a replica, but not until the Sentinels refresh their lists, which takes ten seconds.
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
    kit.within("the Sentinels list no replica", forgotten).await;
    for _ in 0..20 {
        read(&mut redis).await;
    }
    // The client still leaves a replica that stops replicating from this master.
    let [promoted, replica] = topology.replicas().unwrap()[..] else { panic!("two replicas") };
    promoted.query(&["REPLICAOF", "NO", "ONE"]).unwrap();
    let before = || calls(promoted, "get");
    let start = Instant::now();
    loop {
        let (promoted_before, replica_before) = (before(), calls(replica, "get"));
        for _ in 0..20 {
            read(&mut redis).await;
        }
        if before() == promoted_before && calls(replica, "get") == replica_before + 20 {
            return;
        }
        assert!(start.elapsed() < BOUND, "reads still use the promoted server");
    }
}
