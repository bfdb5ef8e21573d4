//! A client on one Tokio runtime whose calls are awaited on another.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{BOUND, settings};
use futures_lite::future::block_on;
use ha_redis_testkit::Server;
use ha_redis_tokio::redis::{AsyncCommands, RedisResult};
use ha_redis_tokio::{DedicatedConnection, Outcome, RedisClient, RedisErrorExt, TokioRuntime};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// The runtime of the client, which is driven all the time.
fn home() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A runtime that is driven while somebody waits on it, and never else.
fn foreign() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn client_at(home: &Runtime, server: &Server) -> RedisClient {
    let settings = settings(server.port()).socket_timeout(Duration::from_millis(200));
    let runtime = TokioRuntime::from(home.handle().clone());
    let client = RedisClient::on(settings.build().unwrap(), runtime);
    home.block_on(client.initialize()).unwrap();
    client
}

type Popped = RedisResult<Option<(String, String)>>;

/// A blocking call to a hung server, which its deadline is to end.
async fn assert_deadline_fires(popping: impl Future<Output = Popped>) {
    let popped = timeout(BOUND, popping).await.expect("no deadline fired");
    let error = popped.unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_timeout()), "{error}");
}

async fn assert_dedicated_keeps_time(mut own: DedicatedConnection, server: &Server) {
    own.ping::<()>().await.unwrap();
    server.hang().unwrap();
    assert_deadline_fires(own.blpop("queue", 0.2)).await;
    server.resume().unwrap();
}

#[test]
fn deadlines_fire_while_the_runtime_of_the_borrower_is_idle() {
    let (server, home, foreign) = (Server::start().unwrap(), home(), foreign());
    let client = client_at(&home, &server);
    let own = foreign.block_on(client.dedicated()).unwrap();
    home.block_on(assert_dedicated_keeps_time(own, &server));
}

#[test]
fn deadlines_fire_while_the_runtime_of_the_borrower_is_blocked() {
    let (server, home) = (Server::start().unwrap(), home());
    let client = client_at(&home, &server);
    let (lend, lent) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let borrower = thread::spawn({
        let client = client.clone();
        move || {
            foreign().block_on(async move {
                lend.send(client.dedicated().await.unwrap()).unwrap();
                // A task that blocks its thread.
                released.recv().unwrap();
            });
        }
    });
    let own = lent.recv().unwrap();
    home.block_on(assert_dedicated_keeps_time(own, &server));
    release.send(()).unwrap();
    borrower.join().unwrap();
}

#[test]
fn deadlines_fire_after_the_runtime_of_the_borrower_has_ended() {
    let (server, home, foreign) = (Server::start().unwrap(), home(), foreign());
    let client = client_at(&home, &server);
    let own = foreign.block_on(client.dedicated()).unwrap();
    drop(foreign);
    home.block_on(assert_dedicated_keeps_time(own, &server));
}

#[test]
fn connection_made_for_a_call_on_a_runtime_that_has_ended_serves_others() {
    let (server, home, foreign) = (Server::start().unwrap(), home(), foreign());
    let client = client_at(&home, &server);
    let mut redis = client.connection();
    let nothing: Popped = foreign.block_on(redis.blpop("queue", 0.01));
    assert_eq!(nothing.unwrap(), None);
    drop(foreign);
    let connections = || home.block_on(client.health_check()).dedicated_connections;
    assert_eq!(connections(), 1);
    let nothing: Popped = home.block_on(redis.blpop("queue", 0.01));
    assert_eq!((nothing.unwrap(), connections()), (None, 1));
    server.hang().unwrap();
    home.block_on(assert_deadline_fires(redis.blpop("queue", 0.2)));
    server.resume().unwrap();
}

#[test]
fn deadlines_fire_on_a_runtime_that_is_not_the_clients() {
    let (server, home, foreign) = (Server::start().unwrap(), home(), foreign());
    let client = client_at(&home, &server);
    let mut redis = client.connection();
    let nothing: Popped = foreign.block_on(redis.blpop("queue", 0.01));
    assert_eq!(nothing.unwrap(), None);
    server.hang().unwrap();
    foreign.block_on(assert_deadline_fires(redis.blpop("queue", 0.2)));
    server.resume().unwrap();
}

