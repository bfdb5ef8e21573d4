//! Tests subscribers: the messages they receive, and the events that report problems.

use std::time::Duration;

use futures_lite::future::poll_once;
use ha_redis_core::{Client, Error, PubSub, PubSubEvent, RedisConfigBuilder, Scope};
use redis::AsyncCommands;

use super::kit::{Kit, calls, connections, settings};
use crate::Server;

tests! {
    everywhere: [
        messages_arrive_in_order,
        unsubscribe_survives_reconnect,
        hundred_channels_survive_reconnect,
        server_restart_is_a_gap,
        subscription_kept_without_server,
        hung_server_detected,
        close_ends_stream_after_buffered_messages,
        dropping_stream_closes_connection,
        subscriber_keeps_client_open,
        dropped_calls_lose_no_messages,
        subscribe_refused_on_shared_connection,
        failover_followed,
    ],
    plain: [
        channels_and_payloads_are_binary_safe,
        slow_reader_loses_oldest_messages,
        forbidden_channel_refused,
        wrong_password_fails_fast,
        resp2_subscriber_on_old_server,
    ],
}

async fn connect(kit: &Kit, settings: RedisConfigBuilder) -> Client {
    kit.connect(settings.build().unwrap()).await.unwrap()
}

async fn next(kit: &Kit, sub: &mut PubSub) -> PubSubEvent {
    kit.within("an event", sub.next()).await.expect("the stream ended")
}

/// Returns the channel and payload of the next event. Panics if it is not a message.
async fn message(kit: &Kit, sub: &mut PubSub) -> (String, String) {
    match next(kit, sub).await {
        PubSubEvent::Message(message) => {
            (message.get_channel_name().to_owned(), message.get_payload().unwrap())
        }
        other => panic!("expected a message, got {other:?}"),
    }
}

/// Reads the two events of a gap, and returns why the connection was lost.
async fn gap(kit: &Kit, sub: &mut PubSub) -> Error {
    let PubSubEvent::Disconnected(why) = next(kit, sub).await else { panic!("expected a disconnect event") };
    let again = next(kit, sub).await;
    assert!(matches!(again, PubSubEvent::Resubscribed), "{again:?}");
    why
}

/// Publishes a message, and returns how many subscribers received it.
fn publish(server: &Server, channel: &str, payload: &str) -> i64 {
    server.query(&["PUBLISH", channel, payload]).unwrap().integer().unwrap()
}

/// Returns how many connections of the server are subscribed to a channel.
fn subscribers(server: &Server, channel: &str) -> i64 {
    server.query(&["PUBSUB", "NUMSUB", channel]).unwrap().items()[1].integer().unwrap()
}

fn strings(channel: &str, payload: &str) -> (String, String) {
    (channel.to_owned(), payload.to_owned())
}

async fn messages_arrive_in_order(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut sub = client.pubsub().await.unwrap();
    sub.subscribe("news").await.unwrap();
    sub.psubscribe(&["sport.*", "weather.?"]).await.unwrap();
    sub.ssubscribe(vec!["shard".to_owned()]).await.unwrap();
    let mut redis = client.connection();
    for number in 0..100 {
        let mut pipeline = redis::pipe();
        pipeline.publish("news", number).publish("sport.ski", number).publish("elsewhere", number);
        pipeline.cmd("SPUBLISH").arg("shard").arg(number);
        let receivers: [i64; 4] = pipeline.query_async(&mut redis).await.unwrap();
        assert_eq!(receivers, [1, 1, 0, 1]);
    }
    for number in 0..100 {
        assert_eq!(message(&kit, &mut sub).await, strings("news", &number.to_string()));
        let PubSubEvent::Message(sport) = next(&kit, &mut sub).await else { panic!("expected a message") };
        assert_eq!(sport.get_pattern::<String>().unwrap(), "sport.*");
        assert_eq!(sport.get_payload::<i64>().unwrap(), number);
        assert_eq!(message(&kit, &mut sub).await, strings("shard", &number.to_string()));
    }
}

