//! What the harness needs from an async runtime.

use std::future::{Future, poll_fn};
use std::sync::OnceLock;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    Tokio,
    AsyncStd,
    Smol,
}

/// The runtime of this process.
static RUNNING: OnceLock<Runtime> = OnceLock::new();

fn running() -> Runtime {
    *RUNNING.get().unwrap_or(&Runtime::Tokio)
}

/// Runs `future` on a runtime with this many worker threads, or, with none, on this thread alone. async-std and
/// smol read the number of their threads from the environment at their first use.
pub(crate) fn start<F: Future>(runtime: Runtime, workers: usize, future: F) -> Result<F::Output, Failure> {
    let runtime = *RUNNING.get_or_init(|| runtime);
    Ok(match runtime {
        Runtime::Tokio => {
            let mut builder = match workers {
                0 => Builder::new_current_thread(),
                _ => Builder::new_multi_thread(),
            };
            builder.worker_threads(workers.max(1)).enable_all().build()?.block_on(future)
        }
        Runtime::AsyncStd => async_std::task::block_on(future),
        Runtime::Smol => smol::block_on(future),
    })
}

/// Spawns a task, and returns a future that waits for its end.
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = Result<T, Failure>> {
    let task = match running() {
        Runtime::Tokio => Task::Tokio(tokio::spawn(future)),
        Runtime::AsyncStd => Task::AsyncStd(async_std::task::spawn(future)),
        Runtime::Smol => Task::Smol(smol::spawn(future)),
    };
    async {
        Ok(match task {
            Task::Tokio(task) => task.await?,
            Task::AsyncStd(task) => task.await,
            Task::Smol(task) => task.await,
        })
    }
}

enum Task<T> {
    Tokio(tokio::task::JoinHandle<T>),
    AsyncStd(async_std::task::JoinHandle<T>),
    Smol(smol::Task<T>),
}

pub(crate) async fn sleep(length: Duration) {
    match running() {
        Runtime::Tokio => tokio::time::sleep(length).await,
        Runtime::AsyncStd | Runtime::Smol => _ = smol::Timer::after(length).await,
    }
}

pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| match std::mem::replace(&mut yielded, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// Returns the output of `future`, or an error that says that `what` has not ended in time.
pub(crate) async fn within<T>(
    bound: Duration,
    what: &str,
    future: impl Future<Output = T>,
) -> Result<T, Failure> {
    let in_time = async { Ok(future.await) };
    let late = async {
        sleep(bound).await;
        Err(format!("{what} did not end within {bound:?}").into())
    };
    smol::future::or(in_time, late).await
}
