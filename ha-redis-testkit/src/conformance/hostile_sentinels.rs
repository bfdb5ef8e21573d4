//! One Sentinel of three means harm, or is broken. No call fails, and no server that the others do not know hears the
//! password, or anything at all.

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
    a_huge_epoch_leads_nobody_to_an_attacker,
    a_dead_address_in_a_huge_epoch_locks_nobody_out,
    a_forged_promotion_gets_no_password,
    a_stuck_sentinel_has_a_replica_asked_less_and_less_often,
    flapping_makes_no_connections_and_fails_no_call,
    a_long_list_of_one_is_nobodys_list,
    a_long_list_of_all_is_cut,
    companions_are_not_believed_to_be_there,
    what_a_sentinel_names_is_escaped,
    what_a_server_refuses_is_escaped,
];

const PASSWORD: &str = "the-secret";
const HONEST: usize = 2;
const LIAR: usize = 2;

/// A server that says that it is what it is wanted to be, and counts what it hears.
struct Stranger {
    server: ScriptedServer,
    heard: Arc<AtomicUsize>,
}

impl Stranger {
    fn start(role: &'static str) -> Self {
        let heard: Arc<AtomicUsize> = Arc::default();
        let counter = Arc::clone(&heard);
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
        Self { server: server.unwrap(), heard }
    }

    fn port(&self) -> u16 {
        self.server.port()
    }

    fn assert_untouched(&self) {
        assert_eq!((self.server.accepted(), self.heard.load(Ordering::SeqCst)), (0, 0), "it was spoken to");
    }
}

/// A master, and Sentinels that all know it and this replica.
fn scene(replica: u16) -> (Server, Sentinels) {
    let master = Server::builder().password(PASSWORD).start().unwrap();
    let sentinels = Sentinels::naming(&master, HONEST + 1);
    sentinels.change_all(|says| says.replicas = vec![replica]);
    (master, sentinels)
}

async fn client(kit: &Kit, sentinels: &Sentinels) -> Client {
    let settings = sentinels.settings().password(PASSWORD).sentinel_require_majority(true);
    kit.connect(settings.failover_wait(BOUND).build().unwrap()).await.unwrap()
}

fn about(channel: &str, replica: u16, master: &Server) -> (String, String) {
    let text = match channel {
        "+switch-master" => format!("mymaster 127.0.0.1 {} 127.0.0.1 {replica}", master.port()),
        _ => format!("slave 127.0.0.1:{replica} 127.0.0.1 {replica} @ mymaster 127.0.0.1 {}", master.port()),
    };
    (channel.to_owned(), text)
}

/// Calls until the liar has been asked so often more, with pauses.
async fn call_while_asked(kit: &Kit, client: &Client, sentinels: &Sentinels, times: usize) {
    let (start, mut redis) = (Instant::now(), client.connection());
    let target = sentinels.asked(LIAR) + times;
    while sentinels.asked(LIAR) < target {
        redis.set::<_, _, ()>("key", "value").await.unwrap();
        assert_eq!(redis.get::<_, String>("key").await.unwrap(), "value");
        assert!(start.elapsed() < BOUND, "it is not asked");
        kit.sleep(Duration::from_millis(5)).await;
    }
}

async fn a_huge_epoch_leads_nobody_to_an_attacker(kit: Kit) {
    let attacker = Stranger::start("master");
    let (master, sentinels) = scene(1);
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |says| {
        (says.master, says.epoch) = (Some(attacker.port()), u64::MAX);
        says.replicas.push(attacker.port());
        says.publishes = vec![about("+switch-master", attacker.port(), &master)];
    });
    call_while_asked(&kit, &client, &sentinels, 6).await;
    master.query(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    call_while_asked(&kit, &client, &sentinels, 6).await;
    // Nor one that has just started.
    let client = self::client(&kit, &sentinels).await;
    call_while_asked(&kit, &client, &sentinels, 6).await;
    attacker.assert_untouched();
}

