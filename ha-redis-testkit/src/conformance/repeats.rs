//! Tests that commands whose meaning changes on a second run are not retried, and that a scan ends where its cursor
//! is no longer valid.

use std::collections::HashSet;

use super::kit::{Kit, blocked_clients, calls, config, settings};
use crate::{Cut, Direction, Proxy};
use futures_lite::StreamExt;
use ha_redis_core::{Connection, Outcome, RedisErrorExt};
use redis::{AsyncCommands, RedisError, RedisResult, Value};

tests! {
    everywhere: [
        read_of_new_entries_not_retried,
        unblocked_read_of_new_entries_not_retried,
        conditional_write_not_retried,
        scan_ends_when_process_changes,
        scan_ends_when_master_changes,
        scan_continues_in_same_process,
    ],
    plain: [
        scan_needs_only_scan_permission,
    ],
}

async fn read_of_new_entries_not_retried(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let reading = kit.spawn({
        let mut redis = client.connection();
        let mut read = redis::cmd("XREAD");
        read.arg("BLOCK").arg(0).arg("STREAMS").arg("stream").arg("$");
        async move { read.query_async(&mut redis).await }
    });
    kit.until("XREAD waits", || blocked_clients(&server) == 1).await;
    proxy.cut(Cut::Reset);
    let ended: RedisResult<Value> = kit.within("XREAD ends", reading.end()).await;
    assert_eq!(ended.unwrap_err().outcome(), Outcome::MaybeApplied, "a retry would skip new entries");
    assert_eq!(calls(&server, "xread"), 1);
}

async fn unblocked_read_of_new_entries_not_retried(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    for (from, goes_on) in [("0", true), ("$", false)] {
        server.query(&["REPLICAOF", "NO", "ONE"]).unwrap();
        let reading = kit.spawn({
            let mut redis = client.connection();
            let mut read = redis::cmd("XREAD");
            read.arg("BLOCK").arg(0).arg("STREAMS").arg("stream").arg(from);
            async move { read.query_async::<Value>(&mut redis).await }
        });
        kit.until("XREAD waits", || blocked_clients(&server) == 1).await;
        // The server becomes a replica of an unreachable master, which unblocks waiting clients.
        server.query(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
        if goes_on {
            server.query(&["REPLICAOF", "NO", "ONE"]).unwrap();
            kit.until("XREAD waits again", || blocked_clients(&server) == 1).await;
            server.query(&["XADD", "stream", "*", "field", "value"]).unwrap();
            reading.end().await.unwrap();
            server.query(&["DEL", "stream"]).unwrap();
        } else {
            let error = kit.within("XREAD ends", reading.end()).await.unwrap_err();
            assert_eq!((error.code(), error.outcome()), (Some("UNBLOCKED"), Outcome::NotApplied), "{error}");
        }
    }
}

async fn conditional_write_not_retried(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let mut redis = kit.connect(config(&proxy.url())).await.unwrap().connection();
    server.query(&["RPUSH", "list", "a", "b"]).unwrap();
    for command in [
        "GETEX key EX 1",
        "EXPIRE key 1",
        "SET key v XX PX 1000",
        "LSET list 0 c",
        "LTRIM list 0 0",
        "SETRANGE key 1 x",
        "COPY key other REPLACE",
        "PFMERGE a b",
        "CONFIG SET save 900",
        "CLIENT PAUSE 1",
    ] {
        redis.set::<_, _, ()>("key", "value").await.unwrap();
        let mut args = command.split(' ');
        let name = args.next().unwrap();
        let mut cmd = redis::cmd(name);
        args.for_each(|arg| _ = cmd.arg(arg));
        let cuts = proxy.cuts();
        proxy.cut_after(Direction::ToClient, 0, Cut::Reset);
        let ended = cmd.exec_async(&mut redis).await;
        assert_eq!(proxy.cuts(), cuts + 1, "{command}: its reply was lost");
        assert_eq!(ended.unwrap_err().outcome(), Outcome::MaybeApplied, "{command}");
    }
}

const KEYS: usize = 2_000;

async fn fill(redis: &mut Connection) {
    let mut fill = redis::pipe();
    for number in 0..KEYS {
        fill.set(format!("key:{number}"), number).ignore();
        fill.hset("hash", number, number).ignore();
    }
    fill.exec_async(redis).await.unwrap();
}

async fn step(redis: &mut Connection, command: &str, cursor: u64) -> RedisResult<(u64, Vec<String>)> {
    let mut args = command.split(' ');
    let mut step = redis::cmd(args.next().unwrap());
    args.for_each(|arg| _ = step.arg(arg));
    step.arg(cursor).arg("COUNT").arg(20).query_async(redis).await
}

fn assert_cursor_lost(error: &RedisError) {
    assert!(error.client_error().is_some_and(|error| error.is_refused_command()), "{error}");
    assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
    assert!(error.to_string().contains("begin again with cursor 0"), "{error}");
}

/// Asserts that a new scan finds all keys.
async fn assert_scan_complete(redis: &mut Connection) {
    let keys = redis.scan_match::<_, String>("key:*").await.unwrap();
    assert_eq!(keys.map(Result::unwrap).collect::<HashSet<_>>().await.len(), KEYS);
}

async fn scan_ends_when_process_changes(kit: Kit) {
    let server = kit.server_builder().appendonly().start().unwrap();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    fill(&mut redis).await;
    let (keys, _) = step(&mut redis, "SCAN", 0).await.unwrap();
    let (fields, _) = step(&mut redis, "HSCAN hash", 0).await.unwrap();
    let mut iterating = client.connection();
    let mut iterated = iterating.scan::<String>().await.unwrap();
    iterated.next_item().await.unwrap().unwrap();
    assert!(keys != 0 && fields != 0, "the scans are not at their ends");

    server.restart().unwrap();
    let mut fresh = client.connection();
    let scans = calls(&server, "scan");
    for redis in [&mut redis, &mut fresh] {
        assert_cursor_lost(&step(redis, "SCAN", keys).await.unwrap_err());
        assert_cursor_lost(&step(redis, "HSCAN hash", fields).await.unwrap_err());
        let mut pipeline = redis::pipe();
        pipeline.get("key:1").cmd("SCAN").arg(keys);
        assert_cursor_lost(&pipeline.exec_async(redis).await.unwrap_err());
        assert_cursor_lost(&pipeline.atomic().exec_async(redis).await.unwrap_err());
    }
    let lost = loop {
        match iterated.next_item().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("the scan ended early without an error"),
        }
    };
    assert_cursor_lost(&lost);
    assert_eq!(calls(&server, "scan"), scans, "no step was sent");
    assert_scan_complete(&mut redis).await;
}

