//! Tests the choice of the protocol: RESP3, or RESP2 with old servers and proxies and by the setting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ha_redis_core::{Protocol, PubSubEvent, RedisConfig};
use redis::AsyncCommands;

use super::kit::{Kit, config, settings};
use crate::{Answer, ScriptedServer, Server, Topology};

tests![
    any_hello_refusal_falls_back_to_resp2,
    closing_proxy_falls_back_to_resp2,
    hello_refusal_remembered,
    close_after_hello_keeps_resp3,
    hello_sent_again_after_single_close,
    unrelated_hello_refusal_is_an_error,
    auth_refusal_is_an_error,
    resp2_setting_returns_resp2_types,
    resp2_setting_applies_to_subscribers,
    resp2_setting_works_with_sentinels,
    resp3_setting_fails_when_refused,
];

/// The received commands in order, each with the number of its connection.
type Log = Arc<Mutex<Vec<(usize, String)>>>;

/// Starts a proxy that supports AUTH, GET, SET and PING. It answers HELLO with `hello`, and all other commands with
/// `unknown`.
fn proxy(hello: Answer, unknown: Answer) -> (ScriptedServer, Log) {
    let log = Log::default();
    let (entries, mut data, mut authenticated) = (Arc::clone(&log), BTreeMap::new(), BTreeMap::new());
    let server = ScriptedServer::start_bare(move |connection, command: &[String]| {
        let name = command[0].to_ascii_uppercase();
        entries.lock().unwrap().push((connection, name.clone()));
        match (name.as_str(), &command[1..]) {
            ("HELLO", _) => hello.clone(),
            ("AUTH", [password]) if password == "pw" => {
                authenticated.insert(connection, ());
                "+OK\r\n".into()
            }
            ("AUTH", _) => "-ERR invalid password\r\n".into(),
            ("PING" | "GET" | "SET", _) if !authenticated.contains_key(&connection) => {
                "-NOAUTH Authentication required.\r\n".into()
            }
            ("PING", _) => "+PONG\r\n".into(),
            ("SET", [key, value]) => {
                data.insert(key.clone(), value.clone());
                "+OK\r\n".into()
            }
            ("GET", [key]) => match data.get(key) {
                Some(value) => format!("${}\r\n{value}\r\n", value.len()).as_str().into(),
                None => "$-1\r\n".into(),
            },
            _ => unknown.clone(),
        }
    });
    (server.unwrap(), log)
}

fn named(server: &ScriptedServer) -> RedisConfig {
    settings(&server.url()).password("pw").client_name("billing").build().unwrap()
}

async fn check_get_set(kit: &Kit, config: RedisConfig, what: &str) {
    let client = kit.connect(config).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", "value").await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(redis.get::<_, String>("key").await.unwrap(), "value");
}

async fn any_hello_refusal_falls_back_to_resp2(kit: Kit) {
    for refusal in [
        "-ERR unsupported command 'HELLO'\r\n",
        "-ERR unknown command `HELLO`, with args beginning with: `3`,\r\n",
        "-NOPROTO unsupported protocol version\r\n",
        "-ERR Protocol version is not an integer or out of range\r\n",
        "-ERR wrong number of arguments for 'hello' command\r\n",
        "-ERR syntax error in HELLO option 'AUTH'\r\n",
        "-NOAUTH Authentication required.\r\n",
        "-NOPERM this user has no permissions to run the 'hello' command\r\n",
        "-ERR\r\n",
    ] {
        let unknown = Answer::from("-ERR unsupported command\r\n");
        let (server, _) = proxy(refusal.into(), unknown.clone());
        check_get_set(&kit, named(&server), refusal).await;
        let (server, _) = proxy(Answer::Close(refusal.into()), unknown);
        check_get_set(&kit, named(&server), &format!("closes after {refusal}")).await;
    }
}

async fn closing_proxy_falls_back_to_resp2(kit: Kit) {
    let (server, log) = proxy(Answer::Close(Vec::new()), Answer::Close(Vec::new()));
    check_get_set(&kit, named(&server), "closes").await;
    let log = log.lock().unwrap();
    assert!(log.iter().any(|(_, command)| command == "CLIENT"), "CLIENT was sent: {log:?}");
}

fn count(log: &Log, command: &str) -> usize {
    log.lock().unwrap().iter().filter(|(_, name)| name == command).count()
}

