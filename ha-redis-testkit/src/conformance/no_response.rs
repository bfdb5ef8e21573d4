//! Tests commands without a reply: `set_no_response(true)`.

use std::time::Duration;

use super::kit::{Kit, calls, settings};
use ha_redis_core::{Outcome, RedisErrorExt};
use redis::{AsyncCommands, Cmd, RedisResult, Value};

tests! {
    everywhere: [
        no_response_keeps_replies_in_order,
        no_response_returns_before_reply,
        no_response_returns_error_before_send,
        dedicated_connection_released_after_run,
        blocking_no_response_uses_own_connection,
        no_response_ignored_in_pipeline,
    ],
}

fn increment() -> Cmd {
    redis::cmd("INCR").arg("n").set_no_response(true).take()
}

async fn no_response_keeps_replies_in_order(kit: Kit) -> RedisResult<()> {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    let mut own = client.dedicated().await.unwrap();
    for round in 1..=100_i64 {
        assert_eq!(increment().query_async::<Value>(&mut redis).await?, Value::Nil);
        // Error replies are dropped as well.
        redis::cmd("NOSUCHCOMMAND").set_no_response(true).exec_async(&mut redis).await?;
        assert_eq!(redis.get::<_, i64>("n").await?, 2 * round - 1);
        assert_eq!(increment().query_async::<Value>(&mut own).await?, Value::Nil);
        assert_eq!(own.get::<_, i64>("n").await?, 2 * round);
    }
    Ok(())
}

async fn no_response_returns_before_reply(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut own = client.dedicated().await.unwrap();
    server.hang().unwrap();
    increment().exec_async(&mut client.connection()).await.unwrap();
    increment().exec_async(&mut own).await.unwrap();
    server.resume().unwrap();
    kit.until("both commands ran", || calls(&server, "incr") == 2).await;
    let closed = client.close().await;
    assert!(closed.is_clean(), "{closed}");
}

async fn no_response_returns_error_before_send(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).failover_wait(Duration::from_millis(200));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    server.kill().unwrap();
    kit.until("the connection is gone", || {
        futures_lite::future::block_on(client.health_check()).open_connections == 0
    })
    .await;
    let error = increment().exec_async(&mut client.connection()).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
    client.close().await;
    let error = increment().exec_async(&mut client.connection()).await.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_closed()), "{error}");
}

async fn dedicated_connection_released_after_run(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    for round in 1..=20 {
        let mut own = client.dedicated().await.unwrap();
        increment().exec_async(&mut own).await.unwrap();
        drop(own);
        kit.until("the command has run", || calls(&server, "incr") == round).await;
    }
}

async fn blocking_no_response_uses_own_connection(kit: Kit) {
    let server = kit.server();
    let client = kit.client_of(&server).await;
    let mut redis = client.connection();
    redis.rpush::<_, _, ()>("from", "job").await.unwrap();
    let mut moving = redis::cmd("BLMOVE");
    moving.arg("from").arg("to").arg("LEFT").arg("RIGHT").arg(5).set_no_response(true);
    assert_eq!(moving.query_async::<Value>(&mut redis).await.unwrap(), Value::Nil);
    assert_eq!(redis.lpop::<_, String>("to", None).await.unwrap(), "job");
}

async fn no_response_ignored_in_pipeline(kit: Kit) {
    let server = kit.server();
    let mut redis = kit.client_of(&server).await.connection();
    let mut pipeline = redis::pipe();
    pipeline.add_command(increment()).add_command(increment());
    assert_eq!(pipeline.query_async::<(i64, i64)>(&mut redis).await.unwrap(), (1, 2));
    assert_eq!(pipeline.atomic().query_async::<(i64, i64)>(&mut redis).await.unwrap(), (3, 4));
}
