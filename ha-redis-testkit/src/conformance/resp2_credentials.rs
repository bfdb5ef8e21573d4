//! Tests credentials that change while a subscriber speaks RESP2, which does not allow it to log in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ha_redis_core::{Client, Event, Protocol, PubSubEvent};
use redis::AsyncCommands;

use super::credentials::{
    Announcer, add_user, announce, check_subscriber, client_as, named, next, subscribed, until_all_are, users,
};
use super::kit::{Kit, calls, settings};
use crate::{Direction, Proxy, Server};

tests![
    subscriber_misses_no_message,
    subscriber_ignores_forged_markers,
    subscriber_of_many_channels_reports_no_gap,
    subscriber_keeps_connection_when_refused,
    subscriber_keeps_connection_when_server_is_full,
    subscriber_logs_in_while_requests_continue,
    subscriber_without_marker_reports_gap,
    subscriber_gives_up_what_new_user_may_not,
    subscriber_stays_when_credentials_are_removed,
    markers_are_no_messages,
];

async fn subscriber_misses_no_message(kit: Kit) {
    check_handovers(&kit, &Server::start().unwrap()).await;
}

async fn subscriber_ignores_forged_markers(kit: Kit) {
    let server = Server::start().unwrap();
    let forger = kit.client_of(&server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, mut redis) = (Arc::clone(&stop), forger.connection());
    let forging = kit.spawn(async move {
        let mut forged = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            let list = redis::cmd("PUBSUB").arg("CHANNELS").arg("__ha_redis_handover:*").take();
            let channels: Vec<String> = list.query_async(&mut redis).await.unwrap();
            for channel in channels {
                forged += redis.publish::<_, _, u64>(channel, "").await.unwrap();
            }
        }
        forged
    });
    check_handovers(&kit, &server).await;
    stop.store(true, Ordering::Relaxed);
    assert!(kit.within("the forger ends", forging.end()).await > 0, "no marker was forged");
}

/// Checks that a subscriber receives each message once, and in order, while its credentials change again and again.
async fn check_handovers(kit: &Kit, server: &Server) {
    const HANDOVERS: usize = 30;
    let (announcer, client) = resp2_client(kit, server, HANDOVERS).await;
    let mut subscriber = subscribed(&client).await;
    subscriber.psubscribe("ne*").await.unwrap();
    let publisher = kit.client_of(server).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, mut redis, clock) = (Arc::clone(&stop), publisher.connection(), kit.clone());
    let publishing = kit.spawn(async move {
        let mut sent = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            redis.publish::<_, _, ()>("news", sent).await.unwrap();
            sent += 1;
            clock.sleep(Duration::from_millis(1)).await;
        }
        redis.publish::<_, _, ()>("news", "end").await.unwrap();
        sent
    });
    let reading = kit.spawn(async move {
        let mut received = Vec::new();
        loop {
            match subscriber.next().await.unwrap() {
                PubSubEvent::Message(message) => {
                    assert_eq!(message.get_channel_name(), "news");
                    match message.get_payload::<u64>() {
                        Ok(number) => received.push(number),
                        Err(_) => return received,
                    }
                }
                other => panic!("{other:?} after {} messages", received.len()),
            }
        }
    });
    for handover in 1..=HANDOVERS {
        let user = format!("app-{handover}");
        announce(&announcer, &user, "password");
        until_all_are(kit, server, &user).await;
    }
    stop.store(true, Ordering::Relaxed);
    let sent = kit.within("the publisher ends", publishing.end()).await;
    let received = kit.within("the last message", reading.end()).await;
    // Each message arrives once for the channel and once for the pattern.
    assert!(received.into_iter().eq((0..sent).flat_map(|number| [number, number])));
}

/// Returns a client that logs in as `app-0`. The users up to `app-{last}` exist.
async fn resp2_client(kit: &Kit, server: &Server, last: usize) -> (Announcer, Client) {
    client_at(kit, server, &server.url(), last).await
}

async fn client_at(kit: &Kit, server: &Server, url: &str, last: usize) -> (Announcer, Client) {
    (0..=last).for_each(|number| add_user(server, &format!("app-{number}"), "password"));
    let settings = settings(url).protocol(Protocol::Resp2);
    let (announcer, client) = client_as(kit, settings, "app-0", "password");
    client.initialize().await.unwrap();
    (announcer, client)
}