async fn hello_refusal_remembered(kit: Kit) {
    let refusal = Answer::from("-ERR unsupported command 'HELLO'\r\n");
    // The first close may be a coincidence, so HELLO is sent twice.
    for (hello, hellos) in [(refusal, 1), (Answer::Close(Vec::new()), 2)] {
        let (server, log) = proxy(hello, "-ERR unsupported command\r\n".into());
        let client = kit.connect(named(&server)).await.unwrap();
        let mut own = Vec::new();
        for _ in 0..3 {
            own.push(client.dedicated().await.unwrap());
        }
        assert_eq!((count(&log, "HELLO"), count(&log, "AUTH")), (hellos, 4), "{log:?}");
    }
}

async fn hello_sent_again_after_single_close(kit: Kit) {
    let log = Log::default();
    let entries = Arc::clone(&log);
    let server = ScriptedServer::start_bare(move |connection, command: &[String]| {
        let name = command[0].to_ascii_uppercase();
        entries.lock().unwrap().push((connection, name.clone()));
        match (connection, name.as_str()) {
            // A load balancer does this while its server restarts.
            (0, _) => Answer::Close(Vec::new()),
            (_, "HELLO") => "%1\r\n$5\r\nproto\r\n:3\r\n".into(),
            _ => "+OK\r\n".into(),
        }
    });
    let server = server.unwrap();
    let _client = kit.connect(config(&server.url())).await.unwrap();
    let log = log.lock().unwrap();
    assert!(
        log.iter().filter(|(connection, _)| *connection == 1).any(|(_, name)| name == "HELLO"),
        "{log:?}"
    );
    assert!(!log.iter().any(|(connection, _)| *connection > 1), "{log:?}");
}

async fn close_after_hello_keeps_resp3(kit: Kit) {
    let refused = Arc::new(Mutex::new(false));
    let (refuse, log) = (Arc::clone(&refused), Log::default());
    let entries = Arc::clone(&log);
    let server = ScriptedServer::start_bare(move |connection, command: &[String]| {
        let name = command[0].to_ascii_uppercase();
        entries.lock().unwrap().push((connection, name.clone()));
        match name.as_str() {
            "HELLO" if std::mem::take(&mut *refuse.lock().unwrap()) => Answer::Close(Vec::new()),
            "HELLO" => "%1\r\n$5\r\nproto\r\n:3\r\n".into(),
            _ => "+OK\r\n".into(),
        }
    });
    let server = server.unwrap();
    let client = kit.connect(config(&server.url())).await.unwrap();
    *refused.lock().unwrap() = true;
    let _own = client.dedicated().await.unwrap();
    assert!(!*refused.lock().unwrap(), "a connection was closed");
    let entries = log.lock().unwrap().clone();
    for connection in 0..server.accepted() {
        let first = entries.iter().find(|(number, _)| *number == connection);
        assert_eq!(first.map(|(_, command)| command.as_str()), Some("HELLO"), "{entries:?}");
    }
}

async fn unrelated_hello_refusal_is_an_error(kit: Kit) {
    for (refusal, expected) in [
        ("-WRONGPASS invalid username-password pair or user is disabled.\r\n", "WRONGPASS"),
        ("-LOADING Redis is loading the dataset in memory\r\n", "LOADING"),
        ("-ERR max number of clients reached\r\n", "max number of clients"),
        ("-DENIED Redis is running in protected mode\r\n", "DENIED"),
    ] {
        let (server, log) = proxy(Answer::Close(refusal.into()), "-ERR unknown\r\n".into());
        let error = kit.connect(named(&server)).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.is_authentication(), expected == "WRONGPASS", "{error}");
        assert_eq!(count(&log, "AUTH"), 0, "{log:?}");
    }
}

async fn auth_refusal_is_an_error(kit: Kit) {
    let (server, _) = proxy("-ERR unsupported command 'HELLO'\r\n".into(), "-ERR unknown\r\n".into());
    let wrong = settings(&server.url()).password("wrong").build().unwrap();
    let error = kit.connect(wrong).await.unwrap_err();
    assert!(error.is_authentication() && error.to_string().contains("invalid password"), "{error}");
    let none = settings(&server.url()).build().unwrap();
    let error = kit.connect(none).await.unwrap_err();
    assert!(error.is_authentication() && error.to_string().contains("`password`"), "{error}");
}

