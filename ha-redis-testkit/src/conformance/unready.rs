//! Servers that answer and serve nobody: busy with a script, loading their data, or without their master. They can be
//! connected to, so that whoever may put them right can.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use ha_redis_core::{Client, Connection, Protocol, PubSubEvent};
use redis::AsyncCommands;

use super::kit::{BOUND, Kit, config, settings};
use super::scripted::Sentinels;
use crate::{Cut, Error, Proxy, Server};

tests![
    a_busy_server_takes_script_kill_from_every_handle,
    a_script_of_ones_own_can_be_killed,
    a_busy_master_of_sentinels_takes_script_kill,
    a_subscription_outlives_a_busy_server,
    a_loading_server_takes_what_it_can,
    a_replica_without_its_master_takes_what_it_can,
];

fn with_scripts() -> Server {
    Server::builder().config("busy-reply-threshold 20").start().unwrap()
}

/// Runs a script that never ends, until it is killed.
async fn busy(kit: &Kit, server: &Server) -> TcpStream {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.write_all(b"EVAL \"while true do end\" 0\r\n").unwrap();
    until_busy(kit, server).await;
    socket
}

async fn until_busy(kit: &Kit, server: &Server) {
    kit.until("the server is busy", || {
        let answer = server.query(&["PING"]);
        matches!(answer, Err(Error::Refused { message, .. }) if message.starts_with("BUSY"))
    })
    .await;
}

async fn script_kill(kit: &Kit, redis: &mut Connection) {
    let kill = redis::cmd("SCRIPT").arg("KILL").take();
    kit.within("the script is killed", kill.query_async::<()>(redis)).await.unwrap();
}

/// Waits until the client serves callers again.
async fn serves(kit: &Kit, client: &Client) {
    kit.until("it serves again", || block_on(client.connection().set::<_, _, ()>("key", 1)).is_ok()).await;
}

async fn a_busy_server_takes_script_kill_from_every_handle(kit: Kit) {
    let server = with_scripts();
    for (db, protocol) in
        [(0, Protocol::Auto), (3, Protocol::Auto), (0, Protocol::Resp2), (3, Protocol::Resp2)]
    {
        let long = Duration::from_secs(600);
        let settings = settings(server.port()).db(db).protocol(protocol).failover_wait(long);
        // One that was never connected.
        let client = kit.client(settings.build().unwrap());
        let mut redis = client.connection();
        let _script = busy(&kit, &server).await;
        let told = kit.within("a call is told", redis.get::<_, Option<i64>>("key")).await.unwrap_err();
        assert!(told.to_string().to_ascii_uppercase().contains("BUSY"), "{told}");
        let health = client.health_check().await;
        assert!(!health.is_healthy() && health.error.is_some(), "{health:?}");
        script_kill(&kit, &mut redis).await;
        serves(&kit, &client).await;
        assert_eq!(
            server.query(&["GET", "key"]).unwrap().text().is_some(),
            db == 0,
            "never in another database"
        );
        server.query(&["FLUSHALL"]).unwrap();

        // One that is connected, and a connection of one's own.
        let _script = busy(&kit, &server).await;
        script_kill(&kit, &mut redis).await;
        serves(&kit, &client).await;
        let mut own = client.dedicated().await.unwrap();
        let _script = busy(&kit, &server).await;
        let kill = redis::cmd("SCRIPT").arg("KILL").take();
        kit.within("the script is killed", kill.query_async::<()>(&mut own)).await.unwrap();
        serves(&kit, &client).await;
        server.query(&["FLUSHALL"]).unwrap();
    }
    let client = kit.client_of(&server).await;
    let _script = busy(&kit, &server).await;
    let mut own = kit.within("a connection of its own", client.dedicated()).await.unwrap();
    let kill = redis::cmd("SCRIPT").arg("KILL").take();
    kit.within("the script is killed", kill.query_async::<()>(&mut own)).await.unwrap();
}

async fn a_script_of_ones_own_can_be_killed(kit: Kit) {
    let server = with_scripts();
    for db in [0, 3] {
        let soon =
            settings(server.port()).db(db).socket_timeout(Duration::from_millis(300)).retry_attempts(0);
        let client = kit.connect(soon.build().unwrap()).await.unwrap();
        let mut redis = client.connection();
        let script = kit.spawn(async move {
            redis::cmd("EVAL").arg("while true do end").arg(0).query_async::<()>(&mut redis).await
        });
        until_busy(&kit, &server).await;
        script_kill(&kit, &mut client.connection()).await;
        script.end().await.unwrap_err();
        serves(&kit, &client).await;
    }
}

async fn a_busy_master_of_sentinels_takes_script_kill(kit: Kit) {
    let master = with_scripts();
    let sentinels = Sentinels::naming(&master, 3);
    for protocol in [Protocol::Auto, Protocol::Resp2] {
        let client = kit.client(sentinels.settings().protocol(protocol).build().unwrap());
        let _script = busy(&kit, &master).await;
        script_kill(&kit, &mut client.connection()).await;
        serves(&kit, &client).await;
    }
}

