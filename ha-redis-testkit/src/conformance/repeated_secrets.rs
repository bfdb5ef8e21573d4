//! Tests peers that know a password and repeat it in addresses and other text that the client prints.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ha_redis_core::{Client, Event, RedisConfigBuilder};
use redis::AsyncCommands;

use super::kit::{Kit, settings};
use super::scripted::Sentinels;
use super::watch::{found, watch};
use crate::{Answer, ScriptedServer, Server};

tests![
    password_as_master_host_rejected,
    password_as_host_in_sentinel_event_rejected,
    password_in_sentinel_reply_not_logged,
    password_as_replica_host_rejected,
    password_in_reply_not_logged,
    password_in_certificate_name_not_logged,
    configured_host_may_equal_password,
];

fn assert_not_in(password: &str, text: impl Debug) {
    let text = format!("{text:?}");
    assert!(!text.to_lowercase().contains(&password.to_lowercase()), "{text}");
}

/// Fails if any output of the client contains the password.
async fn assert_nowhere(client: &Client, password: &str) {
    let mut events = client.events();
    assert_not_in(password, client.topology().await.map(|topology| format!("{topology} {topology:?}")));
    assert_not_in(password, client.health_check().await);
    client.close().await;
    while let Some(event) = events.next().await {
        assert_not_in(password, event);
    }
    assert_eq!(found(password), [""; 0]);
}

fn short(settings: RedisConfigBuilder) -> RedisConfigBuilder {
    let short = Duration::from_millis(500);
    settings.failover_wait(short).socket_timeout(short).retry_attempts(0)
}

async fn password_as_master_host_rejected(kit: Kit) {
    const PASSWORD: &str = "master-hunter2";
    watch(PASSWORD);
    let sentinels = Sentinels::naming(&Server::start().unwrap(), 3);
    for host in [PASSWORD, "x.MASTER-hunter2.example"] {
        sentinels.change_all(|replies| host.clone_into(&mut replies.host));
        for settings in
            [sentinels.settings().password(PASSWORD), sentinels.settings().sentinel_password(PASSWORD)]
        {
            let client = kit.client(short(settings).build().unwrap());
            let error = client.initialize().await.unwrap_err();
            assert!(error.is_sentinel() && error.to_string().contains("password"), "{error}");
            assert_not_in(PASSWORD, format!("{error} {error:?}"));
            assert_nowhere(&client, PASSWORD).await;
        }
    }
}

async fn password_as_host_in_sentinel_event_rejected(kit: Kit) {
    const PASSWORD: &str = "events-hunter2";
    watch(PASSWORD);
    let master = Server::start().unwrap();
    let sentinels = Sentinels::naming(&master, 3);
    let (port, other) = (master.port(), PASSWORD);
    sentinels.change(0, |replies| {
        let replica = format!("slave {other}:1 {other} 1 @ mymaster 127.0.0.1 {port}");
        let published = [
            ("+switch-master", format!("mymaster 127.0.0.1 {port} {other} 1")),
            ("+selected-slave", replica.clone()),
            ("+sdown", replica.clone()),
            ("+slave", replica),
            ("+sentinel", format!("sentinel {other} {other} 1 @ mymaster 127.0.0.1 {port}")),
        ];
        replies.publishes = published.map(|(channel, text)| (channel.to_owned(), text)).to_vec();
    });
    let settings = short(sentinels.settings()).sentinel_password(PASSWORD);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let queries = sentinels.accepted(0);
    kit.until("the client has subscribed again", || sentinels.accepted(0) > queries + 1).await;
    assert_nowhere(&client, PASSWORD).await;
}

async fn password_in_sentinel_reply_not_logged(kit: Kit) {
    const PASSWORD: &str = "answer-hunter2";
    watch(PASSWORD);
    for garbage in ["answer-hunter2 is no RESP\r\n", "-answer-hunter2 is it\r\n", "*1\r\nanswer-hunter2\r\n"]
    {
        let queries = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&queries);
        let sentinel = ScriptedServer::start(move |_, _: &[String]| {
            counter.fetch_add(1, Ordering::Relaxed);
            Answer::from(garbage)
        })
        .unwrap();
        let hosts = [("127.0.0.1", sentinel.port())];
        let settings = ha_redis_core::RedisConfig::builder().use_sentinel(true).sentinel_hosts(hosts);
        let client = kit.client(short(settings).sentinel_password(PASSWORD).build().unwrap());
        let error = client.initialize().await.unwrap_err();
        assert!(queries.load(Ordering::Relaxed) > 0 && error.to_string().contains("***"), "{error}");
        assert_not_in(PASSWORD, format!("{error} {error:?}"));
        assert_nowhere(&client, PASSWORD).await;
    }
}

