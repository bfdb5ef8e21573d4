//! Connects to an address until a connection is ready for use, even if a name has several addresses: RFC 8305, "happy
//! eyeballs", extended to the end of the handshake. A peer that accepts a connection may not be Redis: it may be a
//! tunnel without a server behind it, or a server that hangs.

use std::collections::{HashSet, VecDeque};
use std::fmt::{self, Write};
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::address::Address;
use crate::error::{Error, Kind};
use crate::runtime::{Endpoint, Runtime, Transport};
use crate::sync::{Mutex, lock};
use crate::time::{Elapsed, until};

/// After this time without a connection the next address is tried too: the delay that RFC 8305 recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How many addresses of a name are tried, possibly all at once; resolvers rotate them.
const MAX_ADDRESSES: usize = 16;

/// How many failed addresses are remembered.
const MAX_FAILED: usize = 64;

/// A boxed future, one of several.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Connects to whichever endpoint of an address is ready first.
pub(crate) struct Dial<'a> {
    runtime: &'a dyn Runtime,
    address: &'a Address,
    /// The bound on the whole attempt.
    bound: Duration,
    /// The endpoints that were tried so far, with the result of each.
    tried: Vec<(Endpoint<'a>, Progress)>,
}

/// The progress of an attempt.
#[derive(Debug)]
enum Progress {
    Unanswered,
    /// Connected, without a reply yet.
    Connected,
    Failed(Error),
    Ready,
}

/// The next result of an attempt.
enum Step<T> {
    Connected(Box<dyn Transport>),
    Ready(T),
}

/// The running attempts with their numbers.
type UnderWay<'a, T> = Vec<(usize, Work<'a, Step<T>>)>;

impl<'a> Dial<'a> {
    pub(crate) fn new(runtime: &'a dyn Runtime, address: &'a Address, bound: Duration) -> Self {
        Self { runtime, address, bound, tried: Vec::new() }
    }

    /// Connects, and runs `handshake` on each connection. The caller enforces the bound, and then
    /// [`Dial::timeout_cause`] returns what the time was spent on.
    pub(crate) async fn open<T: Send + 'a>(
        &mut self,
        failed: &FailedAddresses,
        handshake: impl Fn(Endpoint<'a>, Box<dyn Transport>) -> Work<'a, T>,
    ) -> Result<T, Error> {
        let endpoints = self.endpoints(failed).await.map_err(refused)?;
        // Every address gets its share of the bound, and the last one time to reply.
        let share = self.bound / (endpoints.len() as u32 + 1);
        let mut untried = endpoints.into_iter();
        let mut under_way = UnderWay::<T>::new();
        let mut next = self.runtime.now();
        loop {
            match until(self.runtime, next, next_end(&mut under_way)).await {
                Ok((number, Ok(Step::Connected(socket)))) => {
                    self.tried[number].1 = Progress::Connected;
                    let handshaking = handshake(self.tried[number].0, socket);
                    under_way.push((number, Box::pin(async move { handshaking.await.map(Step::Ready) })));
                    next = next.max(self.runtime.now() + share);
                }
                Ok((number, Ok(Step::Ready(ready)))) => {
                    self.tried[number].1 = Progress::Ready;
                    if self.tried.len() > 1 {
                        let tried = self.summary();
                        tracing::debug!(address = %self.address, tried, "it took more than one address to connect");
                    }
                    return Ok(ready);
                }
                Ok((number, Err(error))) => {
                    self.tried[number].1 = Progress::Failed(error);
                    next = self.runtime.now();
                }
                Err(Elapsed) => match untried.next() {
                    Some(endpoint) => {
                        let socket = self.runtime.connect(endpoint);
                        let connecting = async move { socket.await.map(Step::Connected).map_err(refused) };
                        under_way.push((self.tried.len(), Box::pin(connecting)));
                        self.tried.push((endpoint, Progress::Unanswered));
                        next = self.runtime.now() + ATTEMPT_DELAY.min(share);
                    }
                    None if under_way.is_empty() => return Err(self.failure()),
                    None => next = self.runtime.now() + self.bound,
                },
            }
        }
    }

    /// Returns the cause of a timeout when the caller's bound has passed.
    pub(crate) fn timeout_cause(&self) -> String {
        let bound = self.bound;
        match &self.tried[..] {
            [] => format!("the name was not resolved within {bound:?}"),
            [_] if !self.is_named() => format!("no answer within {bound:?}"),
            _ => format!("no answer within {bound:?}: {}", self.summary()),
        }
    }

    /// Returns true if a connection exists, so that the server on it has not replied.
    pub(crate) fn has_connected(&self) -> bool {
        self.tried.iter().any(|(_, progress)| matches!(progress, Progress::Connected))
    }

    /// Records which of a name's addresses failed, so that they are tried last from now on.
    pub(crate) fn record_failures(&self, failed: &FailedAddresses) {
        if self.tried.len() > 1 {
            for (endpoint, progress) in &self.tried {
                if let Endpoint::Tcp(address) = endpoint {
                    failed.record(*address, matches!(progress, Progress::Ready));
                }
            }
        }
    }

