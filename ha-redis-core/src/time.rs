//! Sleeping, and waiting with a timeout.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::runtime::{Runtime, Timer};

/// The error of a timeout.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

pub(crate) async fn sleep_until(runtime: &dyn Runtime, at: Instant) {
    let mut timer = runtime.timer(at);
    poll_fn(|cx| timer.poll(cx)).await;
}

pub(crate) async fn sleep(runtime: &dyn Runtime, duration: Duration) {
    sleep_until(runtime, runtime.now() + duration).await;
}

/// Runs `work` until `at` at the latest. A result that is ready by then counts, even if the task was held up
/// meanwhile.
pub(crate) async fn until<T>(
    runtime: &dyn Runtime,
    at: Instant,
    work: impl Future<Output = T>,
) -> Result<T, Elapsed> {
    let mut work = pin!(work);
    let mut timer = None;
    poll_fn(|cx| {
        // The timer comes first: Tokio's timers do not fire for a task whose budget the work has spent.
        let is_due = timer.as_mut().is_some_and(|timer: &mut Box<dyn Timer>| timer.poll(cx).is_ready());
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        // Work that is ready immediately needs no timer, nor does a deadline that has passed: Tokio's timers
        // are up to two milliseconds late, even for the current moment.
        let is_due = is_due
            || timer.is_none()
                && (at <= runtime.now() || timer.insert(runtime.timer(at)).poll(cx).is_ready());
        if is_due { Poll::Ready(Err(Elapsed)) } else { Poll::Pending }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::manual_runtime::ManualRuntime;

    #[test]
    fn timeout_fires_unless_work_is_ready() {
        let (runtime, second) = (ManualRuntime::new(), Duration::from_secs(1));
        let mut cx = Context::from_waker(Waker::noop());
        let at = runtime.now() + second;
        let mut polls = 0;
        let mut work = pin!(until(
            &runtime,
            at,
            poll_fn(|_| {
                polls += 1;
                if polls > 2 { Poll::Ready(()) } else { Poll::Pending }
            })
        ));
        let mut endless = pin!(until(&runtime, at, std::future::pending::<()>()));
        for _ in 0..2 {
            assert!(work.as_mut().poll(&mut cx).is_pending());
            assert!(endless.as_mut().poll(&mut cx).is_pending());
        }
        runtime.pass(second);
        assert_eq!(work.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
        assert_eq!(endless.as_mut().poll(&mut cx), Poll::Ready(Err(Elapsed)));
    }

    #[test]
    fn passed_deadline_needs_no_timer() {
        let runtime = ManualRuntime::with_late_timers();
        let mut cx = Context::from_waker(Waker::noop());
        let elapsed = pin!(until(&runtime, runtime.now(), std::future::pending::<()>()));
        assert_eq!(elapsed.poll(&mut cx), Poll::Ready(Err(Elapsed)));
        let done = pin!(until(&runtime, runtime.now(), std::future::ready(())));
        assert_eq!(done.poll(&mut cx), Poll::Ready(Ok(())), "a result that is ready counts");
    }
}
