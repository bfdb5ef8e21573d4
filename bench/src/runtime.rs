//! All that the harness asks of an async runtime.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Builder;
pub(crate) use tokio::task::yield_now;

use crate::Failure;

/// Runs `future` on a runtime with so many worker threads, or, with none, on this thread alone.
pub(crate) fn start<F: Future>(workers: usize, future: F) -> Result<F::Output, Failure> {
    let mut builder = match workers {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    Ok(builder.worker_threads(workers.max(1)).enable_all().build()?.block_on(future))
}

/// Starts a task, and returns what waits for its end.
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = Result<T, Failure>> {
    let task = tokio::spawn(future);
    async { task.await.map_err(Failure::from) }
}

pub(crate) async fn sleep(length: Duration) {
    tokio::time::sleep(length).await;
}

/// The output of `future`, or an error that says that `what` has not ended in time.
pub(crate) async fn within<T>(
    bound: Duration,
    what: &str,
    future: impl Future<Output = T>,
) -> Result<T, Failure> {
    let late = |_| format!("{what} did not end within {bound:?}").into();
    tokio::time::timeout(bound, future).await.map_err(late)
}