async fn password_as_replica_host_rejected(kit: Kit) {
    const PASSWORD: &str = "replica-hunter2";
    watch(PASSWORD);
    let info = format!(
        "role:master\r\nmaster_replid:a\r\nmaster_repl_offset:0\r\n\
         slave0:ip={PASSWORD},port=1,state=online,offset=0,lag=0\r\n"
    );
    let queries = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&queries);
    let server = ScriptedServer::start_bare(move |_, command: &[String]| match command[0].as_str() {
        "INFO" => {
            counter.fetch_add(1, Ordering::Relaxed);
            Answer::from(format!("${}\r\n{info}\r\n", info.len()).as_str())
        }
        "ROLE" => {
            let length = PASSWORD.len();
            let replica = format!("*3\r\n${length}\r\n{PASSWORD}\r\n$1\r\n1\r\n$1\r\n0\r\n");
            Answer::from(format!("*3\r\n$6\r\nmaster\r\n:0\r\n*1\r\n{replica}").as_str())
        }
        "HELLO" => Answer::from("%1\r\n$5\r\nproto\r\n:3\r\n"),
        "GET" => Answer::from("$5\r\nvalue\r\n"),
        _ => Answer::from("+OK\r\n"),
    })
    .unwrap();
    let settings = short(settings(&server.url())).password(PASSWORD);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut reads = client.replica_connection();
    assert_eq!(reads.get::<_, String>("key").await.unwrap(), "value");
    kit.until("the client has queried twice", || queries.load(Ordering::Relaxed) > 1).await;
    assert!(client.topology().await.unwrap().replicas.is_empty());
    assert_nowhere(&client, PASSWORD).await;
}

/// An invalid reply ends the connection, and every call on it gets the error.
async fn password_in_reply_not_logged(kit: Kit) {
    const PASSWORD: &str = "reply-hunter2";
    watch(PASSWORD);
    for garbage in [
        "reply-hunter2 is no RESP\r\n",
        "*1\r\nreply-hunter2\r\n",
        ">2\r\n+reply-hunter2\r\n:1\r\nreply-hunter2\r\n",
        "%1\r\n$13\r\nreply-hunter2\r\nreply-hunter2\r\n",
        ":reply-hunter2\r\n",
        "-MOVED 1 reply-hunter2:1\r\n",
        "-REDIRECT reply-hunter2:1\r\n",
        "-READONLY reply-hunter2\r\n",
        "-LOADING reply-hunter2\r\n",
    ] {
        let server = ScriptedServer::start(move |_, _: &[String]| Answer::from(garbage)).unwrap();
        let client =
            kit.connect(short(settings(&server.url())).password(PASSWORD).build().unwrap()).await.unwrap();
        let mut events = client.events();
        let error = client.connection().get::<_, Option<i64>>("key").await.unwrap_err();
        // Error replies are returned unchanged.
        if !garbage.starts_with('-') {
            assert_not_in(PASSWORD, format!("{error} {error:?}"));
            assert!(error.to_string().contains("***"), "{error}");
        }
        // Nobody waits for the second reply, which arrives before the third.
        let sub = client.pubsub().await.unwrap();
        let (sink, stream) = sub.split();
        let result = sink.subscribe("news").await.map_err(|error| error.to_string());
        assert!(!result.is_err_and(|error| error.contains(PASSWORD) && !garbage.starts_with('-')));
        drop(futures_lite::future::poll_once(sink.subscribe("more")).await);
        let _ = sink.subscribe("last").await;
        drop(stream);
        client.close().await;
        while let Some(event) = events.next().await {
            assert_not_in(PASSWORD, &event);
            assert!(!matches!(event, Event::Switched { from: Some(_), .. }));
        }
        assert_eq!(found(PASSWORD), [""; 0], "{garbage:?}");
    }
}

async fn password_in_certificate_name_not_logged(kit: Kit) {
    const PASSWORD: &str = "certificate-hunter2";
    watch(PASSWORD);
    let certificate =
        crate::certificates::Certificates::of_server(&[format!("x.{PASSWORD}.example")]).unwrap();
    let server = Server::builder().tls_with(&certificate).start().unwrap();
    let settings = short(settings(&server.url())).ssl(true).ssl_ca_certs(server.ca_file()).password(PASSWORD);
    let client = kit.client(settings.build().unwrap());
    let error = client.initialize().await.unwrap_err();
    assert!(error.to_string().contains("***"), "{error}");
    assert_not_in(PASSWORD, format!("{error} {error:?}"));
    assert_nowhere(&client, PASSWORD).await;
}

/// A weak password must not make the configured server unusable.
async fn configured_host_may_equal_password(kit: Kit) {
    let master = Server::start().unwrap();
    let sentinels = Sentinels::naming(&master, 3);
    sentinels.change_all(|replies| "localhost".clone_into(&mut replies.host));
    let hosts = (0..3).map(|number| ("localhost", sentinels.port(number)));
    let settings = sentinels.settings().sentinel_hosts(hosts).sentinel_password("localhost");
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    client.connection().set::<_, _, ()>("key", 1).await.unwrap();
}