async fn unsubscribe_survives_reconnect(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut sub = client.pubsub().await.unwrap();
    sub.subscribe(&["a", "b"]).await.unwrap();
    sub.psubscribe("p*").await.unwrap();
    sub.ssubscribe("s").await.unwrap();
    sub.unsubscribe("a").await.unwrap();
    sub.punsubscribe("p*").await.unwrap();
    sub.sunsubscribe("s").await.unwrap();
    sub.unsubscribe("never").await.unwrap();
    for round in ["before", "after"] {
        assert_eq!([publish(&server, "a", "no"), publish(&server, "p1", "no")], [0, 0]);
        assert_eq!(server.query(&["SPUBLISH", "s", "no"]).unwrap().integer(), Some(0));
        assert_eq!(publish(&server, "b", round), 1);
        assert_eq!(message(&kit, &mut sub).await, strings("b", round));
        if round == "before" {
            server.query(&["CLIENT", "KILL", "TYPE", "PUBSUB"]).unwrap();
            gap(&kit, &mut sub).await;
        }
    }
}

async fn hundred_channels_survive_reconnect(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut sub = client.pubsub().await.unwrap();
    let names = (0..100).map(|number| format!("channel:{number}")).collect::<Vec<_>>();
    sub.subscribe(&names).await.unwrap();
    for round in 0..5 {
        for name in &names {
            assert_eq!(publish(&server, name, &round.to_string()), 1);
        }
        for name in &names {
            assert_eq!(message(&kit, &mut sub).await, strings(name, &round.to_string()));
        }
        server.query(&["CLIENT", "KILL", "TYPE", "PUBSUB"]).unwrap();
        assert!(gap(&kit, &mut sub).await.is_connection());
    }
    assert_eq!(subscribers(&server, &names[0]), 1);
}

async fn channels_and_payloads_are_binary_safe(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut sub = client.pubsub().await.unwrap();
    let name = &b"\xff\r\n\0"[..];
    let payload = (0..=255).cycle().take(1 << 20).collect::<Vec<u8>>();
    sub.subscribe(name).await.unwrap();
    assert_eq!(client.connection().publish::<_, _, i64>(name, &payload).await.unwrap(), 1);
    let PubSubEvent::Message(message) = next(&kit, &mut sub).await else { panic!("expected a message") };
    assert_eq!(message.get_channel::<Vec<u8>>().unwrap(), name);
    assert!(message.get_payload_bytes() == payload);
}

async fn server_restart_is_a_gap(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut sub = client.pubsub().await.unwrap();
    sub.subscribe("news").await.unwrap();
    publish(&server, "news", "last");
    server.terminate().unwrap();
    assert_eq!(message(&kit, &mut sub).await, strings("news", "last"));
    let PubSubEvent::Disconnected(why) = next(&kit, &mut sub).await else {
        panic!("expected a disconnect event")
    };
    assert!(why.is_connection(), "{why}");
    // There is no subscription, so this waits for no confirmation.
    sub.unsubscribe("gone").await.unwrap();
    let (sink, mut stream) = sub.split();
    let waiting = kit.spawn(async move { sink.subscribe("more").await });
    server.restart().unwrap();
    kit.within("the subscription is confirmed", waiting.end()).await.unwrap();
    assert!(matches!(stream.next().await, Some(PubSubEvent::Resubscribed)));
    assert_eq!([publish(&server, "news", "1"), publish(&server, "more", "2")], [1, 1]);
    for expected in ["1", "2"] {
        let Some(PubSubEvent::Message(message)) = stream.next().await else { panic!("expected a message") };
        assert_eq!(message.get_payload::<String>().unwrap(), expected);
    }
}

async fn subscription_kept_without_server(kit: Kit) {
    let server = kit.server();
    let wait = Duration::from_millis(100);
    let client = connect(&kit, settings(&server.url()).failover_wait(wait).socket_timeout(wait)).await;
    let mut sub = client.pubsub().await.unwrap();
    server.kill().unwrap();
    let error = sub.subscribe("later").await.unwrap_err();
    assert!(error.to_string().contains("SUBSCRIBE later"), "{error}");
    server.restart().unwrap();
    kit.until("the subscription is confirmed", || publish(&server, "later", "hello") == 1).await;
    while !matches!(next(&kit, &mut sub).await, PubSubEvent::Message(_)) {}
}

