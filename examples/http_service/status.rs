//! Whether the process is alive, and whether Redis serves it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use ha_redis_tokio::redis::AsyncCommands;
use tokio::sync::Mutex;

use crate::App;

/// How long Redis has to answer a probe. It is longer than the pause of a planned failover.
const READY_BOUND: Duration = Duration::from_millis(500);

/// How long an answer is kept, so that probes cost the same however many there are.
const READY_AGE: Duration = Duration::from_millis(200);

/// The latest answer to a probe, and when it came. The lock makes concurrent probes wait for one answer.
pub type Readiness = Mutex<Option<(Instant, Result<(), String>)>>;

/// The process is alive. It says nothing of Redis: restarting the service would not mend that.
pub async fn health() -> &'static str {
    "alive"
}

/// Writes to Redis, as requests do: a server that refuses writes, since it is full or misses its replicas, answers a
/// `PING` all the same.
///
/// While there is no master, the answer is 503, although requests that come now wait, and succeed when the failover
/// is over in time. So let probes fail for as long as a failover takes before an instance gets no more requests (in
/// Kubernetes, `failureThreshold: 3` with `periodSeconds: 5`); otherwise all instances are taken away at once.
pub async fn ready(State(app): State<Arc<App>>) -> (StatusCode, String) {
    let mut latest = app.readiness.lock().await;
    if latest.as_ref().is_none_or(|(at, _)| at.elapsed() > READY_AGE) {
        let mut redis = app.redis.clone().with_timeout(READY_BOUND);
        let answer = redis.set_ex::<_, _, ()>("ready", "", 60).await;
        *latest = Some((Instant::now(), answer.map_err(|error| error.to_string())));
    }
    match &*latest {
        Some((_, Err(why))) => (StatusCode::SERVICE_UNAVAILABLE, why.clone()),
        _ => (StatusCode::OK, "ready".to_owned()),
    }
}