/// The runtime of a client that nobody drives any more, although it lives.
fn client_of_an_idle_home(server: &Server, home: &Runtime) -> RedisClient {
    let settings = settings(server.port()).socket_timeout(Duration::from_millis(300));
    let settings = settings.failover_wait(Duration::from_millis(300));
    let runtime = TokioRuntime::from(home.handle().clone());
    let client = RedisClient::on(settings.build().unwrap(), runtime);
    home.block_on(client.initialize()).unwrap();
    client
}

#[test]
fn bounds_hold_while_the_runtime_of_the_client_is_not_driven() {
    let server = Server::start().unwrap();
    let (home, elsewhere) = (foreign(), foreign());
    let client = client_of_an_idle_home(&server, &home);
    for _ in 0..2 {
        let mut redis = client.connection();
        let error = elsewhere.block_on(async { timeout(BOUND, redis.get::<_, Option<i64>>("key")).await });
        let error = error.expect("no bound held").unwrap_err();
        assert!(error.client_error().is_some_and(|error| error.is_timeout()), "{error}");
        assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
        // No runtime at all drives this one.
        let mut redis = client.connection().with_timeout(Duration::from_millis(100));
        let error = block_on(redis.get::<_, Option<i64>>("key")).unwrap_err();
        assert!(error.client_error().is_some_and(|error| error.is_timeout()), "{error}");
    }
    // Driven again, it serves.
    let got = home.block_on(client.connection().get::<_, Option<i64>>("key"));
    assert_eq!(got.unwrap(), None);
}

#[test]
fn dedicated_connection_ends_while_the_runtime_of_the_client_is_not_driven() {
    let server = Server::start().unwrap();
    let (home, elsewhere) = (foreign(), foreign());
    let client = client_of_an_idle_home(&server, &home);
    let mut own = home.block_on(client.dedicated()).unwrap();
    for outcome in [Outcome::NotSent, Outcome::NotSent] {
        let got = elsewhere.block_on(async { timeout(BOUND, own.get::<_, Option<i64>>("key")).await });
        let error = got.expect("no bound held").unwrap_err();
        assert_eq!(error.outcome(), outcome, "{error}");
    }
    drop(own);
    // Its place is free again once the runtime is driven.
    let mut own = home.block_on(client.dedicated()).unwrap();
    assert_eq!(home.block_on(own.get::<_, Option<i64>>("key")).unwrap(), None);
}

#[test]
fn timers_fire_where_a_runtime_is_only_entered() {
    let server = Server::start().unwrap();
    let home = foreign();
    let client = client_of_an_idle_home(&server, &home);
    server.hang().unwrap();
    let _entered = home.enter();
    // Nobody drives it: all this waits for its bound.
    let error = block_on(client.connection().blpop::<_, Option<(String, String)>>("queue", 0.1)).unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
    server.resume().unwrap();
}

#[test]
fn deadline_holds_while_the_runtime_of_the_client_is_blocked() {
    let (server, home) = (Server::start().unwrap(), home());
    let client = client_at(&home, &server);
    let (blocked, is_blocked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let blocking = home.spawn(async move {
        blocked.send(()).unwrap();
        // A task that blocks the only worker.
        released.recv().unwrap();
    });
    is_blocked.recv().unwrap();
    let mut redis = client.connection().with_timeout(Duration::from_millis(100));
    let error = foreign().block_on(redis.incr::<_, _, i64>("n", 1)).unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_timeout()), "{error}");
    release.send(()).unwrap();
    home.block_on(blocking).unwrap();
    let n: Option<i64> = home.block_on(client.connection().get("n")).unwrap();
    assert_eq!(n.is_none(), error.outcome() == Outcome::NotSent, "{error}");
}
