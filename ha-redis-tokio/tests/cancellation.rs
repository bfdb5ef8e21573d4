//! Tests calls that are dropped before they end. It measures the memory of the process, so this file has no other
//! test.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{client_of, resident_memory};
use ha_redis_testkit::Server;
use ha_redis_tokio::Connection;
use ha_redis_tokio::redis::{self, RedisResult};
use tokio::task::{JoinSet, yield_now};

const CALLERS: u64 = 250;
const CANCELLED: u64 = 1_000_000;

/// Checks that the reply contains this call's number, and not another call's.
async fn echo(redis: &mut Connection, number: u64) -> RedisResult<()> {
    let number = number.to_string();
    if number.ends_with('7') {
        let mut pipe = redis::pipe();
        pipe.cmd("ECHO").arg(&number).cmd("ECHO").arg("and").cmd("ECHO").arg(&number);
        let reply: (String, String, String) = pipe.query_async(redis).await?;
        assert_eq!(reply, (number.clone(), "and".into(), number));
    } else {
        let reply: String = redis::cmd("ECHO").arg(&number).query_async(redis).await?;
        assert_eq!(reply, number);
    }
    Ok(())
}

/// Drops a call after a few polls. Returns true if it had not ended by then.
async fn cancel_after_polls(redis: &mut Connection, number: u64) -> bool {
    let polls = fastrand::u32(1..6);
    let timeout = async {
        for _ in 0..polls {
            yield_now().await;
        }
    };
    tokio::select! {
        biased;
        reply = echo(redis, number) => { reply.unwrap(); false }
        () = timeout => true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn million_cancelled_calls_keep_replies_in_order() {
    let server = Server::start().unwrap();
    let client = client_of(&server).await;
    let mut redis = client.connection();
    let connection: u64 = redis::cmd("CLIENT").arg("ID").query_async(&mut redis).await.unwrap();
    let (cancelled, numbers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (mut redis, cancelled, numbers) =
            (client.connection(), Arc::clone(&cancelled), Arc::clone(&numbers));
        callers.spawn(async move {
            while cancelled.load(Ordering::Relaxed) < CANCELLED {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                if cancel_after_polls(&mut redis, number).await {
                    cancelled.fetch_add(1, Ordering::Relaxed);
                }
                // The handle's next call, immediately after a dropped one.
                if fastrand::u8(..) < 16 {
                    echo(&mut redis, numbers.fetch_add(1, Ordering::Relaxed)).await.unwrap();
                }
            }
        });
    }
    common::until("a tenth of the calls is cancelled", || cancelled.load(Ordering::Relaxed) > CANCELLED / 10)
        .await;
    let early = resident_memory();
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let late = resident_memory();
    let (cancelled, calls) = (cancelled.load(Ordering::Relaxed), numbers.load(Ordering::Relaxed));
    println!(
        "{cancelled} of {calls} calls cancelled; resident memory {} and {} KiB",
        early >> 10,
        late >> 10
    );
    assert!(late < early + (4 << 20), "memory grew from {early} to {late} bytes");
    let now: u64 = redis::cmd("CLIENT").arg("ID").query_async(&mut redis).await.unwrap();
    assert_eq!(now, connection, "the client has reconnected");
}
