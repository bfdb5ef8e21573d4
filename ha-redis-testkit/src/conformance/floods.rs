//! Servers that send without end. Whatever a peer sends, the other tasks of an executor go on, and bounds hold: also on
//! runtimes that give a task as much time as it takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::kit::{Kit, Spawned, settings};
use crate::{Answer, ScriptedServer, Server};
use ha_redis_core::{PubSubEvent, RedisConfig};
use redis::{AsyncCommands, Value};

tests![
    handshake_of_endless_pushes_ends_at_its_bound,
    handshake_of_an_endless_array_ends_at_its_bound,
    endless_pushes_instead_of_a_reply_end_the_connection,
    endless_reply_that_nobody_waits_for_holds_up_nobody,
    endless_messages_hold_up_nobody,
    endless_pushes_that_are_no_messages_hold_up_nobody,
    endless_events_of_a_sentinel_hold_up_nobody,
    endless_answer_of_a_sentinel_holds_up_nobody,
    large_list_holds_up_nobody,
    pipeline_of_large_lists_that_breaks_off_holds_up_nobody,
    accounts_of_replicas_hold_up_nobody,
    subscription_that_is_not_confirmed_is_asked_for_elsewhere,
    age_that_no_connection_has_ends_no_task,
];

/// A task may be held up for so long. This is far above what it takes: Tokio looks at its timers after many turns only, and
/// tests are not optimized, and share their machine.
const LONGEST_GAP: Duration = Duration::from_secs(3);
/// The bound of what a flood is the answer to.
const PATIENCE: Duration = Duration::from_millis(500);

/// Another task of the executor, which notes how long it has to wait for its turn.
struct Ticker {
    ticks: Arc<AtomicU64>,
    longest_gap: Arc<Mutex<Duration>>,
    task: Spawned<()>,
}

