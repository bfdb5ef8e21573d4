//! Tests that every call has a known outcome, whatever is lost on the network.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::kit::{Kit, blocked_clients, calls, config, settings};
use crate::{Answer, Cut, Direction, Proxy, ScriptedServer, Server};
use futures_lite::future::poll_once;
use ha_redis_core::{Connection, Outcome, RedisConfig, RedisErrorExt, RetryPolicy, RetrySafety};
use redis::AsyncCommands;

tests! {
    everywhere: [
        lost_increment_not_retried,
        idempotent_calls_survive_lost_replies,
        caller_allows_increment_retry,
        caller_forbids_write_retry,
        transaction_not_retried_after_write,
        pipeline_retried_if_all_commands_allow,
        black_holed_connection_replaced,
        half_open_connection_detected,
        call_deadline_enforced,
        queued_calls_time_out_as_not_sent,
        small_in_flight_limit_serves_all_calls,
        close_reports_aborted_calls,
        retry_function_spans_two_clients,
        lost_reply_outcome_survives_later_attempts,
        close_counts_calls_that_timed_out,
        queued_call_deadline_enforced,
        refused_transaction_retried_as_a_whole,
        close_excludes_health_checks,
    ],
    plain: [
        exhausted_budget_stops_retries,
    ],
}

const CALLERS: usize = 32;
const CUTS: u64 = 10;

/// Cuts the connection ten times while replies are under way. The server receives the requests, but the replies are
/// lost.
async fn lose_replies(kit: &Kit, proxy: &Proxy) {
    for cut in 1..=CUTS {
        let passed = proxy.bytes(Direction::ToClient);
        kit.until("calls make progress", || proxy.bytes(Direction::ToClient) > passed + 10_000).await;
        proxy.cut_after(Direction::ToClient, 0, Cut::Reset);
        kit.until("the connection is cut", || proxy.cuts() as u64 == cut).await;
    }
}

#[derive(Default)]
struct Counted {
    acknowledged: i64,
    maybe: i64,
}

async fn count(mut redis: Connection, key: String, stop: Arc<AtomicBool>) -> Counted {
    let mut counted = Counted::default();
    while !stop.load(Ordering::Relaxed) {
        match redis.incr::<_, _, i64>(&key, 1).await {
            Ok(_) => counted.acknowledged += 1,
            Err(error) => {
                assert_eq!(error.outcome(), Outcome::MaybeApplied, "{error}");
                counted.maybe += 1;
            }
        }
    }
    counted
}

async fn lost_increment_not_retried(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let callers = (0..CALLERS)
        .map(|caller| kit.spawn(count(client.connection(), format!("counter:{caller}"), Arc::clone(&stop))));
    let callers = callers.collect::<Vec<_>>();
    lose_replies(&kit, &proxy).await;
    stop.store(true, Ordering::Relaxed);
    let mut in_doubt = 0;
    for (caller, task) in callers.into_iter().enumerate() {
        let counted = task.end().await;
        let value = server.query(&["GET", &format!("counter:{caller}")]).unwrap();
        let value: i64 = value.text().unwrap().parse().unwrap();
        let possible = counted.acknowledged..=counted.acknowledged + counted.maybe;
        assert!(possible.contains(&value), "caller {caller}: {value} is not in {possible:?}");
        in_doubt += counted.maybe;
    }
    assert!(in_doubt >= CUTS as i64, "the cuts fell where replies were under way");
}

async fn idempotent_calls_survive_lost_replies(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let (mut redis, stop) = (client.connection(), Arc::clone(&stop));
        callers.push(kit.spawn(async move {
            let key = format!("register:{caller}");
            let mut value = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                value += 1;
                redis.set::<_, _, ()>(&key, value).await.unwrap();
                assert_eq!(redis.get::<_, u64>(&key).await.unwrap(), value);
            }
        }));
    }
    lose_replies(&kit, &proxy).await;
    stop.store(true, Ordering::Relaxed);
    kit.all(callers).await;
}

/// Returns a connection whose next reply is lost.
async fn connection_losing_one_reply(kit: &Kit, safety: RetrySafety) -> (Server, Proxy, Connection) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let redis = client.connection().with_retry_safety(safety);
    proxy.cut_after(Direction::ToClient, 0, Cut::Reset);
    (server, proxy, redis)
}

async fn caller_allows_increment_retry(kit: Kit) {
    let (server, _proxy, mut redis) = connection_losing_one_reply(&kit, RetrySafety::Anything).await;
    assert_eq!(
        redis.incr::<_, _, i64>("n", 1).await.unwrap(),
        2,
        "the increment ran twice, as the caller allowed"
    );
    assert_eq!(calls(&server, "incrby"), 2);
}

