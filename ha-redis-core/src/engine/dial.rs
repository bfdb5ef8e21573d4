//! From an address to a socket, also where a name has several addresses: RFC 8305, "happy eyeballs".

use std::collections::HashSet;
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
use crate::time::until;

/// After so long without an answer the next address is tried as well: the delay that RFC 8305 recommends.
const PATIENCE: Duration = Duration::from_millis(250);

/// So many addresses of a name are tried at the most, all of which may be under way at once; resolvers change their order.
const MOST_ADDRESSES: usize = 16;

/// An attempt to connect to one of the endpoints of an address, by its number.
type Attempt<'a> = (usize, Pin<Box<dyn Future<Output = io::Result<Box<dyn Transport>>> + Send + 'a>>);

/// A connection to whichever endpoint of an address answers first.
pub(crate) struct Dial<'a> {
    runtime: &'a dyn Runtime,
    address: &'a Address,
    /// How long all of it may take, and what comes after it.
    bound: Duration,
    /// The endpoints that were tried so far, and what became of each.
    tried: Vec<(Endpoint<'a>, Progress)>,
}

/// What became of an attempt.
enum Progress {
    Unanswered,
    Failed(io::Error),
    Connected,
}

impl<'a> Dial<'a> {
    pub(crate) fn new(runtime: &'a dyn Runtime, address: &'a Address, bound: Duration) -> Self {
        Self { runtime, address, bound, tried: Vec::new() }
    }

    pub(crate) fn address(&self) -> &'a Address {
        self.address
    }

    /// Connects. The caller keeps the bound, and learns from [`Dial::silence`] what the time was spent on.
    pub(crate) async fn connect(&mut self) -> Result<Box<dyn Transport>, Error> {
        let refused = |error: io::Error| Error::new(Kind::Connect, error.to_string());
        let endpoints = self.endpoints().await.map_err(refused)?;
        // Each is to have its turn within the bound, and the last one time to answer.
        let patience = PATIENCE.min(self.bound / (endpoints.len() as u32 + 1));
        let mut attempts = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            attempts.push((self.tried.len(), self.runtime.connect(endpoint)));
            self.tried.push((endpoint, Progress::Unanswered));
            let next = self.runtime.now() + patience;
            if let Ok(Some(socket)) = until(self.runtime, next, self.next_end(&mut attempts)).await {
                return Ok(socket);
            }
        }
        while !attempts.is_empty() {
            if let Some(socket) = self.next_end(&mut attempts).await {
                return Ok(socket);
            }
        }
        Err(Error::new(Kind::Connect, self.account()))
    }

    /// What there was no answer to, for an error that says so when the caller's bound has come.
    pub(crate) fn silence(&self) -> String {
        let bound = self.bound;
        match self.tried.len() {
            0 => format!("its name was not resolved within {bound:?}"),
            1 => format!("no answer within {bound:?}"),
            _ => format!("no answer within {bound:?}: {}", self.account()),
        }
    }

    /// Whether there is a connection, so that the silence is that of what answers on it.
    pub(crate) fn has_connected(&self) -> bool {
        self.tried.iter().any(|(_, progress)| matches!(progress, Progress::Connected))
    }

    async fn endpoints(&self) -> io::Result<Vec<Endpoint<'a>>> {
        let (host, port) = match self.address {
            Address::Tcp { host, port } => (host, *port),
            Address::Unix(path) => return Ok(vec![Endpoint::Unix(path)]),
        };
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![Endpoint::Tcp((ip, port).into())]);
        }
        let addresses = interleaved(&self.runtime.resolve(host, port).await?);
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "its name has no addresses"));
        }
        Ok(addresses.into_iter().map(Endpoint::Tcp).collect())
    }

    /// Waits until one of the attempts ends. Returns its socket, or nothing when it has failed.
    async fn next_end(&mut self, attempts: &mut Vec<Attempt<'a>>) -> Option<Box<dyn Transport>> {
        let (number, ended) = poll_fn(|cx| {
            for place in 0..attempts.len() {
                let (number, attempt) = &mut attempts[place];
                if let Poll::Ready(ended) = attempt.as_mut().poll(cx) {
                    let number = *number;
                    drop(attempts.swap_remove(place));
                    return Poll::Ready((number, ended));
                }
            }
            Poll::Pending
        })
        .await;
        let (socket, progress) = match ended {
            Ok(socket) => (Some(socket), Progress::Connected),
            Err(error) => (None, Progress::Failed(error)),
        };
        self.tried[number].1 = progress;
        if socket.is_some() && self.tried.len() > 1 {
            tracing::debug!(address = %self.address, tried = %self.account(), "it took more than one address to connect");
        }
        socket
    }

    /// What was tried, and what became of it; of a single endpoint only the latter.
    fn account(&self) -> String {
        if let [(_, progress)] = &self.tried[..] {
            return progress.to_string();
        }
        let mut account = String::new();
        for (endpoint, progress) in &self.tried {
            let separator = if account.is_empty() { "" } else { "; " };
            // Writing to a string does not fail.
            let _ = write!(account, "{separator}{endpoint}: {progress}");
        }
        account
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered => f.write_str("no answer"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::Connected => f.write_str("connected"),
        }
    }
}

/// The addresses of both families in turn, beginning with the family that the resolver prefers; each once, and no more
/// than may be tried.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_preferred = |address: &SocketAddr| address.is_ipv4() == addresses[0].is_ipv4();
    let (preferred, other): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| is_preferred(address));
    let turns = 0..preferred.len().max(other.len());
    let in_turn = turns.flat_map(|turn| [preferred.get(turn), other.get(turn)]).flatten();
    let mut known = HashSet::new();
    in_turn.copied().copied().filter(|address| known.insert(*address)).take(MOST_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns() {
        let order = |addresses: &str| {
            let addresses: Vec<_> = addresses.split_whitespace().map(|ip| (ip, 1)).collect();
            let addresses = addresses.iter().map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), *port));
            let order = interleaved(&addresses.collect::<Vec<_>>());
            order.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order("::1 ::2 ::3 10.0.0.1 10.0.0.2"), "::1 10.0.0.1 ::2 10.0.0.2 ::3");
        assert_eq!(order("10.0.0.1 ::1 ::2 10.0.0.2"), "10.0.0.1 ::1 10.0.0.2 ::2");
        assert_eq!(order("10.0.0.2 10.0.0.1"), "10.0.0.2 10.0.0.1");
        assert_eq!(order("10.0.0.1 10.0.0.1 ::1 10.0.0.1"), "10.0.0.1 ::1");
        assert_eq!(order(""), "");
        let many = (1..100).map(|host| format!("10.0.0.{host}")).collect::<Vec<_>>();
        assert_eq!(order(&many.join(" ")), many[..MOST_ADDRESSES].join(" "));
    }
}
