//! Tests servers that answer the client's own queries with very large replies.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::AsyncCommands;

use super::kit::{Kit, connections, peak_memory, settings};
use crate::{Answer, ScriptedServer, Server};

tests![
    role_with_a_million_replicas_is_bounded,
    endless_replication_info_not_read,
    replicas_beyond_cap_not_contacted,
];

/// The most replicas that the client accepts from one server.
const MAX_REPLICAS: usize = 64;

const SIZE: usize = 50 << 20;

/// A task that is always ready to run and records its longest interruption.
struct BusyTask {
    longest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl BusyTask {
    fn start(kit: &Kit) -> Self {
        let busy_task = Self { longest: Arc::default(), stop: Arc::default() };
        let (kit, longest, stop) = (kit.clone(), Arc::clone(&busy_task.longest), Arc::clone(&busy_task.stop));
        let task_kit = kit.clone();
        drop(kit.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                task_kit.sleep(Duration::from_millis(5)).await;
                longest.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
            }
        }));
        busy_task
    }

    fn longest(&self) -> u64 {
        self.longest.load(Ordering::Relaxed)
    }
}

impl Drop for BusyTask {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn bulk(text: &str) -> Answer {
    Answer::from(format!("${}\r\n{text}\r\n", text.len()).as_str())
}

const MASTER: &str =
    "role:master\r\nmaster_replid:8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb\r\nmaster_repl_offset:0\r\n";

async fn role_with_a_million_replicas_is_bounded(kit: Kit) {
    let replica = "*3\r\n$9\r\n127.0.0.1\r\n$1\r\n1\r\n$1\r\n0\r\n";
    let role = format!("*3\r\n$6\r\nmaster\r\n:0\r\n*1000000\r\n{}", replica.repeat(1_000_000));
    let role = Answer::from(role.as_str());
    // The handshake succeeds, but the list of replicas is too large.
    let server = ScriptedServer::start_bare(move |_, command: &[String]| {
        let is_role = command[0].eq_ignore_ascii_case("ROLE");
        match command[0].to_ascii_uppercase().as_str() {
            "HELLO" => Answer::from("-ERR unknown command\r\n"),
            "PING" => Answer::from("+PONG\r\n"),
            _ if is_role => role.clone(),
            "INFO" => bulk(MASTER),
            _ => Answer::from("+OK\r\n"),
        }
    })
    .unwrap();
    let limit = 64 << 20;
    let client = kit.connect(settings(&server.url()).max_reply_bytes(limit).build().unwrap()).await.unwrap();
    let before = peak_memory();
    // The reply exceeds the limit, so it counts as no reply and the client falls back to INFO.
    let described = client.topology().await.map(|topology| topology.replicas.len());
    assert!(described.as_ref().is_ok_and(|replicas| *replicas == 0) || described.is_err(), "{described:?}");
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < limit as usize + (16 << 20), "{grown}");
    let client = kit.connect(settings(&server.url()).build().unwrap()).await.unwrap();
    assert_eq!(client.topology().await.unwrap().replicas.len(), MAX_REPLICAS);
}

async fn endless_replication_info_not_read(kit: Kit) {
    let info = bulk(&format!("{MASTER}{}", "x:y\r\n".repeat(SIZE / 5)));
    let queries = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&queries);
    let server = ScriptedServer::start(move |_, command: &[String]| match command[0].as_str() {
        "INFO" => {
            counter.fetch_add(1, Ordering::Relaxed);
            info.clone()
        }
        "GET" => Answer::from("$5\r\nvalue\r\n"),
        _ => Answer::from("-ERR unknown command\r\n"),
    })
    .unwrap();
    let client = kit.connect(settings(&server.url()).build().unwrap()).await.unwrap();
    let mut reads = client.replica_connection();
    let busy_task = BusyTask::start(&kit);
    let reading = async {
        while queries.load(Ordering::Relaxed) < 3 {
            assert_eq!(reads.get::<_, String>("key").await.unwrap(), "value");
            kit.sleep(Duration::from_millis(10)).await;
        }
    };
    kit.within("the client has queried three times", reading).await;
    println!("another task stood still for {} ms", busy_task.longest());
    assert!(busy_task.longest() < 500, "{} ms", busy_task.longest());
}

async fn replicas_beyond_cap_not_contacted(kit: Kit) {
    let replica = Server::builder().bind(Ipv4Addr::UNSPECIFIED.into()).config("replicaof 127.0.0.1 1");
    let replica = replica.start().unwrap();
    let mut listed = MASTER.to_owned();
    // All addresses lead to the same server.
    for number in 0..2 * MAX_REPLICAS {
        let ip = format!("127.{}.{}.1", 1 + number / 250, number % 250);
        write!(listed, "slave{number}:ip={ip},port={},state=online,offset=0,lag=0\r\n", replica.port())
            .unwrap();
    }
    let queries = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&queries);
    let server = ScriptedServer::start(move |_, command: &[String]| match command[0].as_str() {
        "INFO" => {
            counter.fetch_add(1, Ordering::Relaxed);
            bulk(&listed)
        }
        _ => Answer::from("$5\r\nvalue\r\n"),
    })
    .unwrap();
    let client = kit.connect(settings(&server.url()).build().unwrap()).await.unwrap();
    assert_eq!(client.replica_connection().get::<_, String>("key").await.unwrap(), "value");
    kit.until("the client is connected to the maximum of replicas", || connections(&replica) >= MAX_REPLICAS)
        .await;
    // Each list that is read starts one task per server in it.
    let queries_before = queries.load(Ordering::Relaxed);
    kit.until("the list is read again", || queries.load(Ordering::Relaxed) >= queries_before + 2).await;
    assert_eq!(connections(&replica), MAX_REPLICAS);
}