async fn caller_forbids_write_retry(kit: Kit) {
    let (server, _proxy, mut redis) = connection_losing_one_reply(&kit, RetrySafety::ReadOnly).await;
    let error = redis.set::<_, _, ()>("key", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    assert_eq!(calls(&server, "set"), 1);
    redis.get::<_, i64>("key").await.unwrap();
}

async fn transaction_not_retried_after_write(kit: Kit) {
    let (server, _proxy, mut redis) = connection_losing_one_reply(&kit, RetrySafety::Anything).await;
    let error = redis::pipe().atomic().set("key", 1).exec_async(&mut redis).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    assert_eq!(calls(&server, "exec"), 1);
}

async fn pipeline_retried_if_all_commands_allow(kit: Kit) {
    let (_server, proxy, mut redis) = connection_losing_one_reply(&kit, RetrySafety::Repeatable).await;
    let mut harmless = redis::pipe();
    harmless.set("a", 1).ignore().set("b", 2).ignore().get("a");
    assert_eq!(harmless.query_async::<(i64,)>(&mut redis).await.unwrap(), (1,));
    proxy.cut_after(Direction::ToClient, 0, Cut::Reset);
    let mut counting = redis::pipe();
    counting.set("a", 1).ignore().incr("n", 1);
    let error = counting.query_async::<(i64,)>(&mut redis).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
}

fn config_with_short_timeouts(proxy: &Proxy) -> RedisConfig {
    let settings = settings(&proxy.url());
    let short = Duration::from_millis(300);
    let wait = Duration::from_secs(2);
    settings.socket_timeout(short).socket_connect_timeout(short).failover_wait(wait).build().unwrap()
}

async fn black_holed_connection_replaced(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config_with_short_timeouts(&proxy)).await.unwrap();
    let mut redis = client.connection();
    proxy.black_hole();
    let error = redis.incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert!(error.is_timeout() && error.outcome() == Outcome::MaybeApplied, "{error}");
    let error = redis.incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "the client has no connection: {error}");
    proxy.heal().unwrap();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
}

async fn half_open_connection_detected(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config_with_short_timeouts(&proxy)).await.unwrap();
    let mut redis = client.connection();
    proxy.lose(Direction::ToClient);
    let error = redis.incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    assert_eq!(calls(&server, "incrby"), 1, "the server received the first attempt");
    proxy.heal().unwrap();
    assert_eq!(redis.incr::<_, _, i64>("n", 1).await.unwrap(), 2);
    assert!(proxy.accepted() >= 2, "the client reconnected");
}

async fn call_deadline_enforced(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let mut redis = client.connection().with_timeout(Duration::from_millis(200));
    proxy.delay(Direction::ToClient, Duration::from_secs(60));
    // With the defaults every attempt would take five seconds.
    let started = std::time::Instant::now();
    let error = redis.get::<_, Option<i64>>("key").await.unwrap_err();
    assert!(error.is_timeout() && started.elapsed() < Duration::from_secs(4), "{error}");
    proxy.heal().unwrap();
    assert_eq!(
        client.connection().ping::<String>().await.unwrap(),
        "PONG",
        "replies on the connection are in order"
    );
    assert_eq!(proxy.accepted(), 1, "one caller's deadline does not end the connection");
}

async fn queued_calls_time_out_as_not_sent(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).max_in_flight(10).failover_wait(Duration::from_millis(300));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    server.hang().unwrap();
    let (end, ended) = async_channel::bounded(30);
    for _ in 0..30 {
        let (mut redis, end) = (client.connection(), end.clone());
        kit.spawn(async move { end.send(redis.incr::<_, _, i64>("n", 1).await).await });
    }
    for _ in 0..20 {
        let error = ended.recv().await.unwrap().unwrap_err();
        assert!(error.client_error().is_some_and(|error| error.is_overloaded()), "{error}");
        assert_eq!(error.outcome(), Outcome::NotSent);
    }
    server.resume().unwrap();
    for _ in 0..10 {
        ended.recv().await.unwrap().unwrap();
    }
    assert_eq!(calls(&server, "incrby"), 10);
}

async fn small_in_flight_limit_serves_all_calls(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).max_in_flight(3);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    let mut callers = Vec::new();
    for caller in 0..500 {
        let mut redis = client.connection();
        callers.push(kit.spawn(async move {
            let echo: u32 = redis::cmd("ECHO").arg(caller).query_async(&mut redis).await.unwrap();
            assert_eq!(echo, caller);
        }));
    }
    kit.all(callers).await;
}

async fn close_reports_aborted_calls(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config_with_short_timeouts(&proxy)).await.unwrap();
    let popping = kit.spawn({
        let mut redis = client.connection();
        async move { redis.blpop::<_, (String, String)>("queue", 0.0).await }
    });
    kit.until("the server has received BLPOP", || blocked_clients(&server) == 1).await;
    let closed = client.close().await;
    assert_eq!((closed.not_sent, closed.maybe_applied), (0, 1), "{closed}");
    let error = popping.end().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    assert!(error.client_error().is_some_and(|error| error.is_closed()), "{error}");
}

