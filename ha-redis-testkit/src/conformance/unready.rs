//! Tests servers that reply but cannot serve: busy with a script, loading data, or without their master. The client
//! still connects, so that an operator can repair them.

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
    stale_replica_accepts_commands,
    busy_server_accepts_script_kill,
    own_script_can_be_killed,
    busy_sentinel_master_accepts_script_kill,
    subscription_survives_busy_server,
    loading_server_accepts_commands,
];

fn with_scripts(kit: &Kit) -> Server {
    kit.server_builder().config("busy-reply-threshold 20").start().unwrap()
}

/// Runs a script that never ends until it is killed.
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

/// Waits until calls of the client succeed again.
async fn until_serving(kit: &Kit, client: &Client) {
    kit.until("the server serves calls again", || {
        block_on(client.connection().set::<_, _, ()>("key", 1)).is_ok()
    })
    .await;
}

async fn busy_server_accepts_script_kill(kit: Kit) {
    let server = with_scripts(&kit);
    for (db, protocol) in
        [(0, Protocol::Auto), (3, Protocol::Auto), (0, Protocol::Resp2), (3, Protocol::Resp2)]
    {
        let long = Duration::from_secs(600);
        let settings = settings(&server.url()).db(db).protocol(protocol).failover_wait(long);
        // This client has never connected.
        let client = kit.client(settings.build().unwrap());
        let mut redis = client.connection();
        let _script = busy(&kit, &server).await;
        let error = kit.within("a call fails", redis.get::<_, Option<i64>>("key")).await.unwrap_err();
        assert!(error.to_string().to_ascii_uppercase().contains("BUSY"), "{error}");
        let health = client.health_check().await;
        assert!(!health.is_healthy() && health.error.is_some(), "{health:?}");
        script_kill(&kit, &mut redis).await;
        until_serving(&kit, &client).await;
        assert_eq!(
            server.query(&["GET", "key"]).unwrap().text().is_some(),
            db == 0,
            "never in another database"
        );
        server.query(&["FLUSHALL"]).unwrap();

        // This client has a shared and a dedicated connection.
        let _script = busy(&kit, &server).await;
        script_kill(&kit, &mut redis).await;
        until_serving(&kit, &client).await;
        let mut own = client.dedicated().await.unwrap();
        let _script = busy(&kit, &server).await;
        let kill = redis::cmd("SCRIPT").arg("KILL").take();
        kit.within("the script is killed", kill.query_async::<()>(&mut own)).await.unwrap();
        until_serving(&kit, &client).await;
        server.query(&["FLUSHALL"]).unwrap();
    }
    let client = kit.client_of(&server).await;
    let _script = busy(&kit, &server).await;
    let mut own = kit.within("a connection of its own", client.dedicated()).await.unwrap();
    let kill = redis::cmd("SCRIPT").arg("KILL").take();
    kit.within("the script is killed", kill.query_async::<()>(&mut own)).await.unwrap();
}

async fn own_script_can_be_killed(kit: Kit) {
    let server = with_scripts(&kit);
    for db in [0, 3] {
        let soon =
            settings(&server.url()).db(db).socket_timeout(Duration::from_millis(300)).retry_attempts(0);
        let client = kit.connect(soon.build().unwrap()).await.unwrap();
        let mut redis = client.connection();
        let script = kit.spawn(async move {
            redis::cmd("EVAL").arg("while true do end").arg(0).query_async::<()>(&mut redis).await
        });
        until_busy(&kit, &server).await;
        script_kill(&kit, &mut client.connection()).await;
        script.end().await.unwrap_err();
        until_serving(&kit, &client).await;
    }
}

async fn busy_sentinel_master_accepts_script_kill(kit: Kit) {
    let master = with_scripts(&kit);
    let sentinels = Sentinels::naming(&master, 3);
    for protocol in [Protocol::Auto, Protocol::Resp2] {
        let client = kit.client(sentinels.settings().protocol(protocol).build().unwrap());
        let _script = busy(&kit, &master).await;
        script_kill(&kit, &mut client.connection()).await;
        until_serving(&kit, &client).await;
    }
}

