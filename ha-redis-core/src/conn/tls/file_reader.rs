//! Reads the files in a separate thread, since opening a file on a file system that is gone blocks.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

use async_channel::Receiver;

use crate::error::{Error, Kind};
use crate::runtime::Runtime;
use crate::sync::{Mutex, lock};
use crate::time::{Elapsed, until};

/// The work of the thread.
type Work = Box<dyn FnOnce() -> Result<(), Error> + Send>;

/// Reads files for any number of callers, once for all who wait at the same time.
#[derive(Debug, Default)]
pub(crate) struct FileReader(Mutex<Option<Arc<Attempt>>>);

#[derive(Debug)]
struct Attempt {
    /// Closed at the end; nothing is ever sent.
    ended: Receiver<Infallible>,
    result: OnceLock<Result<(), Error>>,
}

impl FileReader {
    /// Waits for the end of the running attempt, or of a new one. If `by` passes first, the attempt continues, and
    /// the next caller waits for the same one: a hanging file system takes a single thread.
    pub(super) async fn read(
        &self,
        work: Work,
        runtime: &dyn Runtime,
        by: Instant,
    ) -> Result<Result<(), Error>, Elapsed> {
        if runtime.is_simulated() {
            return Ok(work());
        }
        let attempt = match self.attempt(work) {
            Ok(attempt) => attempt,
            Err(error) => return Ok(Err(error)),
        };
        until(runtime, by, attempt.ended.recv()).await?.map_or_else(
            |_ended| Ok(attempt.result.get().cloned().unwrap_or_else(|| Err(unknown()))),
            |sent| match sent {},
        )
    }

    fn attempt(&self, work: Work) -> Result<Arc<Attempt>, Error> {
        let mut latest = lock(&self.0);
        if let Some(attempt) = latest.as_ref().filter(|attempt| !attempt.ended.is_closed()) {
            return Ok(Arc::clone(attempt));
        }
        let (end, ended) = async_channel::bounded(1);
        let attempt = Arc::new(Attempt { ended, result: OnceLock::new() });
        let under_way = Arc::clone(&attempt);
        let read = move || {
            let _ = under_way.result.set(work());
            drop(end);
        };
        let started = thread::Builder::new().name("ha-redis-files".to_owned()).spawn(read);
        started.map_err(|error| {
            Error::caused(Kind::Connect, "cannot start a thread to read certificates and keys", error)
        })?;
        *latest = Some(Arc::clone(&attempt));
        Ok(attempt)
    }
}

fn unknown() -> Error {
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

    fn failure(message: &str) -> Result<(), Error> {
        Err(Error::new(Kind::Config, message))
    }

    #[test]
    fn hanging_file_takes_one_thread() {
        let (reader, runtime) = (FileReader::default(), ManualRuntime::new());
        let (release, released) = mpsc::channel::<()>();
        let mut work: Work = Box::new(move || released.recv().map_err(|_| unknown()));
        for _ in 0..3 {
            let by = runtime.now() + Duration::from_secs(2);
            let mut read = pin!(reader.read(work, &runtime, by));
            assert!(block_on(poll_once(&mut read)).is_none());
            runtime.pass(Duration::from_secs(2));
            let ended = block_on(poll_once(&mut read));
            assert_eq!(ended.unwrap().unwrap_err(), Elapsed);
            work = Box::new(|| panic!("the first attempt is still running"));
        }
        let by = runtime.now() + Duration::from_secs(2);
        let mut read = pin!(reader.read(work, &runtime, by));
        assert!(block_on(poll_once(&mut read)).is_none());
        release.send(()).unwrap();
        assert!(block_on(read).unwrap().is_ok());
    }

    #[test]
    fn failed_attempt_is_repeated() {
        let (reader, runtime) = (FileReader::default(), ManualRuntime::new());
        let late = Instant::now() + Duration::from_secs(30);
        let read = |work: Work| block_on(reader.read(work, &runtime, late)).unwrap();
        assert!(read(Box::new(|| failure("a missing file"))).unwrap_err().to_string().contains("missing"));
        assert!(read(Box::new(|| Ok(()))).is_ok());
        assert!(read(Box::new(|| panic!("a fault of a library"))).unwrap_err().is_config());
    }
}