    async fn endpoints(&self, failed: &FailedAddresses) -> io::Result<Vec<Endpoint<'a>>> {
        let (host, port) = match self.address {
            Address::Tcp { host, port } => (host, *port),
            Address::Unix(path) => return Ok(vec![Endpoint::Unix(path)]),
        };
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![Endpoint::Tcp((ip, port).into())]);
        }
        let mut addresses = interleaved(&self.runtime.resolve(host, port).await?);
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses"));
        }
        failed.put_last(&mut addresses);
        Ok(addresses.into_iter().take(MAX_ADDRESSES).map(Endpoint::Tcp).collect())
    }

    /// Returns the error if all attempts failed: all messages, and the most informative kind.
    fn failure(&self) -> Error {
        if let [(endpoint, Progress::Failed(error))] = &self.tried[..] {
            return if self.is_named() { error.clone().during(endpoint) } else { error.clone() };
        }
        let errors = self.tried.iter().filter_map(|(_, progress)| match progress {
            Progress::Failed(error) => Some(error),
            _ => None,
        });
        let weight = |error: &&Error| match error.kind() {
            _ if error.is_permanent() => 2,
            Kind::Connect => 0,
            _ => 1,
        };
        let kind = errors.max_by_key(weight).map_or(Kind::Connect, Error::kind);
        Error::new(kind, self.summary())
    }

    /// Returns true if errors need the endpoint, since the address is a name.
    fn is_named(&self) -> bool {
        matches!(self.address, Address::Tcp { host, .. } if host.parse::<IpAddr>().is_err())
    }

    /// Returns what was tried, and the result of each.
    fn summary(&self) -> String {
        let mut summary = String::new();
        for (endpoint, progress) in &self.tried {
            let separator = if summary.is_empty() { "" } else { "; " };
            // Writing to a string does not fail.
            let _ = write!(summary, "{separator}{endpoint}: {progress}");
        }
        summary
    }
}

/// Waits until a running attempt ends or makes its next step; forever if there is none.
async fn next_end<T>(under_way: &mut UnderWay<'_, T>) -> (usize, Result<Step<T>, Error>) {
    poll_fn(|cx| {
        for index in 0..under_way.len() {
            let (number, work) = &mut under_way[index];
            if let Poll::Ready(ended) = work.as_mut().poll(cx) {
                let number = *number;
                drop(under_way.swap_remove(index));
                return Poll::Ready((number, ended));
            }
        }
        Poll::Pending
    })
    .await
}

fn refused(error: io::Error) -> Error {
    Error::new(Kind::Connect, error.to_string())
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered => f.write_str("no answer"),
            Self::Connected => f.write_str("connected, no answer"),
            Self::Failed(error) => f.write_str(error.message()),
            Self::Ready => f.write_str("ready"),
        }
    }
}

/// Returns the addresses, alternating between the families, starting with the family that the resolver prefers; each
/// once.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_preferred = |address: &SocketAddr| address.is_ipv4() == addresses[0].is_ipv4();
    let (preferred, other): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| is_preferred(address));
    let rounds = 0..preferred.len().max(other.len());
    let alternating = rounds.flat_map(|round| [preferred.get(round), other.get(round)]).flatten();
    let mut seen = HashSet::new();
    alternating.copied().copied().filter(|address| seen.insert(*address)).collect()
}

/// The addresses of names that had no usable server in the last attempt, the latest failure at the end.
#[derive(Debug, Default)]
pub(crate) struct FailedAddresses(Mutex<VecDeque<SocketAddr>>);

impl FailedAddresses {
    fn put_last(&self, addresses: &mut [SocketAddr]) {
        let failed = lock(&self.0);
        addresses.sort_by_key(|address| failed.iter().position(|failed| failed == address).map(|at| at + 1));
    }

    fn record(&self, address: SocketAddr, was_ready: bool) {
        let mut failed = lock(&self.0);
        failed.retain(|known| *known != address);
        if !was_ready {
            failed.push_back(address);
            if failed.len() > MAX_FAILED {
                failed.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|ip| SocketAddr::new(ip.parse().unwrap(), 1)).collect()
    }

    fn text(addresses: &[SocketAddr]) -> String {
        addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn address_families_alternate() {
        let order = |all: &str| text(&interleaved(&addresses(all)));
        assert_eq!(order("::1 ::2 ::3 10.0.0.1 10.0.0.2"), "::1 10.0.0.1 ::2 10.0.0.2 ::3");
        assert_eq!(order("10.0.0.1 ::1 ::2 10.0.0.2"), "10.0.0.1 ::1 10.0.0.2 ::2");
        assert_eq!(order("10.0.0.2 10.0.0.1"), "10.0.0.2 10.0.0.1");
        assert_eq!(order("10.0.0.1 10.0.0.1 ::1 10.0.0.1"), "10.0.0.1 ::1");
        assert_eq!(order(""), "");
    }

    #[test]
    fn failed_addresses_come_last() {
        let failed = FailedAddresses::default();
        let all = addresses("10.0.0.1 10.0.0.2 10.0.0.3");
        let order = || {
            let mut all = all.clone();
            failed.put_last(&mut all);
            text(&all)
        };
        assert_eq!(order(), "10.0.0.1 10.0.0.2 10.0.0.3");
        failed.record(all[1], false);
        failed.record(all[0], false);
        assert_eq!(order(), "10.0.0.3 10.0.0.2 10.0.0.1");
        failed.record(all[1], false);
        assert_eq!(order(), "10.0.0.3 10.0.0.1 10.0.0.2");
        failed.record(all[0], true);
        assert_eq!(order(), "10.0.0.1 10.0.0.3 10.0.0.2");
        for host in 0..=255 {
            failed.record(SocketAddr::from(([10, 0, 1, host], 1)), false);
        }
        assert_eq!(lock(&failed.0).len(), MAX_FAILED);
    }
}
