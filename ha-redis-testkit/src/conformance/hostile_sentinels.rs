//! Tests one malicious or broken Sentinel of three. No call fails, and servers that the other Sentinels do not list
//! receive neither the password nor any command.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ha_redis_core::Client;
use redis::AsyncCommands;

use super::kit::{BOUND, Kit, settings};
use super::scripted::Sentinels;
use crate::scripted::handshake;
use crate::{Answer, ScriptedServer, Server};

tests![
    huge_epoch_does_not_redirect,
    dead_address_in_huge_epoch_does_not_lock_out,
    forged_promotion_gets_no_password,
    stuck_promotion_checked_less_often,
    flapping_sentinel_fails_no_call,
    long_replica_list_of_one_sentinel_ignored,
    long_replica_list_of_all_sentinels_capped,
    claimed_sentinels_not_counted,
    sentinel_text_escaped,
    server_error_text_escaped,
];

const PASSWORD: &str = "the-secret";
const HONEST: usize = 2;
const LIAR: usize = 2;

/// A server that claims the given role, and counts the commands it receives.
struct UnknownServer {
    server: ScriptedServer,
    commands: Arc<AtomicUsize>,
}

impl UnknownServer {
    fn start(role: &'static str) -> Self {
        let commands: Arc<AtomicUsize> = Arc::default();
        let counter = Arc::clone(&commands);
        let server = ScriptedServer::start_bare(move |_, command: &[String]| {
            counter.fetch_add(1, Ordering::SeqCst);
            let is = |name: &str| command.first().is_some_and(|first| first.eq_ignore_ascii_case(name));
            match role {
                "slave" if is("ROLE") => {
                    Answer::from("*5\r\n$5\r\nslave\r\n$1\r\nm\r\n:1\r\n$9\r\nconnected\r\n:1\r\n")
                }
                "slave" if is("HELLO") => {
                    Answer::from("%2\r\n$4\r\nrole\r\n$7\r\nreplica\r\n$5\r\nproto\r\n:3\r\n")
                }
                _ => handshake(command).unwrap_or_else(|| Answer::from("+OK\r\n")),
            }
        });
        Self { server: server.unwrap(), commands }
    }

    fn port(&self) -> u16 {
        self.server.port()
    }

    fn assert_not_contacted(&self) {
        assert_eq!(
            (self.server.accepted(), self.commands.load(Ordering::SeqCst)),
            (0, 0),
            "the server was contacted"
        );
    }
}

/// Starts a master, and Sentinels that all know it and this replica.
fn start_servers(replica: u16) -> (Server, Sentinels) {
    let master = Server::builder().password(PASSWORD).start().unwrap();
    let sentinels = Sentinels::naming(&master, HONEST + 1);
    sentinels.change_all(|replies| replies.replicas = vec![replica]);
    (master, sentinels)
}

async fn client(kit: &Kit, sentinels: &Sentinels) -> Client {
    let settings = sentinels.settings().password(PASSWORD).sentinel_require_majority(true);
    kit.connect(settings.failover_wait(BOUND).build().unwrap()).await.unwrap()
}

fn event_of(channel: &str, replica: u16, master: &Server) -> (String, String) {
    let text = match channel {
        "+switch-master" => format!("mymaster 127.0.0.1 {} 127.0.0.1 {replica}", master.port()),
        _ => format!("slave 127.0.0.1:{replica} 127.0.0.1 {replica} @ mymaster 127.0.0.1 {}", master.port()),
    };
    (channel.to_owned(), text)
}

/// Calls with pauses until the client has queried the malicious Sentinel `times` more times.
async fn call_until_queried(kit: &Kit, client: &Client, sentinels: &Sentinels, times: usize) {
    let (start, mut redis) = (Instant::now(), client.connection());
    let target = sentinels.query_count(LIAR) + times;
    while sentinels.query_count(LIAR) < target {
        redis.set::<_, _, ()>("key", "value").await.unwrap();
        assert_eq!(redis.get::<_, String>("key").await.unwrap(), "value");
        assert!(start.elapsed() < BOUND, "the Sentinel was not queried");
        kit.sleep(Duration::from_millis(5)).await;
    }
}

async fn huge_epoch_does_not_redirect(kit: Kit) {
    let attacker = UnknownServer::start("master");
    let (master, sentinels) = start_servers(1);
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |replies| {
        (replies.master, replies.epoch) = (Some(attacker.port()), u64::MAX);
        replies.replicas.push(attacker.port());
        replies.publishes = vec![event_of("+switch-master", attacker.port(), &master)];
    });
    call_until_queried(&kit, &client, &sentinels, 6).await;
    master.query(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    call_until_queried(&kit, &client, &sentinels, 6).await;
    // A newly started client is not misled either.
    let client = self::client(&kit, &sentinels).await;
    call_until_queried(&kit, &client, &sentinels, 6).await;
    attacker.assert_not_contacted();
}

