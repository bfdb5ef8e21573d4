//! What the task that watches the topology is told.

use async_channel::{Receiver, Sender};

use crate::generation::Generation;
use crate::topology::messages::{Input, ShardId};

/// When so many events wait for the task, what Sentinels publish is dropped: the poll beneath finds out what it
/// would say. There are few of all others, and nothing makes up for them.
const MAX_EVENTS: usize = 256;

/// What the task is told.
#[derive(Debug)]
pub(crate) enum MonitorEvent {
    /// From the source: Sentinels, a watched replica, a user's own.
    Source(Box<Input>),
    /// From the connections to a master of one generation.
    Shard { shard: ShardId, generation: Generation, input: Box<Input> },
}

impl From<Input> for MonitorEvent {
    fn from(input: Input) -> Self {
        Self::Source(Box::new(input))
    }
}

/// Where the task that watches the topology is told of events.
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
        let is_published = matches!(&event, MonitorEvent::Source(input) if input.is_published());
        if is_published && self.sender.len() >= MAX_EVENTS {
            tracing::debug!(?event, "an event was dropped");
        } else {
            // The receiver stands beside the sender: this cannot fail.
            let _ = self.sender.try_send(event);
        }
    }

    /// Waits for the next event.
    pub(crate) async fn next(&self) -> Option<MonitorEvent> {
        self.receiver.recv().await.ok()
    }
}