async fn subscription_survives_busy_server(kit: Kit) {
    let server = with_scripts(&kit);
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let mut subscriber = client.pubsub().await.unwrap();
    subscriber.subscribe("news").await.unwrap();
    let _script = busy(&kit, &server).await;
    let before = proxy.accepted();
    proxy.cut(Cut::Reset);
    let lost = kit.within("a disconnect event", subscriber.next()).await;
    assert!(matches!(lost, Some(PubSubEvent::Disconnected(_))), "{lost:?}");
    kit.until("the subscriber has tried to reconnect", || proxy.accepted() >= before + 4).await;
    script_kill(&kit, &mut kit.client_of(&server).await.connection()).await;
    let back = kit.within("a reconnect event", subscriber.next()).await;
    assert!(matches!(back, Some(PubSubEvent::Resubscribed)), "{back:?}");
    server.query(&["PUBLISH", "news", "hello"]).unwrap();
    let event = kit.within("a message", subscriber.next()).await;
    assert!(matches!(event, Some(PubSubEvent::Message(_))), "{event:?}");
}

/// Checks the commands that an operator runs.
async fn check_accepted_commands(kit: &Kit, redis: &mut Connection) {
    for command in ["INFO replication", "CONFIG GET maxmemory", "CLIENT LIST", "ROLE"] {
        let mut args = command.split(' ');
        let mut cmd = redis::cmd(args.next().unwrap());
        args.for_each(|arg| _ = cmd.arg(arg));
        let answer = kit.within(command, cmd.query_async::<redis::Value>(redis)).await;
        answer.unwrap_or_else(|error| panic!("{command}: {error}"));
    }
}

async fn loading_server_accepts_commands(kit: Kit) {
    // Loading is slow enough for the test, and the server serves its clients after every few keys.
    let server = kit.server_builder().config("loading-process-events-interval-bytes 1024").start();
    let server = Arc::new(server.unwrap());
    let mut fill = redis::pipe();
    (0..2_000).for_each(|number| _ = fill.set(format!("key:{number}"), "x".repeat(100)).ignore());
    let long = settings(&server.url()).failover_wait(BOUND).db(0);
    let first = kit.connect(long.clone().build().unwrap()).await.unwrap();
    fill.exec_async(&mut first.connection()).await.unwrap();
    server.query(&["SAVE"]).unwrap();
    server.query(&["CONFIG", "SET", "key-load-delay", "10000"]).unwrap();
    server.query(&["CONFIG", "REWRITE"]).unwrap();
    server.kill().unwrap();
    let (restarted, restart) = (Arc::clone(&server), Arc::clone(&server));
    let restart = thread::spawn(move || restart.restart());
    kit.until("the server is loading", || {
        let answer = restarted.query(&["PING"]);
        matches!(answer, Err(Error::Refused { message, .. }) if message.starts_with("LOADING"))
    })
    .await;
    let client = kit.connect(long.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    check_accepted_commands(&kit, &mut redis).await;
    let health = client.health_check().await;
    assert!(!health.is_healthy() && health.latency.is_some(), "{health:?}");
    assert!(health.error.unwrap().to_string().to_ascii_uppercase().contains("LOADING"));
    let mut reader = client.connection();
    let waiting = kit.spawn(async move { reader.get::<_, String>("key:1999").await });
    let finish = redis::cmd("CONFIG").arg("SET").arg("key-load-delay").arg(0).take();
    finish.query_async::<()>(&mut redis).await.unwrap();
    assert_eq!(kit.within("the call waits", waiting.end()).await.unwrap(), "x".repeat(100));
    restart.join().unwrap().unwrap();
}

async fn stale_replica_accepts_commands(kit: Kit) {
    let master = kit.server();
    let replica = kit.server_builder().replica_of(&master).config("replica-serve-stale-data no").start();
    let replica = replica.unwrap();
    kit.until("the replica is connected to its master", || {
        replica.query(&["INFO", "replication"]).unwrap().field("master_link_status") == Some("up")
    })
    .await;
    master.kill().unwrap();
    kit.until("the replica has lost its master", || {
        let answer = replica.query(&["GET", "key"]);
        matches!(answer, Err(Error::Refused { message, .. }) if message.starts_with("MASTERDOWN"))
    })
    .await;
    let long = settings(&replica.url()).failover_wait(BOUND).build().unwrap();
    let client = kit.connect(long).await.unwrap();
    let mut redis = client.connection();
    check_accepted_commands(&kit, &mut redis).await;
    let health = client.health_check().await;
    assert!(health.error.unwrap().to_string().to_ascii_uppercase().contains("MASTER"));
    let mut writer = client.connection();
    let waiting = kit.spawn(async move { writer.set::<_, _, ()>("key", 1).await });
    let promote = redis::cmd("REPLICAOF").arg("NO").arg("ONE").take();
    kit.within("the replica is promoted", promote.query_async::<()>(&mut redis)).await.unwrap();
    kit.within("the call waits", waiting.end()).await.unwrap();
}
