//! Tests reads from replicas of a directly configured server. Proxies stand in front of servers whose network
//! fails.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use futures_lite::future::poll_once;
use ha_redis_core::{
    Client, Connection, Outcome, RedisConfigBuilder, RedisErrorExt, ReplicaCandidate, ReplicaChoice,
    ReplicaStrategy, SelectionContext,
};
use redis::{AsyncCommands, RedisResult};

use super::kit::{BOUND, Kit, calls, connections, settings};
use crate::{Cut, Direction, Proxy, Server};

tests! {
    everywhere: [
        close_after_replica_reads_ends_with_the_connections,
        close_reports_cut_off_replica_reads,
        reads_spread_over_replicas,
        random_reads_use_both_replicas,
        fastest_replica_preferred,
        preferred_replicas_used_while_healthy,
        custom_replica_selection,
        killed_replica_fails_no_read,
        hung_replica_costs_one_timeout,
        replica_without_master_not_used,
        lagging_replica_not_used,
        master_fallback_without_replicas,
        slow_replicas_used,
        busy_replicas_used,
        writes_refused_before_send,
        scan_stays_on_one_replica,
        scan_ends_when_replica_changes,
    ],
    plain: [
        master_fallback_without_info_permission,
    ],
}

/// A master with two replicas. Each server is behind a proxy for clients, and each replica has a proxy in front of
/// its master.
struct Servers {
    kit: Kit,
    master: Server,
    replicas: [Server; 2],
    to_replicas: [Proxy; 2],
    to_master: [Proxy; 2],
}

impl Servers {
    /// Starts the servers, with `key` replicated from the master.
    fn start(kit: &Kit) -> Self {
        let master = kit.server();
        let to_master = [(); 2].map(|()| Proxy::before(&master).unwrap());
        let replicas = [0, 1].map(|index| {
            let follow = format!("replicaof 127.0.0.1 {}", to_master[index].port());
            kit.server_builder().config(follow).start().unwrap()
        });
        let to_replicas = [0, 1].map(|index| Proxy::before(&replicas[index]).unwrap());
        for (replica, proxy) in replicas.iter().zip(&to_replicas) {
            replica.query(&["CONFIG", "SET", "replica-announce-port", &proxy.port().to_string()]).unwrap();
        }
        let servers = Self { kit: kit.clone(), master, replicas, to_replicas, to_master };
        // The replicas reconnect under their new names.
        servers.to_master.iter().for_each(|proxy| proxy.cut(Cut::Close));
        servers.master.query(&["SET", "key", "value"]).unwrap();
        servers.wait_until_replicated();
        servers
    }