async fn dead_address_in_huge_epoch_does_not_lock_out(kit: Kit) {
    let (master, sentinels) = start_servers(1);
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |replies| {
        (replies.master, replies.epoch) = (Some(1), u64::MAX);
        replies.publishes = vec![event_of("+switch-master", 1, &master)];
    });
    call_until_queried(&kit, &client, &sentinels, 6).await;
    sentinels.change(LIAR, |replies| replies.answers = false);
    let mut redis = client.connection();
    for round in 0..3 {
        master.query(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        redis.set::<_, _, ()>("key", round).await.unwrap();
    }
    let start = Instant::now();
    let client = self::client(&kit, &sentinels).await;
    client.connection().set::<_, _, ()>("key", "new").await.unwrap();
    assert!(start.elapsed() < BOUND / 2, "took {:?}", start.elapsed());
}

async fn forged_promotion_gets_no_password(kit: Kit) {
    let attacker = UnknownServer::start("master");
    let (master, sentinels) = start_servers(1);
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |replies| {
        replies.replicas.push(attacker.port());
        let steps =
            ["+selected-slave", "+failover-state-send-slaveof-noone", "+promoted-slave", "+switch-master"];
        replies.publishes = steps.map(|step| event_of(step, attacker.port(), &master)).to_vec();
    });
    call_until_queried(&kit, &client, &sentinels, 10).await;
    attacker.assert_not_contacted();
}

async fn stuck_promotion_checked_less_often(kit: Kit) {
    let replica = UnknownServer::start("slave");
    let (master, sentinels) = start_servers(replica.port());
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |replies| {
        (replies.master, replies.epoch) = (Some(replica.port()), u64::MAX);
        replies.publishes = vec![("+slave".to_owned(), event_of("+slave", replica.port(), &master).1)];
    });
    let (start, mut redis) = (Instant::now(), client.connection());
    // The client checks the replica for five seconds, and again after a rest.
    while replica.server.accepted() < 2 {
        redis.set::<_, _, ()>("key", "value").await.unwrap();
        assert!(start.elapsed() < BOUND, "the replica was not checked again");
        kit.sleep(Duration::from_millis(20)).await;
    }
    let (commands, elapsed) = (replica.commands.load(Ordering::SeqCst), start.elapsed());
    assert!(elapsed > Duration::from_secs(5), "after {elapsed:?}");
    assert!(commands <= 400, "the replica received {commands} commands in {elapsed:?}");
}

async fn flapping_sentinel_fails_no_call(kit: Kit) {
    let (one, other, attacker) =
        (UnknownServer::start("slave"), UnknownServer::start("slave"), UnknownServer::start("master"));
    let (master, sentinels) = start_servers(one.port());
    sentinels.change_all(|replies| replies.replicas.push(other.port()));
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |replies| {
        let turn = |replica| {
            ["+selected-slave", "+promoted-slave", "+switch-master"]
                .map(|step| event_of(step, replica, &master))
        };
        let aborted = (
            "-failover-abort-slave-timeout".to_owned(),
            format!("master mymaster 127.0.0.1 {}", master.port()),
        );
        let turns = [one.port(), other.port(), attacker.port()].map(turn).concat();
        replies.publishes = vec![[turns, vec![aborted]].concat(); 100].concat();
    });
    let (start, mut epoch) = (Instant::now(), 2);
    for _ in 0..5 {
        for port in [one.port(), other.port(), attacker.port(), master.port()] {
            sentinels.change(LIAR, |replies| (replies.master, replies.epoch) = (Some(port), epoch));
            epoch += 1;
            call_until_queried(&kit, &client, &sentinels, 1).await;
        }
    }
    attacker.assert_not_contacted();
    let seconds = start.elapsed().as_secs() as usize + 1;
    let connections = one.server.accepted() + other.server.accepted();
    assert!(connections <= 6 + 2 * seconds, "{connections} connections in {seconds} s");
    let queries = (0..=HONEST).map(|number| sentinels.query_count(number)).max().unwrap();
    assert!(queries <= 40 + 25 * seconds, "queried {queries} times in {seconds} s");
}