async fn exhausted_budget_stops_retries(kit: Kit) {
    let attempts = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&attempts);
    let server = ScriptedServer::start(move |_, _: &[String]| {
        counter.fetch_add(1, Ordering::Relaxed);
        Answer::Close(Vec::new())
    });
    let server = server.unwrap();
    let settings = settings(&server.url()).retry_base_delay(Duration::ZERO).max_in_flight(5).retry_budget(0);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    for _ in 0..10 {
        client.connection().get::<_, ()>("key").await.unwrap_err();
    }
    assert_eq!(attempts.load(Ordering::Relaxed), 15, "10 calls, 5 retries");
}

async fn retry_function_spans_two_clients(kit: Kit) {
    let (from, to) = (kit.server(), kit.server());
    from.query(&["SET", "key", "value"]).unwrap();
    let from = kit.client_of(&from).await;
    let target = kit.connect(config(&to.url())).await.unwrap();
    let mut attempts = 0;
    ha_redis_core::retry(&*kit.runtime, RetryPolicy::new(), || {
        attempts += 1;
        let (from, target, fails) = (from.clone(), target.clone(), attempts == 1);
        async move {
            let value: Vec<u8> = from.connection().get("key").await?;
            if fails {
                let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
                return Err(redis::RedisError::from(lost));
            }
            target.connection().set::<_, _, ()>("key", value).await
        }
    })
    .await
    .unwrap();
    assert_eq!((attempts, to.query(&["GET", "key"]).unwrap().text()), (2, Some("value")));
}

async fn lost_reply_outcome_survives_later_attempts(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config_with_short_timeouts(&proxy)).await.unwrap();
    proxy.lose(Direction::ToClient);
    // The first attempt reaches the server. Later ones do not get a connection.
    let error = client.connection().set::<_, _, ()>("key", 1).await.unwrap_err();
    assert_eq!(server.query(&["GET", "key"]).unwrap().text(), Some("1"));
    assert_eq!(error.outcome(), Outcome::MaybeApplied, "{error}");
}

async fn close_counts_calls_that_timed_out(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config_with_short_timeouts(&proxy)).await.unwrap();
    proxy.lose(Direction::ToClient);
    let mut callers = Vec::new();
    for _ in 0..5 {
        let mut redis = client.connection();
        callers.push(kit.spawn(async move { redis.incr::<_, _, i64>("n", 1).await }));
    }
    kit.until("the server has received all calls", || calls(&server, "incrby") == 5).await;
    let closed = client.close().await;
    assert_eq!((closed.not_sent, closed.maybe_applied), (0, 5), "{closed}");
    for ended in kit.all(callers).await {
        assert_eq!(ended.unwrap_err().outcome(), Outcome::MaybeApplied);
    }
}

async fn queued_call_deadline_enforced(kit: Kit) {
    let server = kit.server();
    let settings = settings(&server.url()).max_in_flight(1);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    server.hang().unwrap();
    let mut redis = client.connection();
    let mut first = pin!(redis.incr::<_, _, i64>("n", 1));
    assert!(poll_once(&mut first).await.is_none(), "it fills the only slot");
    let mut with_deadline = client.connection().with_timeout(Duration::from_millis(200));
    let error = with_deadline.incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
    server.resume().unwrap();
    assert_eq!(first.await.unwrap(), 1);
    let mut without_deadline = with_deadline.with_timeout(Duration::MAX);
    assert_eq!(without_deadline.incr::<_, _, i64>("n", 1).await.unwrap(), 2);
}

// The client reconnects after each refusal, after a random delay of up to a tenth of a second.
async fn refused_transaction_retried_as_a_whole(kit: Kit) {
    let server = kit.server();
    let other = kit.server();
    let settings = settings(&server.url()).failover_wait(Duration::from_secs(2));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    server.query(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).unwrap();
    let mut attempts = 0;
    let refused = client.retry(|mut redis| {
        attempts += 1;
        async move { redis::pipe().atomic().set("key", 1).exec_async(&mut redis).await }
    });
    assert_eq!(refused.await.unwrap_err().outcome(), Outcome::NotApplied);
    assert_eq!(attempts, 4);
}

async fn close_excludes_health_checks(kit: Kit) {
    let server = kit.server();
    let proxy = Proxy::before(&server).unwrap();
    let settings =
        config_with_short_timeouts(&proxy).to_builder().health_check_interval(Duration::from_millis(20));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    proxy.lose(Direction::ToClient);
    kit.until("the reply to a check is lost", || proxy.lost(Direction::ToClient) > 0).await;
    let closed = client.close().await;
    assert!(closed.is_clean(), "{closed}");
}