async fn a_dead_address_in_a_huge_epoch_locks_nobody_out(kit: Kit) {
    let (master, sentinels) = scene(1);
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |says| {
        (says.master, says.epoch) = (Some(1), u64::MAX);
        says.publishes = vec![about("+switch-master", 1, &master)];
    });
    call_while_asked(&kit, &client, &sentinels, 6).await;
    sentinels.change(LIAR, |says| says.answers = false);
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

async fn a_forged_promotion_gets_no_password(kit: Kit) {
    let attacker = Stranger::start("master");
    let (master, sentinels) = scene(1);
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |says| {
        says.replicas.push(attacker.port());
        let steps =
            ["+selected-slave", "+failover-state-send-slaveof-noone", "+promoted-slave", "+switch-master"];
        says.publishes = steps.map(|step| about(step, attacker.port(), &master)).to_vec();
    });
    call_while_asked(&kit, &client, &sentinels, 10).await;
    attacker.assert_untouched();
}

async fn a_stuck_sentinel_has_a_replica_asked_less_and_less_often(kit: Kit) {
    let replica = Stranger::start("slave");
    let (master, sentinels) = scene(replica.port());
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |says| {
        (says.master, says.epoch) = (Some(replica.port()), u64::MAX);
        says.publishes = vec![("+slave".to_owned(), about("+slave", replica.port(), &master).1)];
    });
    let (start, mut redis) = (Instant::now(), client.connection());
    // It is looked at for five seconds, and again after a while.
    while replica.server.accepted() < 2 {
        redis.set::<_, _, ()>("key", "value").await.unwrap();
        assert!(start.elapsed() < BOUND, "it is not looked at again");
        kit.sleep(Duration::from_millis(20)).await;
    }
    let (heard, elapsed) = (replica.heard.load(Ordering::SeqCst), start.elapsed());
    assert!(elapsed > Duration::from_secs(5), "after {elapsed:?}");
    assert!(heard <= 400, "it heard {heard} commands in {elapsed:?}");
}

async fn flapping_makes_no_connections_and_fails_no_call(kit: Kit) {
    let (one, other, attacker) =
        (Stranger::start("slave"), Stranger::start("slave"), Stranger::start("master"));
    let (master, sentinels) = scene(one.port());
    sentinels.change_all(|says| says.replicas.push(other.port()));
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |says| {
        let turn = |replica| {
            ["+selected-slave", "+promoted-slave", "+switch-master"].map(|step| about(step, replica, &master))
        };
        let aborted = (
            "-failover-abort-slave-timeout".to_owned(),
            format!("master mymaster 127.0.0.1 {}", master.port()),
        );
        let turns = [one.port(), other.port(), attacker.port()].map(turn).concat();
        says.publishes = vec![[turns, vec![aborted]].concat(); 100].concat();
    });
    let (start, mut epoch) = (Instant::now(), 2);
    for _ in 0..5 {
        for port in [one.port(), other.port(), attacker.port(), master.port()] {
            sentinels.change(LIAR, |says| (says.master, says.epoch) = (Some(port), epoch));
            epoch += 1;
            call_while_asked(&kit, &client, &sentinels, 1).await;
        }
    }
    attacker.assert_untouched();
    let seconds = start.elapsed().as_secs() as usize + 1;
    let connections = one.server.accepted() + other.server.accepted();
    assert!(connections <= 6 + 2 * seconds, "{connections} connections in {seconds} s");
    let asked = (0..=HONEST).map(|number| sentinels.asked(number)).max().unwrap();
    assert!(asked <= 40 + 25 * seconds, "asked {asked} times in {seconds} s");
}

async fn a_long_list_of_one_is_nobodys_list(kit: Kit) {
    let (_master, sentinels) = scene(1);
    let client = client(&kit, &sentinels).await;
    sentinels.change(LIAR, |says| {
        says.strangers = 100_000;
        says.replicas = (1..=3000).collect();
    });
    let asked = sentinels.asked(LIAR);
    let (start, mut redis) = (Instant::now(), client.replica_connection());
    while sentinels.asked(LIAR) < asked + 2 {
        // No replica is there, and the master stands in.
        redis.get::<_, Option<String>>("key").await.unwrap();
        client.connection().set::<_, _, ()>("key", "value").await.unwrap();
        assert!(start.elapsed() < BOUND, "it is not asked");
        kit.sleep(Duration::from_millis(20)).await;
    }
    let topology = client.topology().await.unwrap();
    // Its list may take longer than it has.
    assert!((2..=3).contains(&topology.known_sentinels), "{topology}");
    assert_eq!(topology.replicas.len(), 1, "{topology}");
    let accepted = sentinels.accepted(0);
    assert!(accepted <= 20, "an honest one had {accepted} connections");
}

