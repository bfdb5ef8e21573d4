//! Locks and wakers that a panic elsewhere does not break.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use event_listener::Event;

// The tests that permute threads decide at every lock who goes on.
#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};

/// Locks `mutex`. A panic elsewhere while it was held does not matter: no lock of this crate is held across
/// code that can leave its data half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes a task. A waker is a caller's code: when it panics, neither the connection that wakes it nor the callers
/// behind it may suffer.
#[inline]
pub(crate) fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        tracing::error!("the waker of a task panicked");
    }
}

/// Waits until `check` finds something, looking again whenever `event` reports a change.
pub(crate) async fn wait_for<S, T>(
    state: &Mutex<S>,
    event: &Event,
    mut check: impl FnMut(&mut S) -> Option<T>,
) -> T {
    loop {
        let listener = {
            let mut state = lock(state);
            if let Some(found) = check(&mut state) {
                return found;
            }
            event.listen()
        };
        listener.await;
    }
}

/// A value that is replaced as a whole, and that readers look at without a lock while it stays the same.
#[derive(Debug)]
pub(crate) struct Snapshot<T> {
    version: AtomicU64,
    value: Mutex<Arc<T>>,
}

impl<T> Snapshot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { version: AtomicU64::new(0), value: Mutex::new(Arc::new(value)) }
    }

    pub(crate) fn load(&self) -> Arc<T> {
        Arc::clone(&lock(&self.value))
    }

    pub(crate) fn store(&self, value: T) {
        let mut current = lock(&self.value);
        *current = Arc::new(value);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// What one reader has seen of a [`Snapshot`] last.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    version: u64,
    value: Arc<T>,
}

impl<T> Seen<T> {
    pub(crate) fn of(snapshot: &Snapshot<T>) -> Self {
        let value = lock(&snapshot.value);
        Self { version: snapshot.version.load(Ordering::Acquire), value: Arc::clone(&value) }
    }

    /// The value as it is now.
    #[inline]
    pub(crate) fn refresh(&mut self, snapshot: &Snapshot<T>) -> &Arc<T> {
        if self.version != snapshot.version.load(Ordering::Acquire) {
            *self = Self::of(snapshot);
        }
        &self.value
    }

    /// The value that was seen last.
    pub(crate) fn value(&self) -> &Arc<T> {
        &self.value
    }
}

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self { version: self.version, value: Arc::clone(&self.value) }
    }
}
