//! Tests servers that send without end. Other tasks of the executor keep running and timeouts fire, also on
//! runtimes that do not preempt a task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::kit::{BOUND, Kit, Spawned, settings};
use crate::{Answer, ScriptedServer, Server};
use ha_redis_core::{PubSubEvent, RedisConfig};
use redis::{AsyncCommands, Value};

tests![
    endless_pushes_in_handshake_time_out,
    endless_array_in_handshake_times_out,
    endless_pushes_without_reply_end_connection,
    endless_abandoned_reply_does_not_block,
    endless_messages_do_not_block,
    endless_non_message_pushes_do_not_block,
    endless_sentinel_events_do_not_block,
    endless_sentinel_reply_does_not_block,
    large_list_does_not_block,
    truncated_pipeline_of_large_lists_does_not_block,
    large_replication_info_does_not_block,
    unconfirmed_subscription_moves_to_new_connection,
    impossible_connection_age_does_not_panic,
];

/// The longest time that another task may be delayed. It is far above the usual delay: Tokio checks its timers only
/// every few turns, tests are built without optimization, and the machine is shared.
const LONGEST_GAP: Duration = Duration::from_secs(3);
/// The client's timeout for replies.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A task of the executor that records the longest time between its turns.
struct Ticker {
    ticks: Arc<AtomicU64>,
    longest_gap: Arc<Mutex<Duration>>,
    task: Spawned<()>,
}

