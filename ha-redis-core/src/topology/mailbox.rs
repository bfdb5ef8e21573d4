//! The mailbox of the task that monitors the topology.

#[cfg(feature = "sentinel")]
use std::sync::Arc;

use async_channel::{Receiver, Sender};

#[cfg(feature = "sentinel")]
use crate::address::Address;
use crate::generation::Generation;
use crate::topology::messages::{Input, ShardId};
#[cfg(feature = "sentinel")]
use crate::topology::sentinel::SentinelEvent;

/// How many events of one Sentinel may wait for the task. More are dropped; the next poll finds the same changes.
#[cfg(feature = "sentinel")]
const MAX_WAITING: usize = 32;

/// An event for the task.
#[derive(Debug)]
pub(crate) enum MonitorEvent {
    /// From the topology source: answers of Sentinels, the role of a watched replica, an update of the application.
    Source(Box<Input>),
    /// An event that a Sentinel published, counted in the Sentinel's share.
    #[cfg(feature = "sentinel")]
    Published(Box<Input>, Share),
    /// From the connections to a master of one generation.
    Shard { shard: ShardId, generation: Generation, input: Box<Input> },
}

impl From<Input> for MonitorEvent {
    fn from(input: Input) -> Self {
        Self::Source(Box::new(input))
    }
}

/// Counts the waiting events of one Sentinel, each of which holds a clone, so that no Sentinel fills the mailbox.
#[cfg(feature = "sentinel")]
#[derive(Clone, Debug, Default)]
pub(crate) struct Share(Arc<()>);

#[cfg(feature = "sentinel")]
impl Share {
    fn is_used_up(&self) -> bool {
        // The task that is subscribed to the Sentinel holds one itself.
        Arc::strong_count(&self.0) > MAX_WAITING
    }
}

/// The mailbox. Events of Sentinels are limited by shares. All other events are few and must not be lost.
#[derive(Debug)]
pub(crate) struct MonitorMailbox {
    sender: Sender<MonitorEvent>,
    receiver: Receiver<MonitorEvent>,
}

impl MonitorMailbox {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = async_channel::unbounded();
        Self { sender, receiver }
    }

    pub(crate) fn send(&self, event: MonitorEvent) {
        // The receiver is stored beside the sender, so this cannot fail.
        let _ = self.sender.try_send(event);
    }

    /// Sends an event that a Sentinel published, unless its share is used up.
    #[cfg(feature = "sentinel")]
    pub(crate) fn publish(&self, share: &Share, sentinel: &Address, event: SentinelEvent) {
        if share.is_used_up() {
            tracing::debug!(%sentinel, %event, "event dropped: the Sentinel publishes too many");
        } else {
            let input = Input::Event { sentinel: sentinel.clone(), event };
            self.send(MonitorEvent::Published(Box::new(input), share.clone()));
        }
    }

    /// Waits for the next event.
    pub(crate) async fn next(&self) -> Option<MonitorEvent> {
        self.receiver.recv().await.ok()
    }
}

#[cfg(all(test, feature = "sentinel"))]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    /// Takes the next waiting events, and counts them by the Sentinel that published them.
    fn take(mailbox: &MonitorMailbox, number: usize) -> (usize, usize) {
        let mut counts = (0, 0);
        for _ in 0..number {
            let next = block_on(poll_once(mailbox.next()));
            let Some(Some(MonitorEvent::Published(input, _))) = next else { break };
            let Input::Event { sentinel, .. } = *input else { panic!("{input:?}") };
            *if sentinel == Address::tcp("liar", 1) { &mut counts.0 } else { &mut counts.1 } += 1;
        }
        counts
    }

    #[test]
    fn flood_from_one_sentinel_drops_no_event_of_another() {
        let mailbox = MonitorMailbox::new();
        let (liar, honest) = (Address::tcp("liar", 1), Address::tcp("honest", 1));
        let (flood, share) = (Share::default(), Share::default());
        (0..10_000).for_each(|_| mailbox.publish(&flood, &liar, SentinelEvent::News));
        mailbox.publish(&share, &honest, SentinelEvent::Aborted);
        assert_eq!(take(&mailbox, usize::MAX), (MAX_WAITING, 1));
        // Handling events makes room for more.
        (0..10_000).for_each(|_| mailbox.publish(&flood, &liar, SentinelEvent::News));
        assert_eq!(take(&mailbox, 2), (2, 0));
        (0..10_000).for_each(|_| mailbox.publish(&flood, &liar, SentinelEvent::News));
        mailbox.publish(&share, &honest, SentinelEvent::Aborted);
        assert_eq!(take(&mailbox, usize::MAX), (MAX_WAITING, 1));
    }
}