async fn subscriber_of_many_channels_reports_no_gap(kit: Kit) {
    const CHANNELS: usize = 20_000;
    let server = Server::start().unwrap();
    (0..2).for_each(|number| add_user(&server, &format!("app-{number}"), "password"));
    let settings = settings(&server.url()).protocol(Protocol::Resp2).max_reply_bytes(64 << 10);
    let (announcer, client) = client_as(&kit, settings, "app-0", "password");
    let mut subscriber = subscribed(&client).await;
    let channels = (0..CHANNELS).map(|number| format!("channel:{number}")).collect::<Vec<_>>();
    subscriber.subscribe(channels).await.unwrap();
    subscriber.ssubscribe("shard").await.unwrap();
    announce(&announcer, "app-1", "password");
    until_all_are(&kit, &server, "app-1").await;
    check_subscriber(&kit, &mut subscriber, &server, "after").await;
    for channel in ["channel:0", &format!("channel:{}", CHANNELS - 1)] {
        assert_eq!(server.query(&["PUBLISH", channel, ""]).unwrap().integer(), Some(1));
    }
    assert_eq!(server.query(&["SPUBLISH", "shard", ""]).unwrap().integer(), Some(1));
}

async fn subscriber_keeps_connection_when_refused(kit: Kit) {
    let server = Server::start().unwrap();
    let (announcer, client) = resp2_client(&kit, &server, 0).await;
    let mut subscriber = subscribed(&client).await;
    let connections = users(&server);
    let mut events = client.events();
    announce(&announcer, "app-0", "new");
    next(&kit, &mut events, |event| matches!(event, Event::LoginRefused { .. }).then_some(())).await;
    // The shared connections log in less often, the longer the server refuses that.
    let logins = calls(&server, "auth");
    kit.until("the subscriber tries again", || calls(&server, "auth") > logins + 5).await;
    check_subscriber(&kit, &mut subscriber, &server, "refused").await;
    subscriber.subscribe("more").await.unwrap();
    let stays = |now: &BTreeMap<u64, String>| connections.keys().all(|id| now.contains_key(id));
    assert!(stays(&users(&server)), "{connections:?}, {:?}", users(&server));
    server.query(&["ACL", "SETUSER", "app-0", ">new"]).unwrap();
    kit.until("another connection takes over", || !stays(&users(&server))).await;
    check_subscriber(&kit, &mut subscriber, &server, "accepted").await;
}

async fn subscriber_keeps_connection_when_server_is_full(kit: Kit) {
    let server = Server::start().unwrap();
    let (announcer, client) = resp2_client(&kit, &server, 1).await;
    let mut subscriber = subscribed(&client).await;
    let operator = kit.client_of(&server).await;
    let mut redis = operator.connection();
    let max_clients = |max: usize| redis::cmd("CONFIG").arg("SET").arg("maxclients").arg(max).take();
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut redis).await.unwrap();
    max_clients(list.lines().count()).exec_async(&mut redis).await.unwrap();
    announce(&announcer, "app-1", "password");
    let rejected = async {
        loop {
            let stats: String = redis::cmd("INFO").arg("stats").query_async(&mut redis).await.unwrap();
            if !stats.contains("rejected_connections:0") {
                return;
            }
            kit.sleep(Duration::from_millis(10)).await;
        }
    };
    kit.within("the server rejects a connection", rejected).await;
    redis.publish::<_, _, ()>("news", "full").await.unwrap();
    match kit.within("a message", subscriber.next()).await {
        Some(PubSubEvent::Message(message)) => assert_eq!(message.get_payload::<String>().unwrap(), "full"),
        other => panic!("{other:?}"),
    }
    max_clients(1_000).exec_async(&mut redis).await.unwrap();
    until_all_are(&kit, &server, "app-1").await;
    check_subscriber(&kit, &mut subscriber, &server, "after").await;
}

