//! Calls that are dropped on their way. It is the process's memory that is measured, so no other test stands here.

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

/// What no other call asks for comes back: else it would be another call's reply.
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

/// Drops a call after it has been polled a few times. True when it had not ended by then.
async fn is_cancelled(redis: &mut Connection, number: u64) -> bool {
    let polls = fastrand::u32(1..6);
    let patience = async {
        for _ in 0..polls {
            yield_now().await;
        }
    };
    tokio::select! {
        biased;
        reply = echo(redis, number) => { reply.unwrap(); false }
        () = patience => true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_calls_cancelled_anywhere_leave_everybody_in_step() {
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
                if is_cancelled(&mut redis, number).await {
                    cancelled.fetch_add(1, Ordering::Relaxed);
                }
                // The handle's next call, right behind one that was dropped.
                if fastrand::u8(..) < 16 {
                    echo(&mut redis, numbers.fetch_add(1, Ordering::Relaxed)).await.unwrap();
                }
            }
        });
    }
    common::until("a tenth are cancelled", || cancelled.load(Ordering::Relaxed) > CANCELLED / 10).await;
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
    assert_eq!(now, connection, "the connection was made anew");
}
