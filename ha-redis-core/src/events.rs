//! What happens to a client's connections and servers, as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_broadcast::{InactiveReceiver, Receiver, RecvError, Sender};
use futures_core::Stream;

use crate::address::Address;
use crate::error::{Error, Outcome};

/// So many events wait for a reader; after that the oldest are lost, and it is told how many.
const WAITING: usize = 256;

/// Something that happened to a client's connections or servers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A shared connection to the master is ready for calls.
    Connected {
        /// The master.
        address: Address,
    },
    /// A shared connection to the master has ended.
    Lost {
        /// The master.
        address: Address,
        /// Why it ended.
        why: Error,
    },
    /// A failover has selected a replica: commands are held back until it is master, or the failover is given up.
    SwitchBegun {
        /// The master until now.
        from: Option<Address>,
        /// The replica that is to become master.
        candidate: Address,
    },
    /// The failover was given up, or is not waited for any more: the master is as before.
    SwitchAbandoned,
    /// Another master is followed; no connection to the one before is used any more.
    Switched {
        /// The master until now; `None` when the client begins.
        from: Option<Address>,
        /// The master from now on.
        to: Address,
        /// The configuration epoch of the Sentinels that is known by now. It grows with every failover; a client that
        /// is ahead of the Sentinels' announcement still has the one before.
        epoch: u64,
    },
    /// By the word of the Sentinels, a replica is up and in touch with the master.
    ReplicaUp(Address),
    /// By the word of the Sentinels, a replica is down, has lost its master, or is a replica no more.
    ReplicaDown(Address),
    /// A Sentinel answers.
    SentinelUp(Address),
    /// A Sentinel does not answer.
    SentinelDown(Address),
    /// There was no master for a while, and there is one again.
    Failover(FailoverReport),
    /// The reader was slow: so many events were lost, those before the next one.
    Missed(u64),
}

/// How a time without a master went: a failover, or a server that restarted or could not be reached.
///
/// Times count from the moment at which the client noticed: a lost connection, a server that says that it is no master,
/// or a Sentinel that tells of a replica selected for promotion. The report comes a second after there is a connection
/// again, when the calls that waited have been served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailoverReport {
    /// The master before.
    pub from: Address,
    /// The master after: the same, when it came back in place.
    pub to: Address,
    /// When it was known who is master, and a connection to it was ready.
    pub time_to_connect: Duration,
    /// When the first call succeeded; `None` when there was none.
    pub first_success: Option<Duration>,
    /// How many times a call waited for a connection, and got one.
    pub calls_held: u64,
    /// How many attempts were repeated.
    pub retried: u64,
    /// How many calls failed as not sent.
    pub not_sent: u64,
    /// How many calls failed as refused, and not applied.
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

    /// How many calls failed.
    pub fn failed(&self) -> u64 {
        self.not_sent + self.not_applied + self.maybe_applied
    }

    pub(crate) fn count(&mut self, failed: Outcome) {
        match failed {
            Outcome::NotSent => self.not_sent += 1,
            Outcome::NotApplied => self.not_applied += 1,
            Outcome::MaybeApplied => self.maybe_applied += 1,
            // It was answered.
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
        write!(f, "; {} calls held, {} attempts repeated, ", self.calls_held, self.retried)?;
        let Self { not_sent, not_applied, maybe_applied, .. } = self;
        write!(f, "{not_sent} failed as not sent, {not_applied} not applied, {maybe_applied} maybe applied")
    }
}

/// A stream of [`Event`]s, from the moment on at which it was asked for. It ends when the client is closed or its last
/// handle is dropped.
///
/// Up to 256 events wait for a reader. When more happen, the oldest are lost, and [`Event::Missed`] stands in their
/// place: a reader never holds the client up.
///
/// # Cancellation safety
/// Dropping a pending [`next`](Self::next) loses no event.
#[derive(Clone, Debug)]
pub struct Events {
    receiver: Receiver<Event>,
}

impl Events {
    /// The next event; `None` when there will be none any more.
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

/// Where events are told, whether or not anybody listens.
#[derive(Debug)]
pub(crate) struct EventSender {
    sender: Sender<Event>,
    /// Keeps the channel open while nobody listens.
    silent: InactiveReceiver<Event>,
}

impl EventSender {
    pub(crate) fn new() -> Self {
        let (mut sender, receiver) = async_broadcast::broadcast(WAITING);
        sender.set_overflow(true);
        sender.set_await_active(false);
        Self { sender, silent: receiver.deactivate() }
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody may listen, and that is fine.
        let _ = self.sender.try_broadcast(event);
    }

    pub(crate) fn listen(&self) -> Events {
        Events { receiver: self.silent.activate_cloned() }
    }

    /// Ends every stream, behind what was told.
    pub(crate) fn end(&self) {
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
    fn a_slow_reader_loses_the_oldest_and_is_told_how_many() {
        let announcer = EventSender::new();
        announcer.tell(connected(1));
        let mut events = announcer.listen();
        (0..WAITING as u16 + 7).for_each(|number| announcer.tell(connected(number)));
        assert!(matches!(block_on(events.next()), Some(Event::Missed(7))));
        (7..WAITING as u16 + 7).for_each(|number| assert_eq!(port(block_on(events.next())), number));
        announcer.tell(connected(1));
        announcer.end();
        assert_eq!(port(block_on(events.next())), 1, "what was told comes before the end");
        assert!(block_on(events.next()).is_none());
    }

    #[test]
    fn each_reader_hears_everything() {
        let announcer = EventSender::new();
        let (mut one, mut other) = (announcer.listen(), announcer.listen());
        announcer.tell(connected(1));
        assert_eq!((port(block_on(one.next())), port(block_on(other.next()))), (1, 1));
    }
}