    fn wait_until_replicated(&self) {
        let start = Instant::now();
        let ports = self.to_replicas.each_ref().map(|proxy| format!("port={},state=online", proxy.port()));
        let replicated = || {
            let info = self.master.query(&["INFO", "replication"]).unwrap();
            let listed = ports.iter().all(|port| info.text().unwrap().contains(port.as_str()));
            let has = |replica: &Server| replica.query(&["STRLEN", "key"]).unwrap().text() != Some("0");
            listed && self.replicas.iter().all(has)
        };
        while !replicated() {
            assert!(start.elapsed() < BOUND, "the replicas did not synchronize");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    async fn client(&self, change: impl FnOnce(RedisConfigBuilder) -> RedisConfigBuilder) -> Client {
        let config = change(settings(&self.master.url())).build().unwrap();
        self.kit.connect(config).await.unwrap()
    }

    fn gets(&self) -> [u64; 3] {
        [&self.master, &self.replicas[0], &self.replicas[1]].map(|server| calls(server, "get"))
    }
}

/// Reads until the last 20 reads were answered by exactly the servers with these indices. Index 0 is the master.
async fn until_read_from(servers: &Servers, redis: &mut Connection, expected: &[usize]) {
    let start = Instant::now();
    loop {
        let before = servers.gets();
        read(redis, 20).await;
        let after = servers.gets();
        let read_from = (0..3).filter(|index| after[*index] > before[*index]).collect::<Vec<_>>();
        if read_from == expected {
            return;
        }
        assert!(start.elapsed() < BOUND, "{read_from:?} answered reads, expected {expected:?}");
        servers.kit.sleep(Duration::from_millis(20)).await;
    }
}

async fn read(redis: &mut Connection, times: usize) {
    for _ in 0..times {
        assert_eq!(redis.get::<_, String>("key").await.unwrap(), "value");
    }
}

async fn reads_spread_over_replicas(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings).await;
    assert_eq!(servers.replicas.each_ref().map(connections), [0, 0], "no read from replicas yet");
    let mut redis = client.replica_connection();
    read(&mut redis, 100).await;
    until_read_from(&servers, &mut redis, &[1, 2]).await;
    assert_eq!(servers.gets()[0], 0, "no read goes to the master");
    assert_eq!(servers.replicas.each_ref().map(connections), [1, 1], "one connection each");
    let replicas = client.topology().await.unwrap().replicas;
    assert!(
        replicas.iter().all(|replica| replica.latency.is_some() && replica.lag_bytes.is_some()),
        "{replicas:?}"
    );
    client.close().await;
    kit.until("close() ends the connections", || servers.replicas.each_ref().map(connections) == [0, 0])
        .await;
    let error = client.replica_connection().get::<_, String>("key").await.unwrap_err();
    assert!(error.client_error().unwrap().is_closed(), "{error}");
}

async fn close_after_replica_reads_ends_with_the_connections(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings.socket_timeout(2 * BOUND)).await;
    until_read_from(&servers, &mut client.replica_connection(), &[1, 2]).await;
    // It would wait for as long as `socket_timeout` if a connection were missing from the count.
    let closed = kit.within("the client closes", client.close()).await;
    assert!(closed.is_clean(), "{closed}");
}

async fn close_reports_cut_off_replica_reads(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings.socket_timeout(Duration::from_secs(1))).await;
    let mut redis = client.replica_connection();
    until_read_from(&servers, &mut redis, &[1, 2]).await;
    servers.replicas.iter().for_each(|replica| replica.hang().unwrap());
    let mut reading = Box::pin(redis.get::<_, Option<String>>("key"));
    assert!(poll_once(&mut reading).await.is_none(), "it is in flight");
    let closed = client.close().await;
    let read = reading.await;
    servers.replicas.iter().for_each(|replica| replica.resume().unwrap());
    assert!(read.is_err() && !closed.is_clean(), "{closed}, {read:?}");
}

async fn random_reads_use_both_replicas(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings.replica_strategy(ReplicaStrategy::Random)).await;
    until_read_from(&servers, &mut client.replica_connection(), &[1, 2]).await;
}

async fn fastest_replica_preferred(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings.replica_strategy(ReplicaStrategy::LowestLatency)).await;
    let mut redis = client.replica_connection();
    servers.to_replicas[0].delay(Direction::ToClient, Duration::from_millis(50));
    until_read_from(&servers, &mut redis, &[2]).await;
    servers.to_replicas[0].heal().unwrap();
    servers.to_replicas[1].delay(Direction::ToClient, Duration::from_millis(50));
    until_read_from(&servers, &mut redis, &[1]).await;
}

async fn preferred_replicas_used_while_healthy(kit: Kit) {
    let servers = Servers::start(&kit);
    let preferred = servers.to_replicas[1].address().to_string();
    let client = servers.client(|settings| settings.preferred_replicas([preferred])).await;
    let mut redis = client.replica_connection();
    until_read_from(&servers, &mut redis, &[2]).await;
    servers.to_replicas[1].refuse();
    servers.to_replicas[1].cut(Cut::Reset);
    until_read_from(&servers, &mut redis, &[1]).await;
    servers.to_replicas[1].heal().unwrap();
    until_read_from(&servers, &mut redis, &[2]).await;
}

/// A selection strategy that chooses one server or none.
#[derive(Debug)]
struct Only(u16);

