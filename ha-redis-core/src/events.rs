//! A stream of what happens to a client's connections and servers.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_broadcast::{InactiveReceiver, Receiver, RecvError, Sender};
use futures_core::Stream;

use crate::address::Address;
use crate::error::{Error, Outcome};

/// How many events wait for a reader; beyond that the oldest are dropped and counted.
const CAPACITY: usize = 256;

/// Something that happened to a client's connections or servers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A shared connection to the master is ready for calls.
    Connected {
        /// The address of the master.
        address: Address,
    },
    /// A shared connection to the master has ended.
    Lost {
        /// The address of the master.
        address: Address,
        /// The reason.
        why: Error,
    },
    /// A failover has selected a replica. Commands are held back until it is master or the failover ends without it.
    SwitchBegun {
        /// The current master.
        from: Option<Address>,
        /// The replica that is being promoted.
        candidate: Address,
    },
    /// The failover was aborted, or the client stopped waiting for it. The master is unchanged.
    SwitchAbandoned,
    /// The client switched to another master. Connections to the previous one are no longer used.
    Switched {
        /// The previous master; `None` when the client starts.
        from: Option<Address>,
        /// The new master.
        to: Address,
        /// The latest known configuration epoch of the Sentinels. It increases with every failover. If the client
        /// switches before the Sentinels announce the failover, this is still the previous epoch.
        epoch: u64,
    },
    /// The Sentinels report that a replica is up and connected to the master.
    ReplicaUp(Address),
    /// The Sentinels report that a replica is down, has lost its master, or is no longer a replica.
    ReplicaDown(Address),
    /// A Sentinel replies.
    SentinelUp(Address),
    /// A Sentinel does not reply.
    SentinelDown(Address),
    /// [`Client::reconfigure`](crate::Client::reconfigure) has changed these settings.
    Reconfigured {
        /// Their names.
        settings: Vec<&'static str>,
    },
    /// The credentials provider has failed. The last credentials, if there are any, stay in use, and the client asks
    /// it again. Sent once for several failures within a minute of each other.
    CredentialsFailed {
        /// The reason.
        why: Error,
    },
    /// A server refused new credentials on a live connection, which stays logged in as before. The client tries again, after
    /// a second at first and at least every 32 seconds. Sent once for each server and change of the credentials.
    LoginRefused {
        /// The address of the server.
        address: Address,
        /// The reason.
        why: Error,
    },
    /// There is a master again after a time without one.
    Failover(FailoverReport),
    /// The reader was slow: this many events before the next one were lost.
    Missed(u64),
}

/// Describes a time without a master: a failover, or a server that restarted or could not be reached.
///
/// Times count from the moment at which the client noticed the outage: a lost connection, a server that reported that
/// it is not the master, or a Sentinel that selected a replica for promotion. The report comes a second after the
/// connection is back, when the waiting calls have been served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailoverReport {
    /// The previous master.
    pub from: Address,
    /// The current master; the same as `from` if it came back.
    pub to: Address,
    /// The time until the master was known and a connection to it was ready.
    pub time_to_connect: Duration,
    /// The time until the first of the calls succeeded that waited or were retried; `None` if there was none.
    pub first_success: Option<Duration>,
    /// The number of waits for a connection that ended with one.
    pub calls_held: u64,
    /// How many attempts were retried.
    pub retried: u64,
    /// How many calls failed as not sent.
    pub not_sent: u64,
    /// How many calls failed as not applied.
    pub not_applied: u64,
    /// How many calls failed as maybe applied.
    pub maybe_applied: u64,
}

impl FailoverReport {
    pub(crate) fn empty(master: &Address) -> Self {
        Self {
            from: master.clone(),
            to: master.clone(),
            time_to_connect: Duration::ZERO,
            first_success: None,
            calls_held: 0,
            retried: 0,
            not_sent: 0,
            not_applied: 0,
            maybe_applied: 0,
        }
    }

    /// Returns how many calls failed.
    pub fn failed(&self) -> u64 {
        self.not_sent + self.not_applied + self.maybe_applied
    }

