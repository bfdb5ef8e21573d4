//! Tests that nothing that a user passes breaks out of its argument: what a server receives, command by command.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use ha_redis_core::{Protocol, RedisConfig};
use redis::AsyncCommands;

use super::kit::{Kit, calls, settings};
use super::output::HOSTILE;
use crate::{Answer, ScriptedServer};

tests! {
    everywhere: [
        hostile_keys_stay_keys,
    ],
    plain: [
        server_receives_only_expected_commands,
        sentinel_receives_only_expected_queries,
    ],
}

/// A name without the spaces and control characters that no name may have.
const NAME: &str = "a*1$8%0d%0aFLUSHALL\"'\\;#?&=/@:";

/// The distinct commands that a server has received.
type Received = Arc<Mutex<BTreeSet<Vec<String>>>>;

/// Starts a server that records each command and answers with `answer`. It closes a connection that sends anything
/// but commands.
fn recording(answer: fn(&[String]) -> String) -> (ScriptedServer, Received) {
    let received = Received::default();
    let record = Arc::clone(&received);
    let server = ScriptedServer::start_bare(move |_, command: &[String]| {
        record.lock().unwrap().insert(command.to_vec());
        Answer::from(answer(command).as_str())
    });
    (server.unwrap(), received)
}

fn set<const N: usize>(commands: [&[&str]; N]) -> BTreeSet<Vec<String>> {
    commands.iter().map(|command| command.iter().map(ToString::to_string).collect()).collect()
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// Answers the commands of [`server_receives_only_expected_commands`] as Redis does.
fn as_redis(command: &[String]) -> String {
    match command[0].as_str() {
        "HELLO" => "%1\r\n$5\r\nproto\r\n:3\r\n".to_owned(),
        "ROLE" => "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_owned(),
        "PING" => "+PONG\r\n".to_owned(),
        "EXEC" => "*1\r\n:1\r\n".to_owned(),
        "INCRBY" => "+QUEUED\r\n".to_owned(),
        "GET" => bulk("value"),
        "PUBLISH" => ":0\r\n".to_owned(),
        kind @ ("SUBSCRIBE" | "PSUBSCRIBE") => {
            let kind = bulk(&kind.to_ascii_lowercase());
            // In RESP2, a confirmation is an array.
            format!("*3\r\n{kind}{}:1\r\n", bulk(&command[1]))
        }
        _ => "+OK\r\n".to_owned(),
    }
}

async fn server_receives_only_expected_commands(kit: Kit) {
    // Client names are ASCII.
    let login: [&[&str]; 2] =
        [&["HELLO", "3", "AUTH", NAME, HOSTILE, "SETNAME", NAME], &["AUTH", NAME, HOSTILE]];
    for (protocol, login) in [Protocol::Auto, Protocol::Resp2].into_iter().zip(login) {
        let (server, received) = recording(as_redis);
        let settings = settings(&server.url()).username(NAME).password(HOSTILE).client_name(NAME).db(7);
        let client = kit.connect(settings.protocol(protocol).build().unwrap()).await.unwrap();
        let mut redis = client.connection();
        redis.set::<_, _, ()>(HOSTILE, HOSTILE).await.unwrap();
        redis.get::<_, String>(HOSTILE).await.unwrap();
        redis.publish::<_, _, i64>(HOSTILE, HOSTILE).await.unwrap();
        redis::pipe().atomic().incr(HOSTILE, 1).query_async::<(i64,)>(&mut redis).await.unwrap();
        let mut own = client.dedicated().await.unwrap();
        own.set::<_, _, ()>(HOSTILE, "own").await.unwrap();
        let subscriber = client.pubsub().await.unwrap();
        if protocol == Protocol::Resp2 {
            subscriber.subscribe(HOSTILE).await.unwrap();
            subscriber.psubscribe(HOSTILE).await.unwrap();
        }
        client.close().await;

        let mut expected = set([
            login,
            &["SELECT", "7"],
            &["PING"],
            &["SET", HOSTILE, HOSTILE],
            &["GET", HOSTILE],
            &["PUBLISH", HOSTILE, HOSTILE],
            &["MULTI"],
            &["INCRBY", HOSTILE, "1"],
            &["EXEC"],
            &["SET", HOSTILE, "own"],
        ]);
        if protocol == Protocol::Resp2 {
            expected.extend(set([&["SUBSCRIBE", HOSTILE], &["PSUBSCRIBE", HOSTILE]]));
            expected.extend(set([&["CLIENT", "SETNAME", NAME], &["CLIENT", "ID"]]));
        }
        assert_eq!(*received.lock().unwrap(), expected);
    }
}

async fn sentinel_receives_only_expected_queries(kit: Kit) {
    let (sentinel, received) = recording(|command| match command[0].as_str() {
        "SENTINEL" => "-ERR No such master with that name\r\n".to_owned(),
        "SUBSCRIBE" => "-NOPERM no\r\n".to_owned(),
        _ => as_redis(command),
    });
    let hosts = [("127.0.0.1", sentinel.port())];
    let settings = RedisConfig::builder().use_sentinel(true).sentinel_hosts(hosts);
    let settings = settings.sentinel_master_name(NAME).sentinel_username(NAME).sentinel_password(HOSTILE);
    let settings = settings.client_name(NAME);
    let client = kit.client(settings.build().unwrap());
    let error = client.initialize().await.unwrap_err();
    assert!(error.is_sentinel(), "{error}");
    client.close().await;
    let expected = set([
        &["HELLO", "3", "AUTH", NAME, HOSTILE, "SETNAME", NAME],
        &["PING"],
        &["SENTINEL", "MYID"],
        &["SENTINEL", "MASTER", NAME],
        &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME],
        &["SENTINEL", "REPLICAS", NAME],
        &["SENTINEL", "SENTINELS", NAME],
        &["INFO", "sentinel"],
    ]);
    let received = received.lock().unwrap().clone();
    let others: Vec<_> = received.difference(&expected).filter(|command| command[0] != "SUBSCRIBE").collect();
    assert_eq!(others, [&[""; 0]; 0]);
    assert!(expected.is_subset(&received), "{received:?}");
}

async fn hostile_keys_stay_keys(kit: Kit) {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    let keys =
        [HOSTILE.as_bytes(), b"\xff\xfe\r\n*1\r\n", b"\0", b"", b" ", b"\"'\\", "schlüssel".as_bytes()];
    for key in keys {
        redis.set::<_, _, ()>(key, key).await.unwrap();
    }
    let mut all: Vec<Vec<u8>> = redis.mget(&keys).await.unwrap();
    assert_eq!(all, keys);
    let scan = redis::cmd("SCAN").arg(0).arg("COUNT").arg(1000).take();
    let mut found: Vec<Vec<u8>> = scan.query_async::<(u64, Vec<Vec<u8>>)>(&mut redis).await.unwrap().1;
    found.sort();
    all.sort();
    assert_eq!(found, all);
    assert_eq!(calls(&server, "flushall"), 0);
}