async fn a_long_list_of_all_is_cut(kit: Kit) {
    let (_master, sentinels) = scene(1);
    sentinels.change_all(|says| says.replicas = (1..=3000).collect());
    let client = client(&kit, &sentinels).await;
    assert_eq!(client.topology().await.unwrap().replicas.len(), 64);
    let (start, mut redis) = (Instant::now(), client.replica_connection());
    for _ in 0..20 {
        redis.get::<_, Option<String>>("key").await.unwrap();
    }
    assert!(start.elapsed() < BOUND / 2, "took {:?}", start.elapsed());
}

async fn companions_are_not_believed_to_be_there(kit: Kit) {
    let (_master, sentinels) = scene(1);
    sentinels.change(LIAR, |says| says.others = u64::MAX);
    let client = client(&kit, &sentinels).await;
    for others in [u64::MAX, 1_000_000, 0] {
        sentinels.change(LIAR, |says| says.others = others);
        client.connection().set::<_, _, ()>("key", "value").await.unwrap();
        let topology = client.topology().await.unwrap();
        assert_eq!((topology.known_sentinels, topology.has_majority()), (3, true), "{topology}");
    }
    sentinels.change_all(|says| says.others = u64::MAX);
    let topology = client.topology().await.unwrap();
    assert_eq!(topology.known_sentinels, 3, "{topology}");
}

/// Fails if a text would do more than stand on its line.
fn assert_harmless(text: &str) {
    let harmful = |character: char| character.is_control() || "\u{202e}\u{200b}\u{2028}".contains(character);
    assert!(!text.contains(harmful), "{text:?}");
    assert!(text.len() < 4000, "{} bytes", text.len());
}

async fn what_a_sentinel_names_is_escaped(kit: Kit) {
    let (_master, sentinels) = scene(1);
    let odd = "10.0.0.1\r\n2026 INFO all is well \u{1b}[2J\u{7}\u{202e}\u{200b}\u{2028}";
    for host in [odd, &"x".repeat(100_000), "0.0.0.0", "::", "0", ""] {
        sentinels.change_all(|says| host.clone_into(&mut says.host));
        let settings = sentinels.settings().failover_wait(Duration::from_millis(500));
        let error = kit.connect(settings.build().unwrap()).await.unwrap_err();
        assert!(error.is_sentinel(), "{error}");
        assert_harmless(&error.to_string());
        assert!(error.to_string().contains("not a server address"), "{error}");
    }
    // One alone does no harm.
    sentinels.change_all(|says| says.host = "127.0.0.1".to_owned());
    sentinels.change(LIAR, |says| says.host = odd.to_owned());
    let client = client(&kit, &sentinels).await;
    client.connection().set::<_, _, ()>("key", "value").await.unwrap();
    let topology = client.topology().await.unwrap();
    assert_harmless(&format!("{topology}"));
    let errors = topology.sentinel_states.iter().filter_map(|state| state.error.as_ref());
    assert_eq!(errors.inspect(|error| assert_harmless(error)).count(), 1);
}

async fn what_a_server_refuses_is_escaped(kit: Kit) {
    for refusal in ["WRONGPASS", "ERR", "NOPERM", "MADEUP", "BUSY"] {
        let text = format!("-{refusal} \u{1b}[2J\u{7}\u{202e}{}\r\n", "password \u{200b}".repeat(1000));
        let server = ScriptedServer::start_bare(move |_, _: &[String]| Answer::from(text.as_str())).unwrap();
        let client = kit.client(settings(server.port()).password(PASSWORD).build().unwrap());
        let error = kit.within("an error", client.initialize()).await.unwrap_err();
        assert_harmless(&error.to_string());
        assert!(error.to_string().contains(r"\u{1b}[2J"), "{error}");
    }
}