async fn long_replica_list_of_one_sentinel_ignored(kit: Kit) {
    let (_master, sentinels) = start_servers(1);
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |replies| {
        replies.unused_addresses = 100_000;
        replies.replicas = (1..=3000).collect();
    });
    let queries = sentinels.query_count(LIAR);
    let (start, mut redis) = (Instant::now(), client.replica_connection());
    while sentinels.query_count(LIAR) < queries + 2 {
        // No replica is listed, so reads use the master.
        redis.get::<_, Option<String>>("key").await.unwrap();
        client.connection().set::<_, _, ()>("key", "value").await.unwrap();
        assert!(start.elapsed() < BOUND, "the Sentinel was not queried");
        kit.sleep(Duration::from_millis(20)).await;
    }
    let topology = client.topology().await.unwrap();
    // The long list may take longer than the query timeout.
    assert!((2..=3).contains(&topology.known_sentinels), "{topology}");
    assert_eq!(topology.replicas.len(), 1, "{topology}");
    let accepted = sentinels.accepted(0);
    assert!(accepted <= 20, "an honest Sentinel had {accepted} connections");
}

async fn long_replica_list_of_all_sentinels_capped(kit: Kit) {
    let (_master, sentinels) = start_servers(1);
    sentinels.change_all(|replies| replies.replicas = (1..=3000).collect());
    let client = client(&kit, &sentinels).await;
    assert_eq!(client.topology().await.unwrap().replicas.len(), 64);
    let (start, mut redis) = (Instant::now(), client.replica_connection());
    for _ in 0..20 {
        redis.get::<_, Option<String>>("key").await.unwrap();
    }
    assert!(start.elapsed() < BOUND / 2, "took {:?}", start.elapsed());
}

async fn claimed_sentinels_not_counted(kit: Kit) {
    let (_master, sentinels) = start_servers(1);
    sentinels.change(LIAR, |replies| replies.others = u64::MAX);
    let client = client(&kit, &sentinels).await;
    for others in [u64::MAX, 1_000_000, 0] {
        sentinels.change(LIAR, |replies| replies.others = others);
        client.connection().set::<_, _, ()>("key", "value").await.unwrap();
        let topology = client.topology().await.unwrap();
        assert_eq!((topology.known_sentinels, topology.has_majority()), (3, true), "{topology}");
    }
    sentinels.change_all(|replies| replies.others = u64::MAX);
    let topology = client.topology().await.unwrap();
    assert_eq!(topology.known_sentinels, 3, "{topology}");
}

/// Fails if `text` contains control characters or other text that affects more than its own line.
fn assert_printable(text: &str) {
    let harmful = |character: char| character.is_control() || "\u{202e}\u{200b}\u{2028}".contains(character);
    assert!(!text.contains(harmful), "{text:?}");
    assert!(text.len() < 4000, "{} bytes", text.len());
}

async fn sentinel_text_escaped(kit: Kit) {
    let (_master, sentinels) = start_servers(1);
    let odd = "10.0.0.1\r\n2026 INFO all is well \u{1b}[2J\u{7}\u{202e}\u{200b}\u{2028}";
    for host in [odd, &"x".repeat(100_000), "0.0.0.0", "::", "0", ""] {
        sentinels.change_all(|replies| host.clone_into(&mut replies.host));
        let settings = sentinels.settings().failover_wait(Duration::from_millis(500));
        let error = kit.connect(settings.build().unwrap()).await.unwrap_err();
        assert!(error.is_sentinel(), "{error}");
        assert_printable(&error.to_string());
        assert!(error.to_string().contains("not a server address"), "{error}");
    }
    // A single Sentinel causes no error.
    sentinels.change_all(|replies| replies.host = "127.0.0.1".to_owned());
    sentinels.change(LIAR, |replies| replies.host = odd.to_owned());
    let client = client(&kit, &sentinels).await;
    client.connection().set::<_, _, ()>("key", "value").await.unwrap();
    let topology = client.topology().await.unwrap();
    assert_printable(&format!("{topology}"));
    let errors = topology.sentinel_states.iter().filter_map(|state| state.error.as_ref());
    assert_eq!(errors.inspect(|error| assert_printable(error)).count(), 1);
}

async fn server_error_text_escaped(kit: Kit) {
    for refusal in ["WRONGPASS", "ERR", "NOPERM", "MADEUP", "BUSY"] {
        let text = format!("-{refusal} \u{1b}[2J\u{7}\u{202e}{}\r\n", "password \u{200b}".repeat(1000));
        let server = ScriptedServer::start_bare(move |_, _: &[String]| Answer::from(text.as_str())).unwrap();
        let client = kit.client(settings(&server.url()).password(PASSWORD).build().unwrap());
        let error = kit.within("an error", client.initialize()).await.unwrap_err();
        assert_printable(&error.to_string());
        assert!(error.to_string().contains(r"\u{1b}[2J"), "{error}");
    }
}