impl ReplicaChoice for Only {
    fn choose(&self, candidates: &[ReplicaCandidate], _: SelectionContext) -> Option<usize> {
        candidates.iter().position(|candidate| candidate.address.to_string().ends_with(&self.0.to_string()))
    }
}

async fn custom_replica_selection(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings).await;
    let mut redis = client.replica_connection_by(Only(servers.to_replicas[0].port()));
    until_read_from(&servers, &mut redis, &[1]).await;
    let mut redis = client.replica_connection_by(Only(servers.master.port()));
    until_read_from(&servers, &mut redis, &[0]).await;
}

async fn killed_replica_fails_no_read(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings.replica_fallback(false)).await;
    let mut redis = client.replica_connection();
    until_read_from(&servers, &mut redis, &[1, 2]).await;
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let mut redis = client.replica_connection();
            kit.spawn(async move { read(&mut redis, 2_000).await })
        })
        .collect();
    servers.replicas[0].kill().unwrap();
    kit.all(readers).await;
    servers.replicas[0].restart().unwrap();
    servers.replicas[0]
        .query(&["CONFIG", "SET", "replica-announce-port", &servers.to_replicas[0].port().to_string()])
        .unwrap();
    servers.to_master[0].cut(Cut::Close);
    servers.wait_until_replicated();
    until_read_from(&servers, &mut redis, &[1, 2]).await;
}

async fn hung_replica_costs_one_timeout(kit: Kit) {
    let servers = Servers::start(&kit);
    let timeout = Duration::from_millis(500);
    let client = servers.client(|settings| settings.replica_fallback(false).socket_timeout(timeout)).await;
    let mut redis = client.replica_connection();
    until_read_from(&servers, &mut redis, &[1, 2]).await;
    servers.to_replicas[0].black_hole();
    let mut fast = 0;
    while fast < 100 {
        let start = Instant::now();
        read(&mut redis, 1).await;
        let took = start.elapsed();
        assert!(took < timeout * 3, "a call took {took:?}");
        fast = if took < timeout / 2 { fast + 1 } else { 0 };
    }
    // A transaction of reads is retried on another server as well.
    let values: (String, i64) =
        redis::pipe().atomic().get("key").strlen("key").query_async(&mut redis).await.unwrap();
    assert_eq!(values, ("value".to_owned(), 5));
    servers.to_replicas[0].heal().unwrap();
    until_read_from(&servers, &mut redis, &[1, 2]).await;
}

async fn replica_without_master_not_used(kit: Kit) {
    let servers = Servers::start(&kit);
    let wait = Duration::from_secs(1);
    let client = servers.client(|settings| settings.replica_fallback(false).failover_wait(wait)).await;
    let mut redis = client.replica_connection();
    until_read_from(&servers, &mut redis, &[1, 2]).await;
    let part = |index: usize| {
        servers.to_master[index].refuse();
        servers.to_master[index].cut(Cut::Reset);
    };
    part(0);
    until_read_from(&servers, &mut redis, &[2]).await;
    part(1);
    let start = Instant::now();
    let error = loop {
        match redis.get::<_, String>("key").await {
            Ok(_) => assert!(start.elapsed() < BOUND, "reads still use a replica without a master"),
            Err(error) => break error,
        }
    };
    assert!(error.is_timeout() && error.outcome() == Outcome::NotSent, "{error}");
    assert!(error.to_string().contains("no replica could be read from"), "{error}");
    servers.to_master.iter().for_each(|proxy| proxy.heal().unwrap());
    let start = Instant::now();
    while redis.get::<_, String>("key").await.is_err() {
        assert!(start.elapsed() < BOUND, "the replicas did not recover");
    }
    until_read_from(&servers, &mut redis, &[1, 2]).await;
}

