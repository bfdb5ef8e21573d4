//! Locks and wakers that survive a panic elsewhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{Mutex, MutexGuard};
use std::task::Waker;

use event_listener::Event;

// The tests that permute threads schedule them at every lock.
#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};

/// Locks `mutex`. It ignores poisoning: no lock of this crate is held across code that can leave its data half
/// changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes a task. A waker is a caller's code: its panic must affect neither the connection that wakes it nor the
/// callers after it.
#[inline]
pub(crate) fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        tracing::error!("the waker of a task panicked");
    }
}

/// Waits until `check` returns a value, and checks again whenever `event` reports a change.
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

/// A value that is replaced as a whole, and that readers use without a lock while it is unchanged.
#[derive(Debug)]
pub(crate) struct Snapshot<T> {
    version: AtomicU64,
    value: Mutex<Arc<T>>,
}

impl<T> Snapshot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self::of(Arc::new(value))
    }

    pub(crate) fn of(value: Arc<T>) -> Self {
        Self { version: AtomicU64::new(0), value: Mutex::new(value) }
    }

    pub(crate) fn load(&self) -> Arc<T> {
        Arc::clone(&lock(&self.value))
    }

    pub(crate) fn store(&self, value: impl Into<Arc<T>>) {
        self.replace(|_| value.into());
    }

    /// Replaces the value by one that is made of it. Concurrent updates follow one another.
    pub(crate) fn update(&self, change: impl FnOnce(&T) -> T) {
        self.replace(|current| Arc::new(change(current)));
    }

    fn replace(&self, change: impl FnOnce(&T) -> Arc<T>) {
        let mut current = lock(&self.value);
        *current = change(&current);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// The last value that a reader has seen of a [`Snapshot`].
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

    /// Returns true if the value has been replaced.
    #[inline]
    pub(crate) fn is_outdated(&self, snapshot: &Snapshot<T>) -> bool {
        self.version != snapshot.version.load(Ordering::Acquire)
    }

    /// Returns the current value.
    #[inline]
    pub(crate) fn refresh(&mut self, snapshot: &Snapshot<T>) -> &Arc<T> {
        if self.is_outdated(snapshot) {
            *self = Self::of(snapshot);
        }
        &self.value
    }

    /// Returns the value that was seen last.
    pub(crate) fn value(&self) -> &Arc<T> {
        &self.value
    }
}

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self { version: self.version, value: Arc::clone(&self.value) }
    }
}