async fn scan_ends_when_master_changes(kit: Kit) {
    let topology = kit.topology();
    let client = kit.client_of_topology(&topology).await;
    let mut redis = client.connection();
    fill(&mut redis).await;
    topology.wait_until_healthy().unwrap();
    let (cursor, _) = step(&mut redis, "SCAN", 0).await.unwrap();
    let old = topology.kill_master().unwrap();
    topology.wait_for_new_master(old).unwrap();
    assert_cursor_lost(&step(&mut redis, "SCAN", cursor).await.unwrap_err());
    assert_scan_complete(&mut redis).await;
}

async fn scan_continues_in_same_process(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(settings(&proxy.url()).shared_connections(2).build().unwrap()).await.unwrap();
    let mut redis = client.connection();
    fill(&mut redis).await;
    let (mut cursor, mut keys) = step(&mut redis, "SCAN", 0).await.unwrap();
    let mut steps = 0;
    while cursor != 0 {
        // The scan continues over other connections, after lost replies, and through handles that may use the other
        // shared connection.
        match steps {
            0 | 3 => proxy.cut(Cut::Reset),
            1 | 4 => proxy.cut_after(Direction::ToClient, 0, Cut::Reset),
            _ => redis = client.connection(),
        }
        steps += 1;
        let (next, more) = step(&mut redis, "SCAN", cursor).await.unwrap();
        cursor = next;
        keys.extend(more);
    }
    let found = keys.into_iter().filter(|key| key.starts_with("key:")).collect::<HashSet<_>>();
    assert_eq!(found.len(), KEYS);
    assert!(steps > 20 && proxy.cuts() >= 4, "only {steps} steps and {} cuts", proxy.cuts());
}

async fn scan_needs_only_scan_permission(kit: Kit) {
    let server = kit.server_builder().user("app", "on >pw ~* -@all +scan +mset").start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let settings = settings(&proxy.url()).username("app").password("pw");
    let mut redis = kit.connect(settings.build().unwrap()).await.unwrap().connection();
    let keys = (0..KEYS).map(|number| (format!("key:{number}"), number)).collect::<Vec<_>>();
    redis.mset::<_, _, ()>(&keys).await.unwrap();
    assert_scan_complete(&mut redis).await;
    let (cursor, _) = step(&mut redis, "SCAN", 0).await.unwrap();
    let (cursor, _) = step(&mut redis, "SCAN", cursor).await.unwrap();
    proxy.cut(Cut::Reset);
    assert_cursor_lost(&step(&mut redis, "SCAN", cursor).await.unwrap_err());
    assert_scan_complete(&mut redis).await;
}