async fn lagging_replica_not_used(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings.replica_max_lag(10_000)).await;
    let mut redis = client.replica_connection();
    let mut least_lag = client.replica_connection_by(ReplicaStrategy::LeastLag);
    until_read_from(&servers, &mut redis, &[1, 2]).await;
    // An isolated replica cannot detect this: its link to the master stays up.
    servers.to_master[0].black_hole();
    let mut master = client.connection();
    master.set::<_, _, ()>("other", "x".repeat(100)).await.unwrap();
    until_read_from(&servers, &mut least_lag, &[2]).await;
    until_read_from(&servers, &mut redis, &[1, 2]).await;
    master.set::<_, _, ()>("other", "x".repeat(50_000)).await.unwrap();
    until_read_from(&servers, &mut redis, &[2]).await;
    let topology = client.topology().await.unwrap();
    assert!(topology.replicas.iter().any(|replica| replica.lag_bytes > Some(10_000)), "{topology:?}");
    servers.to_master[0].heal().unwrap();
    until_read_from(&servers, &mut redis, &[1, 2]).await;
}

async fn master_fallback_without_replicas(kit: Kit) {
    let master = kit.server();
    let client = kit.client_of(&master).await;
    client.connection().set::<_, _, ()>("key", "value").await.unwrap();
    read(&mut client.replica_connection(), 3).await;
    assert_eq!(calls(&master, "get"), 3);

    let wait = Duration::from_millis(300);
    let settings = settings(&master.url()).replica_fallback(false).failover_wait(wait);
    let strict = kit.connect(settings.build().unwrap()).await.unwrap();
    let start = Instant::now();
    let error = strict.replica_connection().get::<_, String>("key").await.unwrap_err();
    assert!(start.elapsed() >= wait && start.elapsed() < BOUND);
    assert!(error.is_timeout() && error.outcome() == Outcome::NotSent, "{error}");
    assert!(error.to_string().contains("no replica is known"), "{error}");
    assert_eq!(calls(&master, "get"), 3);
}

async fn master_fallback_without_info_permission(kit: Kit) {
    let server = kit.server_builder().user("app", "on >secret ~* +@all -info").start().unwrap();
    let settings = settings(&server.url()).username("app").password("secret");
    let client = kit.connect(settings.clone().build().unwrap()).await.unwrap();
    client.connection().set::<_, _, ()>("key", "value").await.unwrap();
    let start = Instant::now();
    read(&mut client.replica_connection(), 10).await;
    assert!(start.elapsed() < client.config().socket_connect_timeout());
    let settings = settings.replica_fallback(false).failover_wait(Duration::from_millis(300));
    let strict = kit.connect(settings.build().unwrap()).await.unwrap();
    let error = strict.replica_connection().get::<_, String>("key").await.unwrap_err();
    assert!(error.to_string().contains("no permissions to run the 'info' command"), "{error}");
}

async fn slow_replicas_used(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings).await;
    until_read_from(&servers, &mut client.replica_connection(), &[1, 2]).await;
    let large = "x".repeat(1_000);
    let mut write = redis::pipe();
    write.set("large", &large).ignore().cmd("WAIT").arg(2).arg(0).ignore();
    write.exec_async(&mut client.connection()).await.unwrap();
    // Replies for fifty readers take two and a half seconds to arrive.
    servers.to_replicas.iter().for_each(|proxy| proxy.throttle(Direction::ToClient, 20_000));
    let before = servers.gets()[0];
    let reader = || {
        let (mut redis, large) = (client.replica_connection(), large.clone());
        kit.spawn(async move {
            for _ in 0..2 {
                assert_eq!(redis.get::<_, String>("large").await.unwrap(), large);
            }
        })
    };
    kit.all((0..100).map(|_| reader())).await;
    assert_eq!(servers.gets()[0], before, "the master gets no reads while replicas are required");
}

async fn busy_replicas_used(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings.max_in_flight(4)).await;
    let mut redis = client.replica_connection();
    until_read_from(&servers, &mut redis, &[1, 2]).await;
    let before = servers.gets()[0];
    // The client checks each replica several times while its connection is full.
    let readers: Vec<_> = (0..64)
        .map(|_| {
            let mut redis = client.replica_connection();
            kit.spawn(async move {
                let start = Instant::now();
                while start.elapsed() < Duration::from_secs(4) {
                    read(&mut redis, 1).await;
                }
            })
        })
        .collect();
    kit.all(readers).await;
    assert_eq!(servers.gets()[0], before, "the master gets no reads while replicas are healthy");
}

