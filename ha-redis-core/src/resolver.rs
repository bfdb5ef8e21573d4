//! Runs the system's blocking resolver in separate threads.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The maximum number of running lookups in the process. It bounds the threads that a resolver without answers takes.
const MAX_LOOKUPS: usize = 512;

static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

/// The permit of a running lookup.
#[derive(Debug)]
struct LookupPermit;

impl LookupPermit {
    fn take() -> io::Result<Self> {
        let more = |under_way| (under_way < MAX_LOOKUPS).then_some(under_way + 1);
        match LOOKUPS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self),
            Err(_) => {
                let message = format!("{MAX_LOOKUPS} name lookups are running; check the system's resolver");
                Err(io::Error::other(message))
            }
        }
    }
}

impl Drop for LookupPermit {
    fn drop(&mut self) {
        LOOKUPS.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let permit = LookupPermit::take()?;
    let (sender, receiver) = async_channel::bounded(1);
    let host = host.to_owned();
    let lookup = move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(permit);
        // It fails if the caller has gone away.
        let _ = sender.try_send(found);
    };
    let started = thread::Builder::new().name("ha-redis-names".to_owned()).spawn(lookup);
    started.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot start a thread for the name lookup: {error}"))
    })?;
    receiver.recv().await.unwrap_or_else(|_| Err(io::Error::other("the name lookup panicked")))
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn lookups_are_bounded() {
        let found = block_on(resolve("localhost", 7)).unwrap();
        assert!(
            !found.is_empty()
                && found.iter().all(|address| address.ip().is_loopback() && address.port() == 7)
        );
        assert!(block_on(resolve("no such name", 7)).is_err());
        let taken: Vec<_> = (0..MAX_LOOKUPS).map(|_| LookupPermit::take().unwrap()).collect();
        assert!(block_on(resolve("localhost", 7)).unwrap_err().to_string().starts_with("512 name lookups"));
        drop(taken);
        assert!(block_on(resolve("localhost", 7)).is_ok());
    }
}