impl Ticker {
    fn start(kit: &Kit) -> Self {
        const INTERVAL: Duration = Duration::from_millis(2);
        let (ticks, longest_gap) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Duration>>::default());
        let (own, counter, gap) = (kit.clone(), Arc::clone(&ticks), Arc::clone(&longest_gap));
        let task = kit.spawn(async move {
            loop {
                let begun = Instant::now();
                own.sleep(INTERVAL).await;
                let mut longest = gap.lock().unwrap_or_else(PoisonError::into_inner);
                *longest = longest.max(begun.elapsed().saturating_sub(INTERVAL));
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { ticks, longest_gap, task }
    }

    /// Waits until it has ticked so often again.
    async fn goes_on(&self, kit: &Kit, ticks: u64) {
        let so_far = self.ticks.load(Ordering::Relaxed);
        kit.until("another task goes on", || self.ticks.load(Ordering::Relaxed) >= so_far + ticks).await;
    }

    fn was_never_held_up(self) {
        self.task.abort();
        let longest = *self.longest_gap.lock().unwrap();
        println!("another task waited for its turn for {longest:?} at most");
        assert!(longest < LONGEST_GAP, "another task was held up for {longest:?}");
    }
}

fn flood(first: &str, again: &str) -> Answer {
    Answer::Flood(first.into(), again.repeat(64 * 1024 / again.len()).into())
}

async fn assert_connecting_ends(kit: Kit, handshake: Answer) {
    let server = ScriptedServer::start_bare(move |_, _: &[String]| handshake.clone()).unwrap();
    let ticker = Ticker::start(&kit);
    let settings = settings(server.port()).socket_connect_timeout(PATIENCE).failover_wait(PATIENCE);
    let connecting = kit.connect(settings.build().unwrap());
    let error = kit.within("connecting ends", connecting).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    // The next attempts go on.
    ticker.goes_on(&kit, 20).await;
    ticker.was_never_held_up();
}

async fn handshake_of_endless_pushes_ends_at_its_bound(kit: Kit) {
    assert_connecting_ends(kit, flood("", ">0\r\n")).await;
}

async fn handshake_of_an_endless_array_ends_at_its_bound(kit: Kit) {
    assert_connecting_ends(kit, flood("*?\r\n", "_\r\n")).await;
}

async fn endless_pushes_instead_of_a_reply_end_the_connection(kit: Kit) {
    let mut first = Some(flood("", ">0\r\n"));
    let server = ScriptedServer::start(move |_, _: &[String]| {
        first.take().unwrap_or_else(|| Answer::Send(b"$2\r\nok\r\n".to_vec()))
    })
    .unwrap();
    let settings = settings(server.port()).socket_timeout(PATIENCE).retry_attempts(0);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let mut redis = client.connection();
    let error = kit.within("a call ends", redis.get::<_, String>("key")).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    ticker.goes_on(&kit, 20).await;
    let mut got = redis.get::<_, String>("key").await;
    while got.is_err() {
        got = redis.get("key").await;
    }
    assert_eq!((got.unwrap(), server.accepted()), ("ok".to_owned(), 2));
    ticker.was_never_held_up();
}

async fn endless_reply_that_nobody_waits_for_holds_up_nobody(kit: Kit) {
    let server = ScriptedServer::start(|_, command: &[String]| match command[0].as_str() {
        "GET" => flood("*?\r\n", "_\r\n"),
        _ => Answer::Send(b"$2\r\nok\r\n".to_vec()),
    })
    .unwrap();
    let settings = settings(server.port()).socket_timeout(PATIENCE).retry_attempts(0);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let mut redis = client.connection().with_timeout(PATIENCE / 5);
    let error = kit.within("a call ends", redis.get::<_, Value>("key")).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    ticker.goes_on(&kit, 20).await;
    // Nor those who come behind it, and have no bound of their own: the connection is given up for another.
    let mut redis = client.connection();
    let answered = async {
        while redis.ping::<String>().await.is_err() {
            kit.sleep(PATIENCE / 20).await;
        }
    };
    kit.within("a call behind it succeeds", answered).await;
    ticker.was_never_held_up();
    kit.within("closing ends", client.close()).await;
}

/// Subscribes where what follows the confirmation never ends.
async fn assert_subscriber_is_no_hindrance(kit: Kit, again: &'static str) {
    let server = ScriptedServer::start(move |_, command: &[String]| match command[0].as_str() {
        "SUBSCRIBE" => flood(">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", again),
        _ => Answer::Silence,
    })
    .unwrap();
    let settings = settings(server.port()).pubsub_buffer_bytes(1 << 20).failover_wait(PATIENCE);
    let settings = settings.socket_timeout(PATIENCE);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let sub = client.pubsub().await.unwrap();
    let (sink, stream) = sub.split();
    kit.within("a subscription", sink.subscribe("c")).await.unwrap();
    ticker.goes_on(&kit, 20).await;
    // Messages may stand before its answer; for other pushes, the connection is given up for another.
    let ended = kit.within("a call ends", sink.unsubscribe("c")).await;
    assert!(ended.as_ref().map_or_else(|error| error.is_timeout(), |()| true), "{ended:?}");
    ticker.goes_on(&kit, 20).await;
    ticker.was_never_held_up();
    drop(stream);
    kit.within("closing ends", client.close()).await;
}

async fn endless_messages_hold_up_nobody(kit: Kit) {
    assert_subscriber_is_no_hindrance(kit, ">3\r\n+message\r\n+c\r\n+x\r\n").await;
}

async fn endless_pushes_that_are_no_messages_hold_up_nobody(kit: Kit) {
    assert_subscriber_is_no_hindrance(kit, ">2\r\n+invalidate\r\n*0\r\n").await;
}

/// A client of a server and of two Sentinels that name it, one of which answers some commands with a flood.
async fn assert_sentinel_is_no_hindrance(kit: Kit, flood: impl Fn(&str) -> Option<Answer> + Send + 'static) {
    let server = Server::start().unwrap();
    let sentinels = [sentinel_of(&server, flood), sentinel_of(&server, |_| None)];
    let hosts = sentinels.iter().map(|sentinel| ("127.0.0.1", sentinel.port()));
    let settings = RedisConfig::builder().use_sentinel(true).sentinel_hosts(hosts);
    let client = kit.connect(settings.sentinel_socket_timeout(PATIENCE).build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let mut redis = client.connection();
    // Long enough for it to be asked again, and to be subscribed to once more.
    for _ in 0..20 {
        kit.within("a call", redis.incr::<_, _, u64>("n", 1)).await.unwrap();
        ticker.goes_on(&kit, 25).await;
    }
    ticker.was_never_held_up();
    kit.within("closing ends", client.close()).await;
}

fn sentinel_of(server: &Server, flood: impl Fn(&str) -> Option<Answer> + Send + 'static) -> ScriptedServer {
    let port = server.port().to_string();
    ScriptedServer::start(move |_, command: &[String]| {
        let words = command.iter().map(|word| word.to_ascii_uppercase()).collect::<Vec<_>>();
        let words = words.iter().map(String::as_str).take(2).collect::<Vec<_>>();
        if let Some(flood) = flood(&words.join(" ")) {
            return flood;
        }
        match &words[..] {
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

fn list(words: &[&str]) -> Answer {
    let items = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect::<String>();
    Answer::Send(format!("*{}\r\n{items}", words.len()).into())
}

async fn endless_events_of_a_sentinel_hold_up_nobody(kit: Kit) {
    let event = "master mymaster 127.0.0.1 1 #quorum 1/2";
    let event = format!(">3\r\n+message\r\n+-odown\r\n${}\r\n{event}\r\n", event.len());
    assert_sentinel_is_no_hindrance(kit, move |command| {
        let first = ">3\r\n$9\r\nsubscribe\r\n$6\r\n+odown\r\n:1\r\n";
        command.starts_with("SUBSCRIBE").then(|| flood(first, &event))
    })
    .await;
}

async fn endless_answer_of_a_sentinel_holds_up_nobody(kit: Kit) {
    // It is asked for the others once it is known that it names a master.
    assert_sentinel_is_no_hindrance(kit, |command| {
        (command == "SENTINEL SENTINELS").then(|| flood("*?\r\n", ">0\r\n"))
    })
    .await;
}

/// A list of so many small numbers.
fn large_list(length: usize) -> Answer {
    Answer::Send(format!("*{length}\r\n{}", ":1\r\n".repeat(length)).into())
}

async fn large_list_holds_up_nobody(kit: Kit) {
    let server = ScriptedServer::start(|_, _: &[String]| large_list(2_000_000)).unwrap();
    let client = kit.connect(settings(server.port()).build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let mut redis = client.connection();
    for _ in 0..3 {
        let list: Value = kit.within("a call", redis.get("key")).await.unwrap();
        assert!(matches!(list, Value::Array(items) if items.len() == 2_000_000));
    }
    ticker.was_never_held_up();
}

async fn pipeline_of_large_lists_that_breaks_off_holds_up_nobody(kit: Kit) {
    let mut asked = 0;
    let server = ScriptedServer::start(move |_, _: &[String]| {
        asked += 1;
        if asked % 4 == 0 { Answer::Close(Vec::new()) } else { large_list(2_000_000) }
    })
    .unwrap();
    let client = kit.connect(settings(server.port()).retry_attempts(0).build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let mut pipeline = redis::pipe();
    for _ in 0..4 {
        pipeline.get("key");
    }
    let mut redis = client.connection();
    let broken = pipeline.query_async::<Value>(&mut redis);
    let error = kit.within("a call ends", broken).await.unwrap_err();
    assert!(error.is_connection_dropped(), "{error}");
    ticker.goes_on(&kit, 20).await;
    ticker.was_never_held_up();
}

/// Most of which are no addresses at all.
async fn accounts_of_replicas_hold_up_nobody(kit: Kit) {
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
    let client = kit.connect(settings(server.port()).build().unwrap()).await.unwrap();
    let ticker = Ticker::start(&kit);
    let asking = kit.spawn(async move {
        for _ in 0..3 {
            assert!(client.topology().await.unwrap().replicas.is_empty());
            assert!(client.health_check().await.error.is_none());
        }
    });
    kit.within("it is described", asking.end()).await;
    ticker.was_never_held_up();
}

/// Pushes that mean nothing are no life, while an answer is owed.
async fn subscription_that_is_not_confirmed_is_asked_for_elsewhere(kit: Kit) {
    let mut asked = 0;
    let server = ScriptedServer::start(move |_, command: &[String]| match command[0].as_str() {
        "SUBSCRIBE" => {
            asked += 1;
            let confirmed = ">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
            match asked {
                1 => Answer::Close(confirmed.into()),
                2 => flood("", ">2\r\n$10\r\ninvalidate\r\n_\r\n"),
                _ => Answer::from(confirmed),
            }
        }
        _ => Answer::from("+OK\r\n"),
    })
    .unwrap();
    let client =
        kit.connect(settings(server.port()).socket_timeout(PATIENCE).build().unwrap()).await.unwrap();
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
    kit.within("it is subscribed again", resubscribed).await;
}

async fn age_that_no_connection_has_ends_no_task(kit: Kit) {
    let mut asked = 0;
    let server = ScriptedServer::start_bare(move |_, command: &[String]| match command[0].as_str() {
        "HELLO" => Answer::from("%2\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n"),
        "PING" => Answer::from("+PONG\r\n"),
        "GET" => {
            asked += 1;
            if asked == 1 { Answer::Close(Vec::new()) } else { Answer::from("$5\r\nvalue\r\n") }
        }
        "CLIENT" if command[1] == "LIST" => {
            let list = "id=1 age=18446744073709551615 idle=0\n";
            Answer::from(format!("${}\r\n{list}\r\n", list.len()).as_str())
        }
        _ => Answer::from("+OK\r\n"),
    })
    .unwrap();
    let client = kit.connect(settings(server.port()).build().unwrap()).await.unwrap();
    let got: String = client.connection().get("key").await.unwrap();
    assert_eq!(got, "value");
}