async fn writes_refused_before_send(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings).await;
    let mut redis = client.replica_connection();
    read(&mut redis, 1).await;
    let refused = |result: RedisResult<redis::Value>, name: &str| {
        let error = result.unwrap_err();
        assert!(error.client_error().unwrap().is_refused_command(), "{error}");
        assert_eq!(error.outcome(), Outcome::NotSent);
        assert!(error.to_string().contains(name), "{error}");
    };
    for text in ["SET key 1", "DEL key", "EVAL return 0", "SORT key", "NEWCOMMAND key", "PUBLISH c m"] {
        let mut command = redis::Cmd::new();
        text.split(' ').for_each(|arg| _ = command.arg(arg));
        refused(redis.request(&command).await, text.split(' ').next().unwrap());
    }
    let mut pipeline = redis::pipe();
    pipeline.get("key").set("key", 1);
    refused(pipeline.query_async(&mut redis).await, "SET");
    refused(pipeline.atomic().query_async(&mut redis).await, "SET");
    let blocking = redis::cmd("XREAD").arg(&["BLOCK", "1", "STREAMS", "s", "$"]).take();
    refused(redis.request(&blocking).await, "XREAD");
    refused(redis.request(redis::cmd("SELECT").arg(1)).await, "SELECT");
    assert_eq!(servers.gets().iter().sum::<u64>(), 1, "nothing of a refused pipeline was sent");
    for command in ["del", "eval", "sort", "publish", "xread", "multi"] {
        assert!(servers.replicas.iter().chain([&servers.master]).all(|server| calls(server, command) == 0));
    }
    // Read-only scripts count as reads.
    let sum: i64 = redis::cmd("EVAL_RO").arg("return 1 + 2").arg(0).query_async(&mut redis).await.unwrap();
    assert_eq!(sum, 3);
}

async fn scan_stays_on_one_replica(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings).await;
    let mut redis = client.replica_connection();
    let mut fill = redis::pipe();
    (0..500).for_each(|number| _ = fill.set(format!("n:{number}"), number).ignore());
    fill.cmd("WAIT").arg(2).arg(0).ignore();
    fill.exec_async(&mut client.connection()).await.unwrap();
    until_read_from(&servers, &mut redis, &[1, 2]).await;
    let keys: Vec<String> =
        redis.scan_match::<_, String>("n:*").await.unwrap().map(Result::unwrap).collect().await;
    assert_eq!(keys.into_iter().collect::<BTreeSet<_>>().len(), 500);
    let scans = servers.replicas.each_ref().map(|replica| calls(replica, "scan"));
    assert!(scans.contains(&0) && scans.iter().sum::<u64>() > 10, "{scans:?}");
}

async fn scan_ends_when_replica_changes(kit: Kit) {
    let servers = Servers::start(&kit);
    let client = servers.client(|settings| settings).await;
    let mut redis = client.replica_connection_by(Only(servers.to_replicas[0].port()));
    let mut fill = redis::pipe();
    (0..500).for_each(|number| _ = fill.set(format!("n:{number}"), number).ignore());
    fill.cmd("WAIT").arg(2).arg(0).ignore();
    fill.exec_async(&mut client.connection()).await.unwrap();
    until_read_from(&servers, &mut redis, &[1]).await;
    let begin = redis::cmd("SCAN").arg(0).take();
    let (cursor, _): (u64, Vec<String>) = begin.query_async(&mut redis).await.unwrap();
    servers.to_replicas[0].refuse();
    servers.to_replicas[0].cut(Cut::Reset);
    until_read_from(&servers, &mut redis, &[0]).await;
    let error = redis.request(redis::cmd("SCAN").arg(cursor)).await.unwrap_err();
    assert!(error.client_error().unwrap().is_refused_command(), "{error}");
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert_eq!(calls(&servers.master, "scan"), 0);
    begin.exec_async(&mut redis).await.unwrap();
    assert_eq!(calls(&servers.master, "scan"), 1);
}