    pub(crate) fn count(&mut self, failed: Outcome) {
        match failed {
            Outcome::NotSent => self.not_sent += 1,
            Outcome::NotApplied => self.not_applied += 1,
            Outcome::MaybeApplied => self.maybe_applied += 1,
            // The server replied.
            Outcome::Ran => {}
        }
    }
}

impl fmt::Display for FailoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from == self.to {
            true => write!(f, "{} is back after {:?}", self.to, self.time_to_connect)?,
            false => write!(f, "{} took over from {} after {:?}", self.to, self.from, self.time_to_connect)?,
        }
        if let Some(first_success) = self.first_success {
            write!(f, ", first success after {first_success:?}")?;
        }
        write!(f, "; {} calls held, {} retries, ", self.calls_held, self.retried)?;
        let Self { not_sent, not_applied, maybe_applied, .. } = self;
        write!(f, "{not_sent} failed as not sent, {not_applied} not applied, {maybe_applied} maybe applied")
    }
}

/// A stream of [`Event`]s from the moment at which it was created. It ends when the client is closed or its last
/// handle is dropped.
///
/// Up to 256 events wait for a reader. Beyond that the oldest are dropped, and [`Event::Missed`] takes their place: a
/// reader never blocks the client.
///
/// # Cancellation safety
/// Dropping a pending [`next`](Self::next) loses no event.
#[derive(Clone, Debug)]
pub struct Events {
    receiver: Receiver<Event>,
}

impl Events {
    /// Returns the next event, or `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        Poll::Ready(match ready!(Pin::new(&mut self.receiver).poll_recv(cx)) {
            Some(Ok(event)) => Some(event),
            Some(Err(RecvError::Overflowed(missed))) => Some(Event::Missed(missed)),
            Some(Err(RecvError::Closed)) | None => None,
        })
    }
}

/// Sends events to all streams, if there are any.
#[derive(Debug)]
pub(crate) struct EventSender {
    sender: Sender<Event>,
    /// Keeps the channel open while there is no stream.
    keep_open: InactiveReceiver<Event>,
}

impl EventSender {
    pub(crate) fn new() -> Self {
        let (mut sender, receiver) = async_broadcast::broadcast(CAPACITY);
        sender.set_overflow(true);
        sender.set_await_active(false);
        Self { sender, keep_open: receiver.deactivate() }
    }

    pub(crate) fn send(&self, event: Event) {
        // It fails if there is no stream.
        let _ = self.sender.try_broadcast(event);
    }

    pub(crate) fn subscribe(&self) -> Events {
        Events { receiver: self.keep_open.activate_cloned() }
    }

    /// Ends every stream after the events that were sent.
    pub(crate) fn close(&self) {
        self.sender.close();
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;

    fn connected(port: u16) -> Event {
        Event::Connected { address: Address::tcp("10.0.0.1", port) }
    }

    fn port(event: Option<Event>) -> u16 {
        match event {
            Some(Event::Connected { address: Address::Tcp { port, .. } }) => port,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn slow_reader_misses_oldest_events() {
        let sender = EventSender::new();
        sender.send(connected(1));
        let mut events = sender.subscribe();
        (0..CAPACITY as u16 + 7).for_each(|number| sender.send(connected(number)));
        assert!(matches!(block_on(events.next()), Some(Event::Missed(7))));
        (7..CAPACITY as u16 + 7).for_each(|number| assert_eq!(port(block_on(events.next())), number));
        sender.send(connected(1));
        sender.close();
        assert_eq!(port(block_on(events.next())), 1, "earlier events come before the end");
        assert!(block_on(events.next()).is_none());
    }

    #[test]
    fn every_reader_gets_all_events() {
        let sender = EventSender::new();
        let (mut one, mut other) = (sender.subscribe(), sender.subscribe());
        sender.send(connected(1));
        assert_eq!((port(block_on(one.next())), port(block_on(other.next()))), (1, 1));
    }
}
