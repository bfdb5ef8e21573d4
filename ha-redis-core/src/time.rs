//! Waiting with a bound.

use std::future::{Future, poll_fn};
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::runtime::Runtime;

/// The time at which something came to its bound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

pub(crate) async fn sleep_until(runtime: &dyn Runtime, at: Instant) {
    let mut timer = runtime.timer(at);
    poll_fn(|cx| timer.poll(cx)).await;
}

pub(crate) async fn sleep(runtime: &dyn Runtime, duration: Duration) {
    sleep_until(runtime, runtime.now() + duration).await;
}

/// Runs `work` until `at` at the latest.
pub(crate) async fn until<T>(
    runtime: &dyn Runtime,
    at: Instant,
    work: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    future::or(async { Ok(work.await) }, async {
        sleep_until(runtime, at).await;
        Err(Elapsed)
    })
    .await
}