async fn subscriber_logs_in_while_requests_continue(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let (announcer, client) = client_at(&kit, &server, &proxy.url(), 1).await;
    let subscriber = Arc::new(subscribed(&client).await);
    // A confirmation is outstanding at any time.
    proxy.delay(Direction::ToClient, Duration::from_millis(40));
    let stop = Arc::new(AtomicBool::new(false));
    let requests = (0..16).map(|number| {
        let (subscriber, stop, clock) = (Arc::clone(&subscriber), Arc::clone(&stop), kit.clone());
        kit.spawn(async move {
            let mut rounds = 0;
            clock.sleep(Duration::from_millis(5 * number)).await;
            while !stop.load(Ordering::Relaxed) {
                subscriber.subscribe(format!("channel:{number}")).await.unwrap();
                subscriber.unsubscribe(format!("channel:{number}")).await.unwrap();
                rounds += 1;
            }
            rounds
        })
    });
    let requests = requests.collect::<Vec<_>>();
    let before = calls(&server, "subscribe");
    kit.until("requests are under way", || calls(&server, "subscribe") > before + 100).await;
    announce(&announcer, "app-1", "password");
    until_all_are(&kit, &server, "app-1").await;
    stop.store(true, Ordering::Relaxed);
    let rounds = kit.all(requests).await;
    assert!(rounds.iter().all(|rounds| *rounds > 0), "{rounds:?}");
}

async fn subscriber_gives_up_what_new_user_may_not(kit: Kit) {
    let server = Server::start().unwrap();
    let (announcer, client) = resp2_client(&kit, &server, 1).await;
    server.query(&["ACL", "SETUSER", "app-1", "resetchannels", "&__ha_redis_handover:*", "&news"]).unwrap();
    let mut subscriber = subscribed(&client).await;
    subscriber.subscribe("secret").await.unwrap();
    announce(&announcer, "app-1", "password");
    match kit.within("the refusal", subscriber.next()).await {
        Some(PubSubEvent::Refused { name, error, .. }) => {
            assert_eq!(name, b"secret");
            assert!(error.is_permission_denied(), "{error}");
        }
        other => panic!("{other:?}"),
    }
    check_subscriber(&kit, &mut subscriber, &server, "after").await;
    until_all_are(&kit, &server, "app-1").await;
}

async fn subscriber_stays_when_credentials_are_removed(kit: Kit) {
    let server = Server::start().unwrap();
    add_user(&server, "app", "password");
    let config = settings(&server.url()).protocol(Protocol::Resp2).username("app").password("password");
    let config = named(config.build().unwrap());
    let client = kit.connect(config).await.unwrap();
    let mut subscriber = subscribed(&client).await;
    let connections = users(&server);
    let none = settings(&server.url()).protocol(Protocol::Resp2).build().unwrap();
    assert_eq!(client.reconfigure(named(none)).await.unwrap(), ["username", "password"]);
    // The subscriber looks at the credentials before it sends a request.
    subscriber.subscribe("more").await.unwrap();
    assert_eq!(users(&server), connections);
    check_subscriber(&kit, &mut subscriber, &server, "after").await;
}

async fn markers_are_no_messages(kit: Kit) {
    let server = Server::start().unwrap();
    let (announcer, client) = resp2_client(&kit, &server, 1).await;
    let _handed_over = subscribed(&client).await;
    let mut own = client.pubsub().await.unwrap();
    own.psubscribe("*").await.unwrap();
    let mut others = kit.client_of(&server).await.pubsub().await.unwrap();
    others.psubscribe("*").await.unwrap();
    announce(&announcer, "app-1", "password");
    until_all_are(&kit, &server, "app-1").await;
    check_subscriber(&kit, &mut own, &server, "first").await;
    check_subscriber(&kit, &mut others, &server, "first").await;
}

async fn subscriber_without_marker_reports_gap(kit: Kit) {
    let server = Server::start().unwrap();
    for user in ["app-1", "app-2"] {
        let rules = ["ACL", "SETUSER", user, "on", ">password", "~*", "resetchannels", "&news", "+@all"];
        server.query(&rules).unwrap();
    }
    let (announcer, client) =
        client_as(&kit, settings(&server.url()).protocol(Protocol::Resp2), "app-1", "password");
    let mut subscriber = subscribed(&client).await;
    announce(&announcer, "app-2", "password");
    match kit.within("the gap", subscriber.next()).await {
        Some(PubSubEvent::Disconnected(why)) => {
            assert!(why.to_string().starts_with("the server refused a handover: NOPERM"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(kit.within("the end", subscriber.next()).await, Some(PubSubEvent::Resubscribed)));
    check_subscriber(&kit, &mut subscriber, &server, "after").await;
    until_all_are(&kit, &server, "app-2").await;
}
