//! Freeing what takes long to free, away from the threads that run tasks.

use std::thread;

/// Frees `value` on a thread of its own. A reply of a gigabyte may be twenty million values, which take a quarter of a
/// second, and no other task of an executor is to wait for that.
pub(crate) fn drop_in_background<T: Send + 'static>(value: T) {
    let thread = thread::Builder::new().name("ha-redis-drop".to_owned());
    if let Err(error) = thread.spawn(move || drop(value)) {
        // It was freed here.
        tracing::debug!(%error, "no thread to free a large reply on");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::ThreadId;

    use super::*;

    struct TellsWhere(Sender<ThreadId>);

    impl Drop for TellsWhere {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    #[test]
    fn drop_runs_elsewhere() {
        let (tell, told) = channel();
        drop_in_background(TellsWhere(tell));
        assert_ne!(told.recv().unwrap(), thread::current().id());
    }
}
