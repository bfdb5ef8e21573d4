//! The calls to Redis of one HTTP request: bounded together, counted by their outcome, and what their failure means to
//! whoever sent the request.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use ha_redis_tokio::redis::{RedisError, RedisResult};
use ha_redis_tokio::{Connection, Outcome, RedisErrorExt, RetrySafety};
use metrics::{counter, histogram};

const RETRY_AFTER_SECONDS: &str = "2";

/// The codes of refusals that stay until somebody changes the program, its data or its permissions.
const PERMANENT_REFUSALS: [&str; 3] = ["ERR", "NOPERM", "WRONGTYPE"];

#[derive(Clone)]
pub struct RedisCalls {
    connection: Connection,
    deadline: Instant,
}

impl RedisCalls {
    pub fn new(connection: Connection, bound: Duration) -> Self {
        Self { connection, deadline: Instant::now() + bound }
    }

    /// Makes a call that does no harm when it runs twice. The client sends it again when a reply was lost, and so may
    /// whoever sent the request.
    pub async fn repeatable<T>(
        &self,
        operation: &'static str,
        call: impl AsyncFnOnce(Connection) -> RedisResult<T>,
    ) -> Result<T, Failure> {
        let connection = self.connection.clone().with_retry_safety(RetrySafety::Anything);
        self.make(operation, connection, call).await.map_err(|error| match error.outcome() {
            // The script failed, or the reply has another type than this program expects.
            Outcome::Ran => Failure::Broken(error),
            Outcome::NotApplied => Failure::refused(error),
            _ => Failure::Unavailable(error),
        })
    }

    /// Makes a call that must not run twice. When its reply was lost, nobody knows whether it ran, and the answer says
    /// so.
    pub async fn at_most_once<T>(
        &self,
        operation: &'static str,
        call: impl AsyncFnOnce(Connection) -> RedisResult<T>,
    ) -> Result<T, Failure> {
        self.make(operation, self.connection.clone(), call).await.map_err(|error| match error.outcome() {
            Outcome::NotSent => Failure::Unavailable(error),
            Outcome::NotApplied => Failure::refused(error),
            Outcome::MaybeApplied => Failure::InDoubt(error),
            _ => Failure::Broken(error),
        })
    }

    async fn make<T>(
        &self,
        operation: &'static str,
        connection: Connection,
        call: impl AsyncFnOnce(Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let mut record = CallRecord::start(operation);
        // Earlier calls of the request may have used part of its time.
        let left = self.deadline.saturating_duration_since(record.start);
        let result = call(connection.with_timeout(left)).await;
        record.outcome = match &result {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.outcome().to_string().replace(' ', "_"),
        };
        result
    }
}

/// Counts a call when it ends, also when the request is dropped because its sender has gone.
struct CallRecord {
    operation: &'static str,
    start: Instant,
    outcome: String,
}

impl CallRecord {
    fn start(operation: &'static str) -> Self {
        // Alerts count these outcomes. Shown as 0 before they happen, their first time is seen as a change.
        for outcome in ["not_sent", "maybe_applied"] {
            counter!("redis_calls_total", "operation" => operation, "outcome" => outcome).increment(0);
        }
        Self { operation, start: Instant::now(), outcome: "cancelled".to_owned() }
    }
}

impl Drop for CallRecord {
    fn drop(&mut self) {
        let outcome = std::mem::take(&mut self.outcome);
        counter!("redis_calls_total", "operation" => self.operation, "outcome" => outcome).increment(1);
        histogram!("redis_call_seconds", "operation" => self.operation).record(self.start.elapsed());
    }
}

/// Why a request was not served.
pub enum Failure {
    /// Redis does not serve the call now. The caller may send the request again.
    Unavailable(RedisError),
    /// The call may have been applied. A program must not simply send the request again.
    InDoubt(RedisError),
    /// The program, its data or its permissions are wrong. Sending the request again does not help.
    Broken(RedisError),
}

impl Failure {
    /// Returns why the server refused a call.
    fn refused(error: RedisError) -> Self {
        match error.code() {
            Some(code) if PERMANENT_REFUSALS.contains(&code) => Self::Broken(error),
            // The server loads its data, is a replica, has no memory: that changes.
            _ => Self::Unavailable(error),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // The text is for those who run the service. A public one would log it and keep it to itself.
        match self {
            Self::Unavailable(error) => {
                let retry = [(RETRY_AFTER, RETRY_AFTER_SECONDS)];
                (StatusCode::SERVICE_UNAVAILABLE, retry, error.to_string()).into_response()
            }
            Self::InDoubt(error) => (StatusCode::GATEWAY_TIMEOUT, error.to_string()).into_response(),
            Self::Broken(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }
}