async fn resp2_setting_returns_resp2_types(kit: Kit) {
    let server = Server::builder().password("pw").start().unwrap();
    let both = [(Protocol::Resp2, "resp=2"), (Protocol::Resp3, "resp=3"), (Protocol::Auto, "resp=3")];
    for (protocol, shown) in both {
        let settings = settings(&server.url()).password("pw").client_name("old").db(1).protocol(protocol);
        let client = kit.connect(settings.build().unwrap()).await.unwrap();
        let mut redis = client.connection();
        let info: String = redis::cmd("CLIENT").arg("INFO").query_async(&mut redis).await.unwrap();
        for expected in ["name=old", "db=1", shown] {
            assert!(info.split_whitespace().any(|field| field == expected), "{expected} in {info}");
        }
        redis.hset::<_, _, _, ()>("hash", "field", 1).await.unwrap();
        let shape: redis::Value = redis.hgetall("hash").await.unwrap();
        assert_eq!(matches!(shape, redis::Value::Map(_)), shown == "resp=3", "{shape:?}");
        assert!(client.health_check().await.is_healthy());
    }
    let version = redis::cmd("INFO").arg("commandstats").take();
    let client = kit.connect(settings(&server.url()).password("pw").build().unwrap()).await.unwrap();
    let stats: String = version.query_async(&mut client.connection()).await.unwrap();
    assert!(stats.contains("cmdstat_hello:calls=3,") && stats.contains("cmdstat_auth:"), "{stats}");
}

async fn resp2_setting_applies_to_subscribers(kit: Kit) {
    let server = Server::start().unwrap();
    let client =
        kit.connect(settings(&server.url()).protocol(Protocol::Resp2).build().unwrap()).await.unwrap();
    let mut subscriber = client.pubsub().await.unwrap();
    subscriber.subscribe("news").await.unwrap();
    subscriber.psubscribe("weather.*").await.unwrap();
    let clients = server.query(&["CLIENT", "LIST", "TYPE", "pubsub"]).unwrap();
    assert!(clients.text().unwrap().contains("resp=2"), "{clients:?}");
    for round in 0..2 {
        server.query(&["PUBLISH", "news", "hello"]).unwrap();
        server.query(&["PUBLISH", "weather.today", "rain"]).unwrap();
        for expected in ["hello", "rain"] {
            match kit.within("a message", subscriber.next()).await {
                Some(PubSubEvent::Message(message)) => {
                    assert_eq!(message.get_payload::<String>().unwrap(), expected);
                }
                other => panic!("{other:?}"),
            }
        }
        if round == 0 {
            server.query(&["CLIENT", "KILL", "TYPE", "pubsub"]).unwrap();
            let lost = kit.within("a disconnect event", subscriber.next()).await;
            assert!(matches!(lost, Some(PubSubEvent::Disconnected(_))), "{lost:?}");
            let back = kit.within("a reconnect event", subscriber.next()).await;
            assert!(matches!(back, Some(PubSubEvent::Resubscribed)), "{back:?}");
        }
    }
    subscriber.unsubscribe("news").await.unwrap();
}

async fn resp2_setting_works_with_sentinels(kit: Kit) {
    let topology = Topology::builder().password("data").sentinel_password("watch").start().unwrap();
    let settings = settings(&topology.url()).protocol(Protocol::Resp2);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
    assert!(client.topology().await.unwrap().is_healthy());
    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    kit.until_master(&client, new).await;
    redis.set::<_, _, ()>("key", 2).await.unwrap();
    assert_eq!(new.query(&["GET", "key"]).unwrap().text(), Some("2"));
}

async fn resp3_setting_fails_when_refused(kit: Kit) {
    for hello in [Answer::from("-ERR unsupported command 'HELLO'\r\n"), Answer::Close(Vec::new())] {
        let (server, log) = proxy(hello, "-ERR unknown\r\n".into());
        let resp3 = named(&server).to_builder().protocol(Protocol::Resp3).build().unwrap();
        kit.connect(resp3).await.unwrap_err();
        assert_eq!(count(&log, "AUTH"), 0, "{log:?}");
    }
    let (server, _) = proxy("-ERR unsupported command 'HELLO'\r\n".into(), "-ERR unknown\r\n".into());
    let resp3 = named(&server).to_builder().protocol(Protocol::Resp3).build().unwrap();
    let error = kit.connect(resp3).await.unwrap_err();
    assert!(error.is_config() && error.to_string().contains("`protocol`"), "{error}");
}
