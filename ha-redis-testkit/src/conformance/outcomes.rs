//! Every call has a known outcome, whatever is lost on the way.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::kit::{Kit, blocked_clients, calls, config, settings};
use crate::{Answer, Cut, Direction, Proxy, ScriptedServer, Server};
use futures_lite::future::poll_once;
use ha_redis_core::{Connection, Outcome, RedisConfig, RedisErrorExt, RetryPolicy, RetrySafety};
use redis::AsyncCommands;

tests![
    no_increment_whose_reply_was_lost_runs_twice_unseen,
    reads_and_plain_writes_do_not_see_that_replies_were_lost,
    a_caller_may_widen_what_runs_twice,
    a_caller_may_narrow_it,
    a_transaction_is_not_repeated_once_it_was_written_whatever_its_caller_allows,
    a_pipeline_is_repeated_if_all_of_it_may_be,
    a_link_that_swallows_everything_costs_a_call_its_time_and_is_replaced,
    a_half_open_connection_is_found_out,
    a_call_keeps_to_its_own_deadline,
    calls_beyond_the_bound_wait_and_are_told_that_they_were_not_sent,
    many_calls_through_a_narrow_bound_all_get_their_turn,
    closing_says_what_it_cut_off,
    a_spent_budget_stops_retries,
    operations_over_two_clients_are_retried_by_the_free_function,
    a_lost_reply_leaves_a_call_in_doubt_whatever_becomes_of_later_attempts,
    closing_counts_calls_that_ran_out_of_time_meanwhile,
    a_call_that_waits_for_its_turn_keeps_its_deadline,
    a_refused_transaction_is_retried_as_a_whole,
    closing_does_not_count_the_clients_own_checks,
];

const CALLERS: usize = 32;
const CUTS: u64 = 10;

