//! Runs redis-rs's commands, pipelines, transactions, scripts and scans on a connection.

use std::collections::{HashMap, HashSet};

use super::kit::{Kit, calls, connections, settings};
use futures_lite::StreamExt;
use ha_redis_core::{Connection, Outcome, RedisErrorExt};
use redis::{AsyncCommands, ErrorKind, RedisResult, Script, ServerErrorKind, Value};

tests! {
    everywhere: [
        commands_of_every_data_type,
        values_of_any_size_round_trip,
        pipeline_returns_one_reply_per_command,
        transaction_is_atomic,
        scripts_and_scans,
        server_error_same_as_in_redis_rs,
        handles_on_one_connection_get_own_replies,
        mixed_sizes_get_own_replies,
        stateful_commands_refused_on_shared_connection,
        dropped_calls_keep_replies_in_order,
    ],
}

async fn commands_of_every_data_type(kit: Kit) -> RedisResult<()> {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();

    redis.set_ex::<_, _, ()>("session", "data", 3600).await?;
    assert_eq!(redis.get::<_, String>("session").await?, "data");
    assert!((3590..=3600).contains(&redis.ttl::<_, i64>("session").await?));
    assert_eq!(redis.incr::<_, _, i64>("counter", 5).await?, 5);

    redis.hset_multiple::<_, _, _, ()>("user", &[("name", "Alice"), ("age", "30")]).await?;
    let user: HashMap<String, String> = redis.hgetall("user").await?;
    assert_eq!(user["age"], "30");

    redis.rpush::<_, _, ()>("queue", &["a", "b", "c"]).await?;
    assert_eq!(redis.lpop::<_, String>("queue", None).await?, "a");
    assert_eq!(redis.lrange::<_, Vec<String>>("queue", 0, -1).await?, ["b", "c"]);

    redis.sadd::<_, _, ()>("tags", &["x", "y"]).await?;
    assert_eq!(redis.smembers::<_, HashSet<String>>("tags").await?.len(), 2);

    redis.zadd_multiple::<_, _, _, ()>("board", &[(100, "alice"), (85, "bob")]).await?;
    let best: Vec<(String, f64)> = redis.zrevrange_withscores("board", 0, 0).await?;
    assert_eq!(best, [("alice".to_owned(), 100.0)]);

    assert!(redis.exists::<_, bool>("user").await?);
    assert_eq!(redis.del::<_, i64>(&["user", "tags"]).await?, 2);
    assert_eq!(redis.get::<_, Option<String>>("user").await?, None);
    Ok(())
}

async fn values_of_any_size_round_trip(kit: Kit) -> RedisResult<()> {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    for size in [0, 1, 1 << 10, (64 << 10) + 1, 5 << 20] {
        let value: Vec<u8> = (0..size).map(|index| (index * 31 % 251) as u8).collect();
        redis.set::<_, _, ()>("value", &value).await?;
        assert!(redis.get::<_, Vec<u8>>("value").await? == value, "{size} bytes");
    }
    Ok(())
}

async fn pipeline_returns_one_reply_per_command(kit: Kit) -> RedisResult<()> {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    let mut pipeline = redis::pipe();
    pipeline.set("text", "abc").ignore().incr("number", 2).get("text");
    let (number, text): (i64, String) = pipeline.query_async(&mut redis).await?;
    assert_eq!((number, text.as_str()), (2, "abc"));
    assert_eq!(redis::pipe().query_async::<Vec<Value>>(&mut redis).await?, []);

    let mut failing = redis::pipe();
    failing.incr("text", 1).incr("number", 1);
    let error = failing.query_async::<()>(&mut redis).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError));
    assert_eq!(redis.get::<_, i64>("number").await?, 3, "the rest of the pipeline ran");
    let partial: Vec<RedisResult<i64>> = failing.ignore_errors().query_async(&mut redis).await?;
    assert!(partial[0].is_err() && partial[1] == Ok(4));
    Ok(())
}

async fn transaction_is_atomic(kit: Kit) -> RedisResult<()> {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    let mut transaction = redis::pipe();
    transaction.atomic().incr("n", 1).ignore().incr("n", 1).get("n");
    assert_eq!(transaction.query_async::<(i64, i64)>(&mut redis).await?, (2, 2));

    let mut broken = redis::pipe();
    broken.atomic().incr("n", 1).cmd("NOSUCHCOMMAND");
    let error = broken.query_async::<()>(&mut redis).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::ExecAbort));
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(error.to_string().contains("Index 1") && error.to_string().contains("NOSUCHCOMMAND"), "{error}");
    assert_eq!(redis.get::<_, i64>("n").await?, 2);
    Ok(())
}

async fn scripts_and_scans(kit: Kit) -> RedisResult<()> {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    assert_eq!(script.key("n").arg(3).invoke_async::<i64>(&mut redis).await?, 3);
    assert_eq!(script.key("n").arg(4).invoke_async::<i64>(&mut redis).await?, 7, "from the script cache");

    let mut fill = redis::pipe();
    (0..500).for_each(|number| _ = fill.set(format!("scan:{number}"), number).ignore());
    fill.exec_async(&mut redis).await?;
    let keys = redis.scan_match::<_, String>("scan:*").await?;
    assert_eq!(keys.map(|key| key.unwrap()).collect::<HashSet<_>>().await.len(), 500);
    Ok(())
}

