//! Reads the files in a separate thread, since opening a file on a file system that is gone blocks.

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

use async_channel::Receiver;

use crate::error::{Error, Kind};
use crate::runtime::Runtime;
use crate::sync::{Mutex, lock};
use crate::time::{Elapsed, until};

/// The work of the thread.
pub(super) type Work<T> = Box<dyn FnOnce() -> T + Send>;

/// Reads files for any number of callers, once for all who wait at the same time.
pub(super) struct FileReader<T>(Mutex<Option<Arc<Attempt<T>>>>);

/// One reading of the files.
pub(super) struct Attempt<T> {
    pub(super) started_at: Instant,
    /// Closed at the end; nothing is ever sent.
    ended: Receiver<Infallible>,
    /// Empty after the end if the work has panicked.
    result: OnceLock<T>,
    /// Somebody has reported that it takes too long.
    reported: AtomicBool,
}

impl<T: Clone + Send + Sync + 'static> FileReader<T> {
    /// Returns the running attempt, or else starts a new one with this work. A hanging file system takes a single
    /// thread.
    pub(super) fn start(&self, work: Work<T>, runtime: &dyn Runtime) -> Result<Arc<Attempt<T>>, Error> {
        let mut latest = lock(&self.0);
        if let Some(attempt) = latest.as_ref().filter(|attempt| !attempt.ended.is_closed()) {
            return Ok(Arc::clone(attempt));
        }
        let (end, ended) = async_channel::bounded(1);
        let result = OnceLock::new();
        let attempt =
            Arc::new(Attempt { started_at: runtime.now(), ended, result, reported: AtomicBool::new(false) });
        let under_way = Arc::clone(&attempt);
        let read = move || {
            let _ = under_way.result.set(work());
            drop(end);
        };
        if runtime.is_simulated() {
            read();
            return Ok(attempt);
        }
        let started = thread::Builder::new().name("ha-redis-files".to_owned()).spawn(read);
        started.map_err(|error| {
            Error::caused(Kind::Connect, "cannot start a thread to read certificates and keys", error)
        })?;
        *latest = Some(Arc::clone(&attempt));
        Ok(attempt)
    }
}

impl<T> FileReader<T> {
    /// Returns true if an attempt has not ended.
    pub(super) fn is_running(&self) -> bool {
        lock(&self.0).as_ref().is_some_and(|attempt| !attempt.ended.is_closed())
    }
}

impl<T: Clone> Attempt<T> {
    /// Waits for the end. If `by` passes first, the attempt continues, and the next caller waits for the same one.
    ///
    /// # Errors
    /// If the work has panicked.
    pub(super) async fn end(&self, runtime: &dyn Runtime, by: Instant) -> Result<Result<T, Error>, Elapsed> {
        until(runtime, by, self.ended.recv())
            .await?
            .map_or_else(|_ended| Ok(self.result.get().cloned().ok_or_else(panicked)), |sent| match sent {})
    }

    /// Returns true for the first caller.
    pub(super) fn is_first_report(&self) -> bool {
        !self.reported.swap(true, Ordering::Relaxed)
    }
}

impl<T> Default for FileReader<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> fmt::Debug for FileReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReader").finish_non_exhaustive()
    }
}

fn panicked() -> Error {
    Error::new(Kind::Config, "reading the certificates and keys panicked")
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_lite::future::{block_on, poll_once};

    use super::*;
    use crate::manual_runtime::ManualRuntime;

    type Outcome = Result<(), Error>;

    fn failure(message: &str) -> Outcome {
        Err(Error::new(Kind::Config, message))
    }

    #[test]
    fn hanging_file_takes_one_thread() {
        let (reader, runtime) = (FileReader::<Outcome>::default(), ManualRuntime::new());
        let (release, released) = mpsc::channel::<()>();
        let mut work: Work<Outcome> = Box::new(move || released.recv().map_err(|_| panicked()));
        for _ in 0..3 {
            let attempt = reader.start(work, &runtime).unwrap();
            let mut read = pin!(attempt.end(&runtime, runtime.now() + Duration::from_secs(2)));
            assert!(block_on(poll_once(&mut read)).is_none());
            runtime.pass(Duration::from_secs(2));
            let ended = block_on(poll_once(&mut read));
            assert_eq!(ended.unwrap().unwrap_err(), Elapsed);
            work = Box::new(|| panic!("the first attempt is still running"));
        }
        let attempt = reader.start(work, &runtime).unwrap();
        let mut read = pin!(attempt.end(&runtime, runtime.now() + Duration::from_secs(2)));
        assert!(block_on(poll_once(&mut read)).is_none());
        release.send(()).unwrap();
        assert!(block_on(read).unwrap().unwrap().is_ok());
    }

    #[test]
    fn failed_attempt_is_repeated() {
        let (reader, runtime) = (FileReader::<Outcome>::default(), ManualRuntime::new());
        let late = Instant::now() + Duration::from_secs(30);
        let read = |work: Work<Outcome>| {
            let attempt = reader.start(work, &runtime).unwrap();
            block_on(attempt.end(&runtime, late)).unwrap().and_then(|read| read)
        };
        assert!(read(Box::new(|| failure("a missing file"))).unwrap_err().to_string().contains("missing"));
        assert!(read(Box::new(|| Ok(()))).is_ok());
        assert!(read(Box::new(|| panic!("a fault of a library"))).unwrap_err().is_config());
    }
}