/// Cuts the connection ten times while replies are under way: the requests have arrived, the replies are lost.
async fn lose_replies(kit: &Kit, proxy: &Proxy) {
    for cut in 1..=CUTS {
        let passed = proxy.bytes(Direction::ToClient);
        kit.until("calls go on", || proxy.bytes(Direction::ToClient) > passed + 10_000).await;
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

async fn no_increment_whose_reply_was_lost_runs_twice_unseen(kit: Kit) {
    let server = Server::start().unwrap();
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

async fn reads_and_plain_writes_do_not_see_that_replies_were_lost(kit: Kit) {
    let server = Server::start().unwrap();
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

/// A connection whose first reply from now on is lost.
async fn losing_one_reply(kit: &Kit, safety: RetrySafety) -> (Server, Proxy, Connection) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let redis = client.connection().with_retry_safety(safety);
    proxy.cut_after(Direction::ToClient, 0, Cut::Reset);
    (server, proxy, redis)
}

async fn a_caller_may_widen_what_runs_twice(kit: Kit) {
    let (server, _proxy, mut redis) = losing_one_reply(&kit, RetrySafety::Anything).await;
    assert_eq!(redis.incr::<_, _, i64>("n", 1).await.unwrap(), 2, "it ran twice, as its caller allowed");
    assert_eq!(calls(&server, "incrby"), 2);
}

async fn a_caller_may_narrow_it(kit: Kit) {
    let (server, _proxy, mut redis) = losing_one_reply(&kit, RetrySafety::ReadOnly).await;
    let error = redis.set::<_, _, ()>("key", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    assert_eq!(calls(&server, "set"), 1);
    redis.get::<_, i64>("key").await.unwrap();
}

async fn a_transaction_is_not_repeated_once_it_was_written_whatever_its_caller_allows(kit: Kit) {
    let (server, _proxy, mut redis) = losing_one_reply(&kit, RetrySafety::Anything).await;
    let error = redis::pipe().atomic().set("key", 1).exec_async(&mut redis).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    assert_eq!(calls(&server, "exec"), 1);
}

async fn a_pipeline_is_repeated_if_all_of_it_may_be(kit: Kit) {
    let (_server, proxy, mut redis) = losing_one_reply(&kit, RetrySafety::Repeatable).await;
    let mut harmless = redis::pipe();
    harmless.set("a", 1).ignore().set("b", 2).ignore().get("a");
    assert_eq!(harmless.query_async::<(i64,)>(&mut redis).await.unwrap(), (1,));
    proxy.cut_after(Direction::ToClient, 0, Cut::Reset);
    let mut counting = redis::pipe();
    counting.set("a", 1).ignore().incr("n", 1);
    let error = counting.query_async::<(i64,)>(&mut redis).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
}

fn impatient(proxy: &Proxy) -> RedisConfig {
    let settings = settings(proxy.port());
    let short = Duration::from_millis(300);
    let wait = Duration::from_secs(2);
    settings.socket_timeout(short).socket_connect_timeout(short).failover_wait(wait).build().unwrap()
}

async fn a_link_that_swallows_everything_costs_a_call_its_time_and_is_replaced(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(impatient(&proxy)).await.unwrap();
    let mut redis = client.connection();
    proxy.black_hole();
    let error = redis.incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert!(error.is_timeout() && error.outcome() == Outcome::MaybeApplied, "{error}");
    let error = redis.incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "no connection any more: {error}");
    proxy.heal().unwrap();
    redis.set::<_, _, ()>("key", 1).await.unwrap();
}

async fn a_half_open_connection_is_found_out(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(impatient(&proxy)).await.unwrap();
    let mut redis = client.connection();
    proxy.lose(Direction::ToClient);
    let error = redis.incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    assert_eq!(calls(&server, "incrby"), 1, "it had arrived");
    proxy.heal().unwrap();
    assert_eq!(redis.incr::<_, _, i64>("n", 1).await.unwrap(), 2);
    assert!(proxy.accepted() >= 2, "on a connection made anew");
}

async fn a_call_keeps_to_its_own_deadline(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(config(&proxy.url())).await.unwrap();
    let mut redis = client.connection().with_timeout(Duration::from_millis(200));
    proxy.delay(Direction::ToClient, Duration::from_secs(60));
    // With the defaults this would take five seconds a try.
    let started = std::time::Instant::now();
    let error = redis.get::<_, Option<i64>>("key").await.unwrap_err();
    assert!(error.is_timeout() && started.elapsed() < Duration::from_secs(4), "{error}");
    proxy.heal().unwrap();
    assert_eq!(client.connection().ping::<String>().await.unwrap(), "PONG", "the connection is in step");
    assert_eq!(proxy.accepted(), 1, "and was not given up for one caller's hurry");
}

async fn calls_beyond_the_bound_wait_and_are_told_that_they_were_not_sent(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).max_in_flight(10).failover_wait(Duration::from_millis(300));
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

async fn many_calls_through_a_narrow_bound_all_get_their_turn(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).max_in_flight(3);
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

async fn closing_says_what_it_cut_off(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(impatient(&proxy)).await.unwrap();
    let popping = kit.spawn({
        let mut redis = client.connection();
        async move { redis.blpop::<_, (String, String)>("queue", 0.0).await }
    });
    kit.until("BLPOP has arrived", || blocked_clients(&server) == 1).await;
    let closed = client.close().await;
    assert_eq!((closed.not_sent, closed.maybe_applied), (0, 1), "{closed}");
    let error = popping.end().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::MaybeApplied);
    assert!(error.client_error().is_some_and(|error| error.is_closed()), "{error}");
}

async fn a_spent_budget_stops_retries(kit: Kit) {
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    let server = ScriptedServer::start(move |_, _: &[String]| {
        counter.fetch_add(1, Ordering::Relaxed);
        Answer::Close(Vec::new())
    });
    let server = server.unwrap();
    let settings = settings(server.port()).retry_base_delay(Duration::ZERO).max_in_flight(5).retry_budget(0);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    for _ in 0..10 {
        client.connection().get::<_, ()>("key").await.unwrap_err();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 15, "10 calls, 5 retries");
}

async fn operations_over_two_clients_are_retried_by_the_free_function(kit: Kit) {
    let (from, to) = (Server::start().unwrap(), Server::start().unwrap());
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

async fn a_lost_reply_leaves_a_call_in_doubt_whatever_becomes_of_later_attempts(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(impatient(&proxy)).await.unwrap();
    proxy.lose(Direction::ToClient);
    // The first attempt arrives; the next ones do not even get a connection.
    let error = client.connection().set::<_, _, ()>("key", 1).await.unwrap_err();
    assert_eq!(server.query(&["GET", "key"]).unwrap().text(), Some("1"));
    assert_eq!(error.outcome(), Outcome::MaybeApplied, "{error}");
}

async fn closing_counts_calls_that_ran_out_of_time_meanwhile(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let client = kit.connect(impatient(&proxy)).await.unwrap();
    proxy.lose(Direction::ToClient);
    let mut callers = Vec::new();
    for _ in 0..5 {
        let mut redis = client.connection();
        callers.push(kit.spawn(async move { redis.incr::<_, _, i64>("n", 1).await }));
    }
    kit.until("all have arrived", || calls(&server, "incrby") == 5).await;
    let closed = client.close().await;
    assert_eq!((closed.not_sent, closed.maybe_applied), (0, 5), "{closed}");
    for ended in kit.all(callers).await {
        assert_eq!(ended.unwrap_err().outcome(), Outcome::MaybeApplied);
    }
}

async fn a_call_that_waits_for_its_turn_keeps_its_deadline(kit: Kit) {
    let server = Server::start().unwrap();
    let settings = settings(server.port()).max_in_flight(1);
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    server.hang().unwrap();
    let mut redis = client.connection();
    let mut first = pin!(redis.incr::<_, _, i64>("n", 1));
    assert!(poll_once(&mut first).await.is_none(), "it takes the only place");
    let mut hurried = client.connection().with_timeout(Duration::from_millis(200));
    let error = hurried.incr::<_, _, i64>("n", 1).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
    server.resume().unwrap();
    assert_eq!(first.await.unwrap(), 1);
    let mut unhurried = hurried.with_timeout(Duration::MAX);
    assert_eq!(unhurried.incr::<_, _, i64>("n", 1).await.unwrap(), 2);
}

// The connection is made again after each refusal, at a random moment within a tenth of a second.
async fn a_refused_transaction_is_retried_as_a_whole(kit: Kit) {
    let server = Server::start().unwrap();
    let other = Server::start().unwrap();
    let settings = settings(server.port()).failover_wait(Duration::from_secs(2));
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

async fn closing_does_not_count_the_clients_own_checks(kit: Kit) {
    let server = Server::start().unwrap();
    let proxy = Proxy::before(&server).unwrap();
    let settings = impatient(&proxy).to_builder().health_check_interval(Duration::from_millis(20));
    let client = kit.connect(settings.build().unwrap()).await.unwrap();
    proxy.lose(Direction::ToClient);
    kit.until("the reply to a check is lost", || proxy.lost(Direction::ToClient) > 0).await;
    let closed = client.close().await;
    assert!(closed.is_clean(), "{closed}");
}