async fn hung_server_detected(kit: Kit) {
    let server = kit.server();
    let short = Duration::from_millis(100);
    let short_timeouts = settings(&server.url()).health_check_interval(short).socket_timeout(short * 3);
    let client = connect(&kit, short_timeouts.failover_wait(short)).await;
    let mut sub = client.pubsub().await.unwrap();
    sub.subscribe("news").await.unwrap();
    let before = calls(&server, "ping");
    kit.until("the silent connection is checked", || calls(&server, "ping") >= before + 3).await;
    server.hang().unwrap();
    let PubSubEvent::Disconnected(why) = next(&kit, &mut sub).await else {
        panic!("expected a disconnect event")
    };
    assert!(why.is_timeout(), "{why}");
    assert!(sub.subscribe("more").await.is_err(), "the call must end");
    server.resume().unwrap();
    assert!(matches!(next(&kit, &mut sub).await, PubSubEvent::Resubscribed));
    kit.until("the old connections are gone", || subscribers(&server, "news") == 1).await;
    assert_eq!(publish(&server, "news", "hello"), 1);
    assert_eq!(message(&kit, &mut sub).await, strings("news", "hello"));
}

async fn slow_reader_loses_oldest_messages(kit: Kit) {
    let server = kit.server();
    let client = connect(&kit, settings(&server.url()).pubsub_buffer_bytes(10_000)).await;
    let mut sub = client.pubsub().await.unwrap();
    sub.subscribe("flood").await.unwrap();
    let mut flood = redis::pipe();
    (0..5_000).for_each(|number| _ = flood.publish("flood", number).ignore());
    flood.exec_async(&mut client.connection()).await.unwrap();
    // The confirmation arrives after all messages.
    sub.unsubscribe("flood").await.unwrap();
    let PubSubEvent::Lagged { missed } = next(&kit, &mut sub).await else {
        panic!("expected a lagged event")
    };
    for number in missed..5_000 {
        assert_eq!(message(&kit, &mut sub).await.1, number.to_string());
    }
    assert!((4_900..5_000).contains(&missed), "{missed}");
}

async fn forbidden_channel_refused(kit: Kit) {
    let server =
        kit.server_builder().user("reader", "on >pw ~* resetchannels &news &sport +@all").start().unwrap();
    let client = connect(&kit, settings(&server.url()).username("reader").password("pw")).await;
    let mut sub = client.pubsub().await.unwrap();
    sub.subscribe(&["news", "sport"]).await.unwrap();
    for error in [sub.subscribe(&["news", "secret"]).await, sub.psubscribe("*").await] {
        let error = error.unwrap_err();
        assert!(error.is_permission_denied(), "{error}");
        assert!(error.to_string().contains("ACL SETUSER"), "{error}");
    }
    assert_eq!([publish(&server, "secret", "no"), publish(&server, "news", "yes")], [0, 1]);
    assert_eq!(message(&kit, &mut sub).await, strings("news", "yes"));
    // Redis ends the connections of a user whose channel permissions shrink.
    server.query(&["ACL", "SETUSER", "reader", "resetchannels", "&sport"]).unwrap();
    assert!(matches!(next(&kit, &mut sub).await, PubSubEvent::Disconnected(_)));
    let PubSubEvent::Refused { scope, name, error } = next(&kit, &mut sub).await else {
        panic!("expected a refusal")
    };
    assert_eq!((scope, &name[..]), (Scope::Channel, &b"news"[..]));
    assert!(error.is_permission_denied());
    assert!(matches!(next(&kit, &mut sub).await, PubSubEvent::Resubscribed));
    assert_eq!(publish(&server, "sport", "on"), 1);
    assert_eq!(message(&kit, &mut sub).await, strings("sport", "on"));
}

