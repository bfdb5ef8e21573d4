//! What the task that watches the topology is told.

#[cfg(feature = "sentinel")]
use std::sync::Arc;

use async_channel::{Receiver, Sender};

#[cfg(feature = "sentinel")]
use crate::address::Address;
use crate::generation::Generation;
use crate::topology::messages::{Input, ShardId};
#[cfg(feature = "sentinel")]
use crate::topology::sentinel::SentinelEvent;

/// So many of the events that one Sentinel publishes may wait for the task. More are dropped: the poll beneath finds out
/// what they would say.
#[cfg(feature = "sentinel")]
const SHARE: usize = 32;

/// What the task is told.
#[derive(Debug)]
pub(crate) enum MonitorEvent {
    /// From the source: what Sentinels answer, a watched replica, a user's own.
    Source(Box<Input>),
    /// An event that a Sentinel has published, and its place in the Sentinel's share.
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

/// The events of one Sentinel that wait: each holds a clone. So none takes the place of another Sentinel's.
#[cfg(feature = "sentinel")]
#[derive(Clone, Debug, Default)]
pub(crate) struct Share(Arc<()>);

#[cfg(feature = "sentinel")]
impl Share {
    fn is_used_up(&self) -> bool {
        // The task that listens to the Sentinel holds one itself.
        Arc::strong_count(&self.0) > SHARE
    }
}

/// Where the task that watches the topology is told of events. What Sentinels publish has shares in it; there is little of
/// all else, and nothing makes up for it.
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

    pub(crate) fn tell(&self, event: MonitorEvent) {
        // The receiver stands beside the sender: this cannot fail.
        let _ = self.sender.try_send(event);
    }

    /// Tells of an event that a Sentinel has published, unless its share is used up.
    #[cfg(feature = "sentinel")]
    pub(crate) fn publish(&self, share: &Share, sentinel: &Address, event: SentinelEvent) {
        if share.is_used_up() {
            tracing::debug!(%sentinel, %event, "it publishes too much: this is dropped");
        } else {
            let input = Input::Heard { sentinel: sentinel.clone(), event };
            self.tell(MonitorEvent::Published(Box::new(input), share.clone()));
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

    /// Takes what waits, and counts it by the Sentinel that has published it.
    fn take(mailbox: &MonitorMailbox, number: usize) -> (usize, usize) {
        let mut counts = (0, 0);
        for _ in 0..number {
            let next = block_on(poll_once(mailbox.next()));
            let Some(Some(MonitorEvent::Published(input, _))) = next else { break };
            let Input::Heard { sentinel, .. } = *input else { panic!("{input:?}") };
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
        assert_eq!(take(&mailbox, usize::MAX), (SHARE, 1));
        // What was taken makes room for more.
        (0..10_000).for_each(|_| mailbox.publish(&flood, &liar, SentinelEvent::News));
        assert_eq!(take(&mailbox, 2), (2, 0));
        (0..10_000).for_each(|_| mailbox.publish(&flood, &liar, SentinelEvent::News));
        mailbox.publish(&share, &honest, SentinelEvent::Aborted);
        assert_eq!(take(&mailbox, usize::MAX), (SHARE, 1));
    }
}
