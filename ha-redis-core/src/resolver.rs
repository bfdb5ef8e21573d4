//! The system's resolver, which blocks, on threads of its own.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// So many look-ups may be under way in the process: a resolver that never answers takes no more threads than that.
const MAX_LOOKUPS: usize = 512;

static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

/// One of the look-ups that may be under way.
#[derive(Debug)]
struct LookupPermit;

impl LookupPermit {
    fn take() -> io::Result<Self> {
        let more = |under_way| (under_way < MAX_LOOKUPS).then_some(under_way + 1);
        match LOOKUPS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self),
            Err(_) => {
                let message = format!(
                    "{MAX_LOOKUPS} names are being looked up; see whether the system's resolver answers"
                );
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
    let (tell, told) = async_channel::bounded(1);
    let host = host.to_owned();
    let look_up = move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(permit);
        // Nobody listens when the caller has gone away.
        let _ = tell.try_send(found);
    };
    let started = thread::Builder::new().name("ha-redis-names".to_owned()).spawn(look_up);
    started.map_err(|error| {
        io::Error::new(error.kind(), format!("no thread to look its name up on: {error}"))
    })?;
    told.recv().await.unwrap_or_else(|_| Err(io::Error::other("looking its name up has panicked")))
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn names_are_looked_up_within_a_bound() {
        let found = block_on(resolve("localhost", 7)).unwrap();
        assert!(
            !found.is_empty()
                && found.iter().all(|address| address.ip().is_loopback() && address.port() == 7)
        );
        assert!(block_on(resolve("no such name", 7)).is_err());
        let taken: Vec<_> = (0..MAX_LOOKUPS).map(|_| LookupPermit::take().unwrap()).collect();
        assert!(block_on(resolve("localhost", 7)).unwrap_err().to_string().starts_with("512 names"));
        drop(taken);
        assert!(block_on(resolve("localhost", 7)).is_ok());
    }
}
