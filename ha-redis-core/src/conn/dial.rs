//! From an address to a connection that is ready for use, also where a name has several addresses: RFC 8305, "happy
//! eyeballs", to the end of the handshake. What accepts a connection may be no Redis: a tunnel without an end, or a server
//! that hangs.

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

/// After so long without a connection the next address is tried as well: the delay that RFC 8305 recommends.
const PATIENCE: Duration = Duration::from_millis(250);

/// So many addresses of a name are tried at the most, all of which may be under way at once; resolvers change their order.
const MOST_ADDRESSES: usize = 16;

/// So many addresses that failed are remembered.
const MOST_FAILED: usize = 64;

/// A boxed future, for one of several.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A connection to whichever endpoint of an address is ready first.
pub(crate) struct Dial<'a> {
    runtime: &'a dyn Runtime,
    address: &'a Address,
    /// How long all of it may take.
    bound: Duration,
    /// The endpoints that were tried so far, and what became of each.
    tried: Vec<(Endpoint<'a>, Progress)>,
}

/// What became of an attempt.
#[derive(Debug)]
enum Progress {
    Unanswered,
    /// There is a connection, and no answer on it.
    Connected,
    Failed(Error),
    Ready,
}

/// How far an attempt has come.
enum Step<T> {
    Connected(Box<dyn Transport>),
    Ready(T),
}

/// What is under way: attempts by their numbers.
type UnderWay<'a, T> = Vec<(usize, Work<'a, Step<T>>)>;

impl<'a> Dial<'a> {
    pub(crate) fn new(runtime: &'a dyn Runtime, address: &'a Address, bound: Duration) -> Self {
        Self { runtime, address, bound, tried: Vec::new() }
    }

    /// Connects, and has each connection greeted. The caller keeps the bound, and learns from [`Dial::silence`] what the
    /// time was spent on.
    pub(crate) async fn open<T: Send + 'a>(
        &mut self,
        failed: &FailedAddresses,
        greet: impl Fn(Endpoint<'a>, Box<dyn Transport>) -> Work<'a, T>,
    ) -> Result<T, Error> {
        let endpoints = self.endpoints(failed).await.map_err(refused)?;
        // Each is to have its turn within the bound, and the last one time to answer.
        let share = self.bound / (endpoints.len() as u32 + 1);
        let mut untried = endpoints.into_iter();
        let mut under_way = UnderWay::<T>::new();
        let mut next = self.runtime.now();
        loop {
            match until(self.runtime, next, next_end(&mut under_way)).await {
                Ok((number, Ok(Step::Connected(socket)))) => {
                    self.tried[number].1 = Progress::Connected;
                    let greeting = greet(self.tried[number].0, socket);
                    under_way.push((number, Box::pin(async move { greeting.await.map(Step::Ready) })));
                    next = next.max(self.runtime.now() + share);
                }
                Ok((number, Ok(Step::Ready(ready)))) => {
                    self.tried[number].1 = Progress::Ready;
                    if self.tried.len() > 1 {
                        let tried = self.account();
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
                        next = self.runtime.now() + PATIENCE.min(share);
                    }
                    None if under_way.is_empty() => return Err(self.verdict()),
                    None => next = self.runtime.now() + self.bound,
                },
            }
        }
    }

    /// What there was no answer to, for an error that says so when the caller's bound has come.
    pub(crate) fn silence(&self) -> String {
        let bound = self.bound;
        match &self.tried[..] {
            [] => format!("its name was not resolved within {bound:?}"),
            [_] if !self.is_named() => format!("no answer within {bound:?}"),
            _ => format!("no answer within {bound:?}: {}", self.account()),
        }
    }

    /// Whether there is a connection, so that the silence is that of what answers on it.
    pub(crate) fn has_connected(&self) -> bool {
        self.tried.iter().any(|(_, progress)| matches!(progress, Progress::Connected))
    }