async fn server_error_same_as_in_redis_rs(kit: Kit) -> RedisResult<()> {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    redis.set::<_, _, ()>("text", "abc").await?;
    let error = redis.lpush::<_, _, ()>("text", 1).await.unwrap_err();
    assert_eq!(error.code(), Some("WRONGTYPE"));
    assert_eq!(error.outcome(), Outcome::NotApplied);
    Ok(())
}

async fn handles_on_one_connection_get_own_replies(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let tasks = (0..200).map(|task| {
        let mut redis = client.connection();
        kit.spawn(async move {
            for round in 0..20 {
                let echo: String =
                    redis::cmd("ECHO").arg(format!("{task}:{round}")).query_async(&mut redis).await.unwrap();
                assert_eq!(echo, format!("{task}:{round}"));
            }
        })
    });
    kit.all(tasks).await;
    assert_eq!(connections(&server), 1);
    assert_eq!(calls(&server, "echo"), 4_000);
}

async fn mixed_sizes_get_own_replies(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let caller = |number: usize| {
        let mut redis = client.connection();
        async move {
            for round in 0..5 {
                match number % 3 {
                    // Many commands, one large value, and a small one.
                    0 => {
                        let mut pipe = redis::pipe();
                        (0..2_000).for_each(|index| {
                            pipe.cmd("ECHO").arg(number * 10_000 + index);
                        });
                        let replies: Vec<usize> = pipe.query_async(&mut redis).await.unwrap();
                        assert!(replies.into_iter().eq((0..2_000).map(|index| number * 10_000 + index)));
                    }
                    1 => {
                        let value = vec![b'a' + number as u8; (round + 1) * (100 << 10)];
                        let reply: Vec<u8> =
                            redis::cmd("ECHO").arg(&value).query_async(&mut redis).await.unwrap();
                        assert!(reply == value);
                    }
                    _ => {
                        for call in 0..100 {
                            let reply: usize =
                                redis::cmd("ECHO").arg(call).query_async(&mut redis).await.unwrap();
                            assert_eq!(reply, call);
                        }
                    }
                }
            }
        }
    };
    kit.all((0..12).map(|number| kit.spawn(caller(number)))).await;
    assert_eq!(connections(&server), 1);
}

async fn stateful_commands_refused_on_shared_connection(kit: Kit) {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    for command in [
        "SUBSCRIBE news",
        "SELECT 1",
        "MULTI",
        "WATCH k",
        "MONITOR",
        "CLIENT REPLY OFF",
        "CLIENT CAPA redirect",
        "CLIENT IMPORT-SOURCE ON",
        "CLIENT MAINT_NOTIFICATIONS ON",
        "CLIENT NEWER-THAN-THIS",
        "HIMPORT PREPARE fields name email",
        "QUIT",
    ] {
        let mut args = command.split(' ');
        let mut cmd = redis::cmd(args.next().unwrap());
        args.for_each(|arg| _ = cmd.arg(arg));
        let error = cmd.exec_async(&mut redis).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent, "{command}");
        assert!(error.client_error().is_some_and(|error| error.is_refused_command()), "{command}: {error}");
    }
    assert_eq!(redis.ping::<String>().await.unwrap(), "PONG", "the connection still works");
}

/// A seeded random number generator. A failing test prints the seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Runs a call of one of several kinds and checks that it gets its own replies.
async fn call_and_check(redis: &mut Connection, kind: u64, text: String) {
    let echo = |part: &str| redis::cmd("ECHO").arg(format!("{text}:{part}")).take();
    let expected = |part: &str| format!("{text}:{part}");
    match kind {
        0 => {
            let mut pipeline = redis::pipe();
            pipeline.add_command(echo("a")).add_command(echo("b"));
            let replies: (String, String) = pipeline.query_async(redis).await.unwrap();
            assert_eq!(replies, (expected("a"), expected("b")));
        }
        1 => {
            let mut transaction = redis::pipe();
            transaction.atomic().add_command(echo("a")).add_command(echo("b"));
            let replies: (String, String) = transaction.query_async(redis).await.unwrap();
            assert_eq!(replies, (expected("a"), expected("b")));
        }
        2 => {
            let own = format!("list:{text}");
            redis.rpush::<_, _, ()>(&own, &text).await.unwrap();
            let popped: (String, String) = redis.blpop(&own, 0.0).await.unwrap();
            assert_eq!(popped, (own, text));
        }
        _ => assert_eq!(echo("a").query_async::<String>(redis).await.unwrap(), expected("a")),
    }
}

async fn dropped_calls_keep_replies_in_order(kit: Kit) {
    let server = kit.server();
    // The limit is low, so that some calls are dropped while they wait in the queue.
    let settings = settings(&server.url()).max_in_flight(24);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let tasks = (0..64_u64).map(|task| {
        let mut redis = client.connection();
        let mut random = Random(seed.wrapping_add(task));
        kit.spawn(async move {
            for round in 0..100 {
                let kind = random.below(12);
                let call = call_and_check(&mut redis, kind, format!("{task}:{round}"));
                if random.below(3) > 0 {
                    call.await;
                    continue;
                }
                let mut call = std::pin::pin!(call);
                for _ in 0..random.below(8) {
                    if futures_lite::future::poll_once(&mut call).await.is_some() {
                        break;
                    }
                    futures_lite::future::yield_now().await;
                }
            }
        })
    });
    kit.all(tasks).await;
    assert_eq!(client.connection().ping::<String>().await.unwrap(), "PONG");
}
