//! Tests a client on one Tokio runtime whose calls are awaited on another.

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

/// Returns the runtime of the client, which is always driven.
fn client_runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Returns a runtime that is driven only during `block_on`.
fn foreign_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn client_at(client_runtime: &Runtime, server: &Server) -> RedisClient {
    let settings = settings(server.port()).socket_timeout(Duration::from_millis(200));
    let runtime = TokioRuntime::from(client_runtime.handle().clone());
    let client = RedisClient::on(settings.build().unwrap(), runtime);
    client_runtime.block_on(client.initialize()).unwrap();
    client
}

type Popped = RedisResult<Option<(String, String)>>;

/// Asserts that the deadline ends a blocking call to a hung server.
async fn assert_deadline_fires(popping: impl Future<Output = Popped>) {
    let popped = timeout(BOUND, popping).await.expect("the deadline did not fire");
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
fn deadline_fires_when_borrower_runtime_idle() {
    let (server, client_runtime, foreign_runtime) =
        (Server::start().unwrap(), client_runtime(), foreign_runtime());
    let client = client_at(&client_runtime, &server);
    let own = foreign_runtime.block_on(client.dedicated()).unwrap();
    client_runtime.block_on(assert_dedicated_keeps_time(own, &server));
}

#[test]
fn deadline_fires_when_borrower_runtime_blocked() {
    let (server, client_runtime) = (Server::start().unwrap(), client_runtime());
    let client = client_at(&client_runtime, &server);
    let (lend, lent) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let borrower = thread::spawn({
        let client = client.clone();
        move || {
            foreign_runtime().block_on(async move {
                lend.send(client.dedicated().await.unwrap()).unwrap();
                // This task blocks its thread.
                released.recv().unwrap();
            });
        }
    });
    let own = lent.recv().unwrap();
    client_runtime.block_on(assert_dedicated_keeps_time(own, &server));
    release.send(()).unwrap();
    borrower.join().unwrap();
}

#[test]
fn deadline_fires_after_borrower_runtime_ended() {
    let (server, client_runtime, foreign_runtime) =
        (Server::start().unwrap(), client_runtime(), foreign_runtime());
    let client = client_at(&client_runtime, &server);
    let own = foreign_runtime.block_on(client.dedicated()).unwrap();
    drop(foreign_runtime);
    client_runtime.block_on(assert_dedicated_keeps_time(own, &server));
}

#[test]
fn connection_outlives_borrower_runtime() {
    let (server, client_runtime, foreign_runtime) =
        (Server::start().unwrap(), client_runtime(), foreign_runtime());
    let client = client_at(&client_runtime, &server);
    let mut redis = client.connection();
    let nothing: Popped = foreign_runtime.block_on(redis.blpop("queue", 0.01));
    assert_eq!(nothing.unwrap(), None);
    drop(foreign_runtime);
    let connections = || client_runtime.block_on(client.health_check()).dedicated_connections;
    assert_eq!(connections(), 1);
    let nothing: Popped = client_runtime.block_on(redis.blpop("queue", 0.01));
    assert_eq!((nothing.unwrap(), connections()), (None, 1));
    server.hang().unwrap();
    client_runtime.block_on(assert_deadline_fires(redis.blpop("queue", 0.2)));
    server.resume().unwrap();
}

#[test]
fn deadline_fires_on_foreign_runtime() {
    let (server, client_runtime, foreign_runtime) =
        (Server::start().unwrap(), client_runtime(), foreign_runtime());
    let client = client_at(&client_runtime, &server);
    let mut redis = client.connection();
    let nothing: Popped = foreign_runtime.block_on(redis.blpop("queue", 0.01));
    assert_eq!(nothing.unwrap(), None);
    server.hang().unwrap();
    foreign_runtime.block_on(assert_deadline_fires(redis.blpop("queue", 0.2)));
    server.resume().unwrap();
}

/// Returns a client whose runtime exists but is no longer driven.
fn client_of_undriven_runtime(server: &Server, client_runtime: &Runtime) -> RedisClient {
    let settings = settings(server.port()).socket_timeout(Duration::from_millis(300));
    let settings = settings.failover_wait(Duration::from_millis(300));
    let runtime = TokioRuntime::from(client_runtime.handle().clone());
    let client = RedisClient::on(settings.build().unwrap(), runtime);
    client_runtime.block_on(client.initialize()).unwrap();
    client
}

#[test]
fn timeouts_hold_when_client_runtime_undriven() {
    let server = Server::start().unwrap();
    let (client_runtime, elsewhere) = (foreign_runtime(), foreign_runtime());
    let client = client_of_undriven_runtime(&server, &client_runtime);
    for _ in 0..2 {
        let mut redis = client.connection();
        let error = elsewhere.block_on(async { timeout(BOUND, redis.get::<_, Option<i64>>("key")).await });
        let error = error.expect("the timeout did not fire").unwrap_err();
        assert!(error.client_error().is_some_and(|error| error.is_timeout()), "{error}");
        assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
        // No Tokio runtime drives this future.
        let mut redis = client.connection().with_timeout(Duration::from_millis(100));
        let error = block_on(redis.get::<_, Option<i64>>("key")).unwrap_err();
        assert!(error.client_error().is_some_and(|error| error.is_timeout()), "{error}");
    }
    // The client works again when its runtime is driven.
    let got = client_runtime.block_on(client.connection().get::<_, Option<i64>>("key"));
    assert_eq!(got.unwrap(), None);
}

#[test]
fn dedicated_connection_released_when_client_runtime_undriven() {
    let server = Server::start().unwrap();
    let (client_runtime, elsewhere) = (foreign_runtime(), foreign_runtime());
    let client = client_of_undriven_runtime(&server, &client_runtime);
    let mut own = client_runtime.block_on(client.dedicated()).unwrap();
    for outcome in [Outcome::NotSent, Outcome::NotSent] {
        let got = elsewhere.block_on(async { timeout(BOUND, own.get::<_, Option<i64>>("key")).await });
        let error = got.expect("the timeout did not fire").unwrap_err();
        assert_eq!(error.outcome(), outcome, "{error}");
    }
    drop(own);
    // The connection is released when the runtime is driven again.
    let mut own = client_runtime.block_on(client.dedicated()).unwrap();
    assert_eq!(client_runtime.block_on(own.get::<_, Option<i64>>("key")).unwrap(), None);
}

#[test]
fn timer_fires_in_entered_runtime() {
    let server = Server::start().unwrap();
    let client_runtime = foreign_runtime();
    let client = client_of_undriven_runtime(&server, &client_runtime);
    server.hang().unwrap();
    let _entered = client_runtime.enter();
    // Nobody drives the runtime, so all of these wait until their timeouts.
    let error = block_on(client.connection().blpop::<_, Option<(String, String)>>("queue", 0.1)).unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
    server.resume().unwrap();
}

#[test]
fn deadline_fires_when_client_runtime_blocked() {
    let (server, client_runtime) = (Server::start().unwrap(), client_runtime());
    let client = client_at(&client_runtime, &server);
    let (blocked, is_blocked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let blocking = client_runtime.spawn(async move {
        blocked.send(()).unwrap();
        // This task blocks the only worker.
        released.recv().unwrap();
    });
    is_blocked.recv().unwrap();
    let mut redis = client.connection().with_timeout(Duration::from_millis(100));
    let error = foreign_runtime().block_on(redis.incr::<_, _, i64>("n", 1)).unwrap_err();
    assert!(error.client_error().is_some_and(|error| error.is_timeout()), "{error}");
    release.send(()).unwrap();
    client_runtime.block_on(blocking).unwrap();
    let n: Option<i64> = client_runtime.block_on(client.connection().get("n")).unwrap();
    assert_eq!(n.is_none(), error.outcome() == Outcome::NotSent, "{error}");
}