    /// Has those of a name's addresses that were of no use tried last from now on.
    pub(crate) fn remember(&self, failed: &FailedAddresses) {
        if self.tried.len() > 1 {
            for (endpoint, progress) in &self.tried {
                if let Endpoint::Tcp(address) = endpoint {
                    failed.book(*address, matches!(progress, Progress::Ready));
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
            return Err(io::Error::new(io::ErrorKind::NotFound, "its name has no addresses"));
        }
        failed.put_last(&mut addresses);
        Ok(addresses.into_iter().take(MOST_ADDRESSES).map(Endpoint::Tcp).collect())
    }

    /// Why none was of use: all that was said, and the kind of what says most.
    fn verdict(&self) -> Error {
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
        Error::new(kind, self.account())
    }

    /// Whether errors are to say at which endpoint a failure was.
    fn is_named(&self) -> bool {
        matches!(self.address, Address::Tcp { host, .. } if host.parse::<IpAddr>().is_err())
    }

    /// What was tried, and what became of it.
    fn account(&self) -> String {
        let mut account = String::new();
        for (endpoint, progress) in &self.tried {
            let separator = if account.is_empty() { "" } else { "; " };
            // Writing to a string does not fail.
            let _ = write!(account, "{separator}{endpoint}: {progress}");
        }
        account
    }
}

/// Waits until one of those that are under way comes to an end, or to its next step; for ever when there is none.
async fn next_end<T>(under_way: &mut UnderWay<'_, T>) -> (usize, Result<Step<T>, Error>) {
    poll_fn(|cx| {
        for place in 0..under_way.len() {
            let (number, work) = &mut under_way[place];
            if let Poll::Ready(ended) = work.as_mut().poll(cx) {
                let number = *number;
                drop(under_way.swap_remove(place));
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
            Self::Connected => f.write_str("connected, and no answer"),
            Self::Failed(error) => f.write_str(error.message()),
            Self::Ready => f.write_str("ready"),
        }
    }
}

/// The addresses of both families in turn, beginning with the family that the resolver prefers; each once.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_preferred = |address: &SocketAddr| address.is_ipv4() == addresses[0].is_ipv4();
    let (preferred, other): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| is_preferred(address));
    let turns = 0..preferred.len().max(other.len());
    let in_turn = turns.flat_map(|turn| [preferred.get(turn), other.get(turn)]).flatten();
    let mut known = HashSet::new();
    in_turn.copied().copied().filter(|address| known.insert(*address)).collect()
}

/// The addresses of names at which there was no usable server when they were tried last, the latest failure at the end.
#[derive(Debug, Default)]
pub(crate) struct FailedAddresses(Mutex<VecDeque<SocketAddr>>);

impl FailedAddresses {
    fn put_last(&self, addresses: &mut [SocketAddr]) {
        let failed = lock(&self.0);
        addresses.sort_by_key(|address| failed.iter().position(|failed| failed == address).map(|at| at + 1));
    }

    fn book(&self, address: SocketAddr, was_ready: bool) {
        let mut failed = lock(&self.0);
        failed.retain(|known| *known != address);
        if !was_ready {
            failed.push_back(address);
            if failed.len() > MOST_FAILED {
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
    fn the_families_take_turns() {
        let order = |all: &str| text(&interleaved(&addresses(all)));
        assert_eq!(order("::1 ::2 ::3 10.0.0.1 10.0.0.2"), "::1 10.0.0.1 ::2 10.0.0.2 ::3");
        assert_eq!(order("10.0.0.1 ::1 ::2 10.0.0.2"), "10.0.0.1 ::1 10.0.0.2 ::2");
        assert_eq!(order("10.0.0.2 10.0.0.1"), "10.0.0.2 10.0.0.1");
        assert_eq!(order("10.0.0.1 10.0.0.1 ::1 10.0.0.1"), "10.0.0.1 ::1");
        assert_eq!(order(""), "");
    }

    #[test]
    fn those_that_failed_come_last_and_the_latest_failure_at_the_end() {
        let failed = FailedAddresses::default();
        let all = addresses("10.0.0.1 10.0.0.2 10.0.0.3");
        let order = || {
            let mut all = all.clone();
            failed.put_last(&mut all);
            text(&all)
        };
        assert_eq!(order(), "10.0.0.1 10.0.0.2 10.0.0.3");
        failed.book(all[1], false);
        failed.book(all[0], false);
        assert_eq!(order(), "10.0.0.3 10.0.0.2 10.0.0.1");
        failed.book(all[1], false);
        assert_eq!(order(), "10.0.0.3 10.0.0.1 10.0.0.2");
        failed.book(all[0], true);
        assert_eq!(order(), "10.0.0.1 10.0.0.3 10.0.0.2");
        for host in 0..=255 {
            failed.book(SocketAddr::from(([10, 0, 1, host], 1)), false);
        }
        assert_eq!(lock(&failed.0).len(), MOST_FAILED);
    }
}