async fn a_subscription_outlives_a_busy_server(kit: Kit) {
    let server = with_scripts();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let mut subscriber = client.pubsub().await.unwrap();
    subscriber.subscribe("news").await.unwrap();
    let _script = busy(&kit, &server).await;
    let before = proxy.accepted();
    proxy.cut(Cut::Reset);
    let lost = kit.within("the loss", subscriber.next()).await;
    assert!(matches!(lost, Some(PubSubEvent::Disconnected(_))), "{lost:?}");
    kit.until("it has tried to come back", || proxy.accepted() >= before + 4).await;
    script_kill(&kit, &mut kit.client_of(&server).await.connection()).await;
    let back = kit.within("the return", subscriber.next()).await;
    assert!(matches!(back, Some(PubSubEvent::Resubscribed)), "{back:?}");
    server.query(&["PUBLISH", "news", "hello"]).unwrap();
    let heard = kit.within("a message", subscriber.next()).await;
    assert!(matches!(heard, Some(PubSubEvent::Message(_))), "{heard:?}");
}

/// What an operator asks.
async fn takes_what_it_can(kit: &Kit, redis: &mut Connection) {
    for command in ["INFO replication", "CONFIG GET maxmemory", "CLIENT LIST", "ROLE"] {
        let mut words = command.split(' ');
        let mut asked = redis::cmd(words.next().unwrap());
        words.for_each(|word| _ = asked.arg(word));
        let answer = kit.within(command, asked.query_async::<redis::Value>(redis)).await;
        answer.unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}

async fn a_loading_server_takes_what_it_can(kit: Kit) {
    // As slow as it takes for the test, and looking at its clients after every few keys.
    let server = Server::builder().config("loading-process-events-interval-bytes 1024").start();
    let server = Arc::new(server.unwrap());
    let mut fill = redis::pipe();
    (0..2_000).for_each(|number| _ = fill.set(format!("key:{number}"), "x".repeat(100)).ignore());
    let long = settings(server.port()).failover_wait(BOUND).db(0);
    let first = kit.connect(long.clone().build().unwrap()).await.unwrap();
    fill.exec_async(&mut first.connection()).await.unwrap();
    server.query(&["SAVE"]).unwrap();
    server.query(&["CONFIG", "SET", "key-load-delay", "10000"]).unwrap();
    server.query(&["CONFIG", "REWRITE"]).unwrap();
    server.kill().unwrap();
    let (restarted, restart) = (Arc::clone(&server), Arc::clone(&server));
    let restart = thread::spawn(move || restart.restart());
    kit.until("it is loading", || {
        let answer = restarted.query(&["PING"]);
        matches!(answer, Err(Error::Refused { message, .. }) if message.starts_with("LOADING"))
    })
    .await;
    let client = kit.connect(long.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    takes_what_it_can(&kit, &mut redis).await;
    let health = client.health_check().await;
    assert!(!health.is_healthy() && health.latency.is_some(), "{health:?}");
    assert!(health.error.unwrap().to_string().to_ascii_uppercase().contains("LOADING"));
    let mut reader = client.connection();
    let waiting = kit.spawn(async move { reader.get::<_, String>("key:1999").await });
    let finish = redis::cmd("CONFIG").arg("SET").arg("key-load-delay").arg(0).take();
    finish.query_async::<()>(&mut redis).await.unwrap();
    assert_eq!(kit.within("it waits", waiting.end()).await.unwrap(), "x".repeat(100));
    restart.join().unwrap().unwrap();
}

async fn a_replica_without_its_master_takes_what_it_can(kit: Kit) {
    let master = Server::start().unwrap();
    let replica = Server::builder().replica_of(&master).config("replica-serve-stale-data no").start();
    let replica = replica.unwrap();
    kit.until("it follows", || {
        replica.query(&["INFO", "replication"]).unwrap().field("master_link_status") == Some("up")
    })
    .await;
    master.kill().unwrap();
    kit.until("it has lost its master", || {
        let answer = replica.query(&["GET", "key"]);
        matches!(answer, Err(Error::Refused { message, .. }) if message.starts_with("MASTERDOWN"))
    })
    .await;
    let long = settings(replica.port()).failover_wait(BOUND).build().unwrap();
    let client = kit.connect(long).await.unwrap();
    let mut redis = client.connection();
    takes_what_it_can(&kit, &mut redis).await;
    let health = client.health_check().await;
    assert!(health.error.unwrap().to_string().to_ascii_uppercase().contains("MASTER"));
    let mut writer = client.connection();
    let waiting = kit.spawn(async move { writer.set::<_, _, ()>("key", 1).await });
    let promote = redis::cmd("REPLICAOF").arg("NO").arg("ONE").take();
    kit.within("it is promoted", promote.query_async::<()>(&mut redis)).await.unwrap();
    kit.within("it waits", waiting.end()).await.unwrap();
}