impl Ticker {
    fn start(kit: &Kit) -> Self {
        const INTERVAL: Duration = Duration::from_millis(2);
        let (ticks, longest_gap) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Duration>>::default());
        let (task_kit, counter, gap) = (kit.clone(), Arc::clone(&ticks), Arc::clone(&longest_gap));
        let task = kit.spawn(async move {
            loop {
                let begun = Instant::now();
                task_kit.sleep(INTERVAL).await;
                let mut longest = gap.lock().unwrap_or_else(PoisonError::into_inner);
                *longest = longest.max(begun.elapsed().saturating_sub(INTERVAL));
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { ticks, longest_gap, task }
    }

    /// Waits for `ticks` more turns.
    async fn until_ticks(&self, kit: &Kit, ticks: u64) {
        let ticks_before = self.ticks.load(Ordering::Relaxed);
        kit.until("another task runs", || self.ticks.load(Ordering::Relaxed) >= ticks_before + ticks).await;
    }

    fn assert_never_delayed(self) {
        self.task.abort();
        let longest = *self.longest_gap.lock().unwrap();
        println!("another task was delayed by {longest:?} at most");
        assert!(longest < LONGEST_GAP, "another task was delayed by {longest:?}");
    }
}

fn flood(first: &str, again: &str) -> Answer {
    Answer::Flood(first.into(), again.repeat(64 * 1024 / again.len()).into())
}

async fn assert_connecting_ends(kit: Kit, handshake: Answer) {
    let server = ScriptedServer::start_bare(move |_, _: &[String]| handshake.clone()).unwrap();
    let ticker = Ticker::start(&kit);
    let settings = settings(&server.url()).socket_connect_timeout(TIMEOUT).failover_wait(TIMEOUT);
    let connecting = kit.connect(settings.build().unwrap());
    let error = kit.within("connecting ends", connecting).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    // Further connection attempts work the same way.
    ticker.until_ticks(&kit, 20).await;
    ticker.assert_never_delayed();
}

async fn endless_pushes_in_handshake_time_out(kit: Kit) {
    assert_connecting_ends(kit, flood("", ">0\r\n")).await;
}

async fn endless_array_in_handshake_times_out(kit: Kit) {
    assert_connecting_ends(kit, flood("*?\r\n", "_\r\n")).await;
}

async fn endless_pushes_without_reply_end_connection(kit: Kit) {
    let mut first = Some(flood("", ">0\r\n"));
    let server = ScriptedServer::start(move |_, _: &[String]| {
        first.take().unwrap_or_else(|| Answer::Send(b"$2\r\nok\r\n".to_vec()))
    })
    .unwrap();
    let settings = settings(&server.url()).socket_timeout(TIMEOUT).retry_attempts(0);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let mut redis = client.connection();
    let error = kit.within("a call ends", redis.get::<_, String>("key")).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    ticker.until_ticks(&kit, 20).await;
    let mut got = redis.get::<_, String>("key").await;
    while got.is_err() {
        got = redis.get("key").await;
    }
    assert_eq!((got.unwrap(), server.accepted()), ("ok".to_owned(), 2));
    ticker.assert_never_delayed();
}

async fn endless_abandoned_reply_does_not_block(kit: Kit) {
    let server = ScriptedServer::start(|_, command: &[String]| match command[0].as_str() {
        "GET" => flood("*?\r\n", "_\r\n"),
        _ => Answer::Send(b"$2\r\nok\r\n".to_vec()),
    })
    .unwrap();
    let settings = settings(&server.url()).socket_timeout(TIMEOUT).retry_attempts(0);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let mut redis = client.connection().with_timeout(TIMEOUT / 5);
    let error = kit.within("a call ends", redis.get::<_, Value>("key")).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    ticker.until_ticks(&kit, 20).await;
    // Later callers without a timeout of their own also succeed, because the client replaces the connection.
    let mut redis = client.connection();
    let answered = async {
        while redis.ping::<String>().await.is_err() {
            kit.sleep(TIMEOUT / 20).await;
        }
    };
    kit.within("a later call succeeds", answered).await;
    ticker.assert_never_delayed();
    kit.within("closing ends", client.close()).await;
}

/// Subscribes to a server that sends `again` without end after the confirmation.
async fn assert_subscriber_does_not_block(kit: Kit, again: &'static str) {
    let server = ScriptedServer::start(move |_, command: &[String]| match command[0].as_str() {
        "SUBSCRIBE" => flood(">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", again),
        _ => Answer::Silence,
    })
    .unwrap();
    let settings = settings(&server.url()).pubsub_buffer_bytes(1 << 20).failover_wait(TIMEOUT);
    let settings = settings.socket_timeout(TIMEOUT);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let sub = client.pubsub().await.unwrap();
    let (sink, stream) = sub.split();
    kit.within("a subscription", sink.subscribe("c")).await.unwrap();
    ticker.until_ticks(&kit, 20).await;
    // Messages may precede the confirmation. Other pushes make the client replace the connection.
    let ended = kit.within("a call ends", sink.unsubscribe("c")).await;
    assert!(ended.as_ref().map_or_else(|error| error.is_timeout(), |()| true), "{ended:?}");
    ticker.until_ticks(&kit, 20).await;
    ticker.assert_never_delayed();
    drop(stream);
    kit.within("closing ends", client.close()).await;
}

async fn endless_messages_do_not_block(kit: Kit) {
    assert_subscriber_does_not_block(kit, ">3\r\n+message\r\n+c\r\n+x\r\n").await;
}

async fn endless_non_message_pushes_do_not_block(kit: Kit) {
    assert_subscriber_does_not_block(kit, ">2\r\n+invalidate\r\n*0\r\n").await;
}

/// Runs a client of one server and two Sentinels that name it. One Sentinel answers some commands with a flood.
async fn assert_sentinel_does_not_block(kit: Kit, flood: impl Fn(&str) -> Option<Answer> + Send + 'static) {
    let server = Server::start().unwrap();
    let sentinels = [sentinel_of(&server, flood), sentinel_of(&server, |_| None)];
    let hosts = sentinels.iter().map(|sentinel| ("127.0.0.1", sentinel.port()));
    let settings = RedisConfig::builder().use_sentinel(true).sentinel_hosts(hosts);
    let client = kit.connect(settings.sentinel_socket_timeout(TIMEOUT).build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let mut redis = client.connection();
    // Runs long enough for the client to query the Sentinel again and to subscribe again.
    for _ in 0..20 {
        kit.within("a call", redis.incr::<_, _, u64>("n", 1)).await.unwrap();
        ticker.until_ticks(&kit, 25).await;
    }
    ticker.assert_never_delayed();
    kit.within("closing ends", client.close()).await;
}

fn sentinel_of(server: &Server, flood: impl Fn(&str) -> Option<Answer> + Send + 'static) -> ScriptedServer {
    let port = server.port().to_string();
    ScriptedServer::start(move |_, command: &[String]| {
        let args = command.iter().map(|arg| arg.to_ascii_uppercase()).collect::<Vec<_>>();
        let args = args.iter().map(String::as_str).take(2).collect::<Vec<_>>();
        if let Some(flood) = flood(&args.join(" ")) {
            return flood;
        }
        match &args[..] {
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME"] => list(&["127.0.0.1", &port]),
            ["SENTINEL", "MASTER"] => {
                let fields = ["ip", "127.0.0.1", "port", &port, "flags", "master", "config-epoch", "1"];
                list(&[&fields[..], &["quorum", "1", "num-other-sentinels", "1"]].concat())
            }
            ["SENTINEL", "MYID"] => Answer::from("$2\r\nid\r\n"),
            ["INFO", ..] => Answer::from("$15\r\nsentinel_tilt:0\r\n"),
            ["SUBSCRIBE", ..] => Answer::Silence,
            _ => Answer::from("*0\r\n"),
        }
    })
    .unwrap()
}

fn list(args: &[&str]) -> Answer {
    let items = args.iter().map(|arg| format!("${}\r\n{arg}\r\n", arg.len())).collect::<String>();
    Answer::Send(format!("*{}\r\n{items}", args.len()).into())
}

async fn endless_sentinel_events_do_not_block(kit: Kit) {
    let event = "master mymaster 127.0.0.1 1 #quorum 1/2";
    let event = format!(">3\r\n+message\r\n+-odown\r\n${}\r\n{event}\r\n", event.len());
    assert_sentinel_does_not_block(kit, move |command| {
        let first = ">3\r\n$9\r\nsubscribe\r\n$6\r\n+odown\r\n:1\r\n";
        command.starts_with("SUBSCRIBE").then(|| flood(first, &event))
    })
    .await;
}

async fn endless_sentinel_reply_does_not_block(kit: Kit) {
    // The client requests the list of other Sentinels once the Sentinel has named a master.
    assert_sentinel_does_not_block(kit, |command| {
        (command == "SENTINEL SENTINELS").then(|| flood("*?\r\n", ">0\r\n"))
    })
    .await;
}

/// Returns a list of `length` small numbers.
fn large_list(length: usize) -> Answer {
    Answer::Send(format!("*{length}\r\n{}", ":1\r\n".repeat(length)).into())
}

async fn large_list_does_not_block(kit: Kit) {
    let server = ScriptedServer::start(|_, _: &[String]| large_list(2_000_000)).unwrap();
    let client = kit.connect(settings(&server.url()).build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let mut redis = client.connection();
    for _ in 0..3 {
        let list: Value = kit.within("a call", redis.get("key")).await.unwrap();
        assert!(matches!(list, Value::Array(items) if items.len() == 2_000_000));
    }
    ticker.assert_never_delayed();
}

async fn truncated_pipeline_of_large_lists_does_not_block(kit: Kit) {
    let mut requests = 0;
    let server = ScriptedServer::start(move |_, _: &[String]| {
        requests += 1;
        if requests % 4 == 0 { Answer::Close(Vec::new()) } else { large_list(2_000_000) }
    })
    .unwrap();
    let client = kit.connect(settings(&server.url()).retry_attempts(0).build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let mut pipeline = redis::pipe();
    for _ in 0..4 {
        pipeline.get("key");
    }
    let mut redis = client.connection();
    let broken = pipeline.query_async::<Value>(&mut redis);
    let error = kit.within("a call ends", broken).await.unwrap_err();
    assert!(error.is_connection_dropped(), "{error}");
    ticker.until_ticks(&kit, 20).await;
    ticker.assert_never_delayed();
}

/// Most of the listed replicas have invalid addresses.
async fn large_replication_info_does_not_block(kit: Kit) {
    let replica = "*3\r\n$1\r\n/\r\n$1\r\n1\r\n$1\r\n0\r\n".repeat(1_000_000);
    let role = format!("*3\r\n$6\r\nmaster\r\n:0\r\n*1000000\r\n{replica}");
    let role = Answer::from(role.as_str());
    let server = ScriptedServer::start_bare(move |_, command: &[String]| match command[0].as_str() {
        "ROLE" => role.clone(),
        "HELLO" => Answer::from("-ERR unknown command\r\n"),
        "PING" => Answer::from("+PONG\r\n"),
        _ => Answer::from("+OK\r\n"),
    })
    .unwrap();
    let client = kit.connect(settings(&server.url()).socket_timeout(BOUND).build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let task = kit.spawn(async move {
        for _ in 0..3 {
            assert!(client.topology().await.unwrap().replicas.is_empty());
            assert!(client.health_check().await.error.is_none());
        }
    });
    kit.within("the topology is available", task.end()).await;
    ticker.assert_never_delayed();
}

/// Pushes do not count as a sign of life while a confirmation is pending.
async fn unconfirmed_subscription_moves_to_new_connection(kit: Kit) {
    let mut requests = 0;
    let server = ScriptedServer::start(move |_, command: &[String]| match command[0].as_str() {
        "SUBSCRIBE" => {
            requests += 1;
            let confirmed = ">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
            match requests {
                1 => Answer::Close(confirmed.into()),
                2 => flood("", ">2\r\n$10\r\ninvalidate\r\n_\r\n"),
                _ => Answer::from(confirmed),
            }
        }
        _ => Answer::from("+OK\r\n"),
    })
    .unwrap();
    let client = kit.connect(settings(&server.url()).socket_timeout(TIMEOUT).build().unwrap()).await.unwrap();
    let mut sub = client.pubsub().await.unwrap();
    sub.subscribe("news").await.unwrap();
    let resubscribed = async {
        while let Some(event) = sub.next().await {
            if matches!(event, PubSubEvent::Resubscribed) {
                return;
            }
        }
        panic!("the stream ended");
    };
    kit.within("the client has subscribed again", resubscribed).await;
}

async fn impossible_connection_age_does_not_panic(kit: Kit) {
    let mut requests = 0;
    let server = ScriptedServer::start_bare(move |_, command: &[String]| match command[0].as_str() {
        "HELLO" => Answer::from("%2\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n"),
        "PING" => Answer::from("+PONG\r\n"),
        "GET" => {
            requests += 1;
            if requests == 1 { Answer::Close(Vec::new()) } else { Answer::from("$5\r\nvalue\r\n") }
        }
        "CLIENT" if command[1] == "LIST" => {
            let list = "id=1 age=18446744073709551615 idle=0\n";
            Answer::from(format!("${}\r\n{list}\r\n", list.len()).as_str())
        }
        _ => Answer::from("+OK\r\n"),
    })
    .unwrap();
    let client = kit.connect(settings(&server.url()).build().unwrap()).await.unwrap();
    let got: String = client.connection().get("key").await.unwrap();
    assert_eq!(got, "value");
}
