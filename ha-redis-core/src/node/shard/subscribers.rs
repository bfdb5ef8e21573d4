//! Connections of subscribers: the pool only knows how many there are, to wait for their end.

use crate::node::shard::Pool;
use crate::sync::lock;

/// Counts one connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted<'a>(&'a Pool);

impl Pool {
    /// Counts a connection that is no caller's. `None` once the client is closed.
    pub(crate) fn count_subscriber(&self) -> Option<Counted<'_>> {
        let mut state = lock(&self.state);
        if state.is_closed() {
            return None;
        }
        state.alive += 1;
        Some(Counted(self))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).alive -= 1;
        self.0.changed.notify(usize::MAX);
    }
}
