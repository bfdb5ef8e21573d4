//! Tests slow and silent networks and servers: which calls are retried, and which connections are replaced.

use std::time::Duration;

use ha_redis_core::{Client, Outcome, Protocol, RedisErrorExt};
use redis::AsyncCommands;

use super::kit::{Kit, calls, settings};
use crate::{Direction, Proxy};

tests! {
    everywhere: [
        large_value_sent_once_over_slow_link,
        slow_script_runs_once,
        non_retryable_call_ends_on_silent_server,
        silent_connection_replaced_and_call_retried,
        recovered_server_keeps_connection,
        late_copy_of_abandoned_call_fenced,
        late_copy_fenced_in_resp2,
    ],
    plain: [
        pushes_do_not_count_as_alive,
    ],
}

const MIB: usize = 1 << 20;

async fn client_with_timeout(kit: &Kit, url: &str, socket_timeout: Duration) -> Client {
    kit.connect(settings(url).socket_timeout(socket_timeout).build().unwrap()).await.unwrap()
}

async fn large_value_sent_once_over_slow_link(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = client_with_timeout(&kit, &proxy.url(), Duration::from_secs(1)).await;
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.throttle(direction, 4 * MIB as u64);
    }
    let value = vec![b'x'; 8 * MIB];
    let mut redis = client.connection();
    let large = kit.spawn(async move {
        redis.set::<_, _, ()>("large", value).await?;
        redis.get::<_, Vec<u8>>("large").await
    });
    let neighbours = (0..8).map(|number| {
        let mut redis = client.connection();
        kit.spawn(async move { redis.incr::<_, _, u64>(format!("small:{number}"), 1).await })
    });
    for neighbour in kit.all(neighbours).await {
        assert_eq!(neighbour.unwrap(), 1);
    }
    assert_eq!(large.end().await.unwrap().len(), 8 * MIB);
    assert_eq!((calls(&server, "set"), calls(&server, "get"), calls(&server, "incrby")), (1, 1, 8));
    assert_eq!(proxy.accepted(), 1, "the connection stayed open");
}

/// A script that keeps the server busy for two and a half times `socket_timeout`.
const BUSY_SCRIPT: &str = "local start = redis.call('TIME') \
    local function elapsed() local now = redis.call('TIME') \
        return (now[1] - start[1]) * 1000000 + now[2] - start[2] end \
    while elapsed() < 1250000 do end return 'done'";

async fn slow_script_runs_once(kit: Kit) {
    let server = kit.server();
    let client = client_with_timeout(&kit, &server.url(), Duration::from_millis(500)).await;
    let mut redis = client.connection();
    let done: String = redis::cmd("EVAL_RO").arg(BUSY_SCRIPT).arg(0).query_async(&mut redis).await.unwrap();
    assert_eq!(done, "done");
    assert_eq!(calls(&server, "eval_ro"), 1);
}

async fn non_retryable_call_ends_on_silent_server(kit: Kit) {
    let server = kit.server();
    let client = client_with_timeout(&kit, &server.url(), Duration::from_millis(500)).await;
    server.hang().unwrap();
    let error = client.connection().incr::<_, _, u64>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    let text = error.to_string();
    assert!(text.contains("unresponsive") && text.contains(&server.port().to_string()), "{text}");
    server.resume().unwrap();
}

async fn silent_connection_replaced_and_call_retried(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = client_with_timeout(&kit, &proxy.url(), Duration::from_millis(500)).await;
    // Everything sent from now on is lost. Later connections work.
    proxy.lose(Direction::ToServer);
    let mut redis = client.connection();
    let set = kit.spawn(async move { redis.set::<_, _, ()>("key", "value").await });
    kit.until("the call is lost", || proxy.lost(Direction::ToServer) > 0).await;
    proxy.heal().unwrap();
    set.end().await.unwrap();
    assert_eq!((calls(&server, "set"), proxy.accepted()), (1, 2));
}

async fn recovered_server_keeps_connection(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = client_with_timeout(&kit, &proxy.url(), Duration::from_millis(300)).await;
    server.hang().unwrap();
    let mut redis = client.connection();
    let get = kit.spawn(async move { redis.get::<_, Option<String>>("key").await });
    // The client tries another connection, which gets no reply either.
    kit.until("another connection is tried", || proxy.accepted() > 1).await;
    server.resume().unwrap();
    assert_eq!(get.end().await.unwrap(), None);
    assert_eq!(calls(&server, "get"), 1, "the first attempt delivered the reply");
    assert_eq!(client.connection().get::<_, Option<String>>("key").await.unwrap(), None);
}

async fn pushes_do_not_count_as_alive(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = client_with_timeout(&kit, &proxy.url(), Duration::from_millis(500)).await;
    server.hang().unwrap();
    let mut redis = client.connection();
    let get = kit.spawn(async move { redis.get::<_, Option<String>>("key").await });
    kit.until("another connection is tried", || {
        proxy.inject(Direction::ToClient, *b">2\r\n+news\r\n+an unexpected push\r\n");
        proxy.accepted() > 1
    })
    .await;
    server.resume().unwrap();
    // Either connection may deliver the reply.
    assert_eq!(get.end().await.unwrap(), None);
}

/// Sends a SET whose segment the network delivers only after the caller has retried it and continued.
async fn check_late_delivery(kit: &Kit, protocol: Protocol) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let settings = settings(&proxy.url()).socket_timeout(Duration::from_millis(300)).protocol(protocol);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    redis.set::<_, _, ()>("key", "before").await.unwrap();
    proxy.keep_back();
    redis.set::<_, _, ()>("key", "first").await.unwrap();
    assert_eq!(proxy.accepted(), 2, "the call was retried on another connection");
    redis.set::<_, _, ()>("key", "second").await.unwrap();
    proxy.deliver();
    kit.until("the old connection has ended", || proxy.connections() == 1).await;
    assert_eq!(redis.get::<_, String>("key").await.unwrap(), "second");
    assert_eq!(calls(&server, "set"), 3, "the late copy did not run");
}

async fn late_copy_of_abandoned_call_fenced(kit: Kit) {
    check_late_delivery(&kit, Protocol::Auto).await;
}

async fn late_copy_fenced_in_resp2(kit: Kit) {
    check_late_delivery(&kit, Protocol::Resp2).await;
}
