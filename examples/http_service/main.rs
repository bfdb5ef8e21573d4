//! An HTTP service that keeps its sessions in Redis, and goes on answering while the master changes.
//!
//! | request | answer |
//! |---|---|
//! | `POST /sessions` with the session's data | 201 and the id of a new session |
//! | `GET`, `PUT`, `DELETE /session` with `Authorization: Bearer <id>` | the data; 204 when they are replaced or deleted; 401 without a session |
//! | `POST /visits` | the number of visits; 504 if Redis lost the reply, so that this visit may be counted or not |
//! | `GET /health` | 200 while the process is alive |
//! | `GET /ready` | 200 if Redis serves requests now, else 503 and why |
//! | `GET /metrics` | what happens between the service and Redis, for Prometheus |
//!
//! The first five may also answer 429 (too many requests) and 503 (no answer of Redis in time; send it again), both
//! with `Retry-After`, and 500 (Redis refuses it until somebody changes the program, its data or its permissions). During
//! a failover they are slow. A setting of the client, `call_timeout`, bounds how slow.
//!
//! `REDIS_URL` sets the servers, or `REDIS_CONFIG_FILE` a file with the configuration `sessions`, such as
//! [`redis.toml`](../redis.toml). `LISTEN` is the address of the service, `REQUESTS_PER_MINUTE` the limit of a client.
//! SIGTERM and Ctrl-C end it after the requests that run.

mod metrics;
mod rate_limit;
mod redis_calls;
mod sessions;
mod status;

use std::env;
use std::error::Error;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ha_redis_tokio::{Connection, RedisClient};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::timeout;

use redis_calls::RedisCalls;

/// How long a request may take if the configuration has no `call_timeout`. It is longer than a failover, so that
/// requests wait for the new master.
const REQUEST_BOUND: Duration = Duration::from_secs(8);

/// What a request may take beside its calls to Redis, such as to send its body.
const SLACK: Duration = Duration::from_secs(2);

const MAX_BODY_BYTES: usize = 16 * 1024;

const DEFAULT_REQUESTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(600).expect("it is not zero");

struct App {
    client: RedisClient,
    /// Each request clones this handle.
    redis: Connection,
    request_bound: Duration,
    requests_per_minute: NonZeroU32,
    readiness: status::Readiness,
    prometheus: metrics::PrometheusHandle,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listen = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let requests_per_minute = requests_per_minute()?;
    let config = ha_redis_config::load("sessions")?;
    let request_bound = config.call_timeout().unwrap_or(REQUEST_BOUND);

    let prometheus = metrics::install()?;
    let client = RedisClient::new(config);
    tokio::spawn(metrics::record(client.events()));
    tokio::spawn(metrics::keep_small(prometheus.clone()));
    tokio::spawn(connect(client.clone()));

    let app = Arc::new(App {
        redis: client.connection(),
        client: client.clone(),
        request_bound,
        requests_per_minute,
        readiness: status::Readiness::default(),
        prometheus,
    });
    let listener = TcpListener::bind(&listen).await?;
    println!("listening on {}", listener.local_addr()?);
    serve(listener, app).await?;

    // No request is left that could miss the client.
    println!("closed: {}", client.close().await);
    Ok(())
}

fn requests_per_minute() -> Result<NonZeroU32, String> {
    let Some(limit) = env::var_os("REQUESTS_PER_MINUTE") else { return Ok(DEFAULT_REQUESTS_PER_MINUTE) };
    limit.to_str().and_then(|limit| limit.parse().ok()).ok_or_else(|| {
        format!("cannot read REQUESTS_PER_MINUTE: expected a whole number from 1 to {}", u32::MAX)
    })
}

/// Connects to Redis. The service does not wait for that: when it starts while Redis is down, it answers with 503 until
/// Redis is there.
async fn connect(client: RedisClient) {
    match client.initialize().await {
        Ok(()) => println!("connected to {}", client.config()),
        Err(error) => eprintln!("not connected yet: {error}"),
    }
}

async fn serve(listener: TcpListener, app: Arc<App>) -> std::io::Result<()> {
    let patience = app.request_bound + SLACK;
    let limited = Router::new()
        .route("/sessions", post(sessions::create))
        .route("/session", get(sessions::read).put(sessions::replace).delete(sessions::delete))
        .route("/visits", post(sessions::count_visit))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .route_layer(from_fn_with_state(Arc::clone(&app), admit));
    let router = limited
        .route("/health", get(status::health))
        .route("/ready", get(status::ready))
        .route("/metrics", get(metrics::scrape))
        .with_state(app)
        .into_make_service_with_connect_info::<SocketAddr>();

    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let stopped = async move { stopped.notified().await };
    let mut server = pin!(axum::serve(listener, router).with_graceful_shutdown(stopped).into_future());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = &mut server => return result,
        _ = terminate.recv() => stop.notify_one(),
        // Ctrl-C.
        _ = interrupt.recv() => stop.notify_one(),
    }
    // It takes no new requests, and ends those that run. A peer that does not end its request cannot keep the service
    // from ending.
    timeout(patience, server).await.unwrap_or(Ok(()))
}

/// Lets a request pass that is within its client's limit. From here on its time runs.
async fn admit(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let redis = RedisCalls::new(app.redis.clone(), app.request_bound);
    // Behind a proxy, the client's address is what that proxy has put into a header.
    let wait = match rate_limit::count(&redis, peer.ip(), app.requests_per_minute).await {
        Ok(wait) => wait,
        // The service refuses a request that it cannot count. The request would need the same Redis, and a server that
        // comes back is not flooded. A service that can answer without Redis lets the request pass instead.
        Err(failure) => return failure.into_response(),
    };
    if let Some(wait) = wait {
        let seconds = wait.as_secs() + 1;
        return (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds.to_string())]).into_response();
    }
    request.extensions_mut().insert(redis);
    match timeout(app.request_bound + SLACK, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}