async fn wrong_password_fails_fast(kit: Kit) {
    let server = kit.server_builder().password("right").start().unwrap();
    let client = kit.client(settings(&server.url()).password("wrong").build().unwrap());
    let error = client.pubsub().await.unwrap_err();
    assert!(error.is_authentication(), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");
}

async fn close_ends_stream_after_buffered_messages(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut sub = client.pubsub().await.unwrap();
    sub.subscribe("news").await.unwrap();
    publish(&server, "news", "last words");
    sub.unsubscribe("other").await.unwrap();
    client.close().await;
    assert_eq!(message(&kit, &mut sub).await, strings("news", "last words"));
    assert!(sub.next().await.is_none());
    assert!(sub.subscribe("news").await.unwrap_err().is_closed());
    assert!(client.pubsub().await.unwrap_err().is_closed());
    kit.until("the connection has ended", || subscribers(&server, "news") == 0).await;
}

async fn dropping_stream_closes_connection(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let sub = client.pubsub().await.unwrap();
    sub.subscribe("news").await.unwrap();
    let (sink, stream) = client.pubsub().await.unwrap().split();
    sink.subscribe("news").await.unwrap();
    assert_eq!(publish(&server, "news", "both"), 2);
    drop(sub);
    kit.until("one has ended", || subscribers(&server, "news") == 1).await;
    drop(stream);
    kit.until("both have ended", || subscribers(&server, "news") == 0).await;
    assert!(sink.subscribe("more").await.unwrap_err().is_closed());
}

async fn subscriber_keeps_client_open(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let (sink, mut stream) = client.pubsub().await.unwrap().split();
    sink.subscribe("news").await.unwrap();
    drop((client, sink));
    assert_eq!(publish(&server, "news", "hello"), 1);
    let event = futures_lite::StreamExt::next(&mut stream).await;
    assert!(matches!(event, Some(PubSubEvent::Message(_))));
    drop(stream);
    kit.until("all connections have ended", || {
        connections(&server) == 0 && subscribers(&server, "news") == 0
    })
    .await;
}

async fn dropped_calls_lose_no_messages(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut sub = client.pubsub().await.unwrap();
    server.hang().unwrap();
    assert!(poll_once(sub.subscribe("news")).await.is_none());
    server.resume().unwrap();
    kit.until("the channel is subscribed after all", || subscribers(&server, "news") == 1).await;
    for number in 0..100 {
        publish(&server, "news", &number.to_string());
        let _ = poll_once(sub.subscribe("news")).await;
        let event = loop {
            if let Some(event) = poll_once(sub.next()).await {
                break event;
            }
            futures_lite::future::yield_now().await;
        };
        let Some(PubSubEvent::Message(message)) = event else { panic!("expected a message") };
        assert_eq!(message.get_payload::<i64>().unwrap(), number);
    }
}

async fn resp2_subscriber_on_old_server(kit: Kit) {
    let server = kit.server_builder().config("rename-command HELLO \"\"").start().unwrap();
    let client =
        connect(&kit, settings(&server.url()).health_check_interval(Duration::from_millis(50))).await;
    let mut sub = client.pubsub().await.unwrap();
    sub.subscribe(&["a", "b"]).await.unwrap();
    sub.psubscribe("p*").await.unwrap();
    sub.unsubscribe("b").await.unwrap();
    for round in 0..3 {
        // The reply to PING has another form while the connection is subscribed.
        let before = calls(&server, "ping");
        kit.until("the silent connection is checked", || calls(&server, "ping") >= before + 4).await;
        assert_eq!(
            [publish(&server, "a", "1"), publish(&server, "b", "no"), publish(&server, "pp", "2")],
            [1, 0, 1]
        );
        assert_eq!(message(&kit, &mut sub).await, strings("a", "1"));
        assert_eq!(message(&kit, &mut sub).await, strings("pp", "2"));
        if round == 1 {
            server.query(&["CLIENT", "KILL", "TYPE", "PUBSUB"]).unwrap();
            gap(&kit, &mut sub).await;
        }
    }
}

async fn subscribe_refused_on_shared_connection(kit: Kit) {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    let error = redis::cmd("SUBSCRIBE").arg("news").exec_async(&mut redis).await.unwrap_err();
    assert!(error.to_string().contains("client.pubsub()"), "{error}");
}

/// Checks that the subscriber reports the gap and then receives what the client publishes.
async fn check_resubscribed(kit: &Kit, client: &Client, sub: &mut PubSub, new: &Server) {
    gap(kit, sub).await;
    let receivers: i64 = client.connection().publish("news", "hello").await.unwrap();
    assert_eq!(receivers, 1);
    assert_eq!(message(kit, sub).await, strings("news", "hello"));
    assert_eq!(subscribers(new, "news"), 1);
}

async fn failover_followed(kit: Kit) {
    let topology = kit.topology_builder().demote_after(Duration::from_secs(1)).start().unwrap();
    let client = kit.client_of_topology(&topology).await;
    let mut sub = client.pubsub().await.unwrap();
    sub.subscribe("news").await.unwrap();

    let old = topology.planned_failover().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    check_resubscribed(&kit, &client, &mut sub, new).await;
    kit.until("the old master has no subscriber", || subscribers(old, "news") == 0).await;

    topology.wait_until_healthy().unwrap();
    let old = topology.kill_master().unwrap();
    let new = topology.wait_for_new_master(old).unwrap();
    check_resubscribed(&kit, &client, &mut sub, new).await;
}
