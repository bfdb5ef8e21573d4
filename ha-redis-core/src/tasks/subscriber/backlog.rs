//! The events of a subscriber that its reader has not read yet: bounded, with markers for what is missing.

use std::collections::VecDeque;

use redis::Msg;

use super::event::PubSubEvent;
use crate::error::Error;
use crate::proto::pubsub::Subscription;

/// The memory of a message besides its parts: its entry, of which the queue may have allocated twice as many as it
/// needs.
const OVERHEAD: usize = 2 * size_of::<Entry>();

pub(crate) struct Backlog {
    limit: usize,
    used: usize,
    entries: VecDeque<Entry>,
    /// The markers after the last message.
    last: Markers,
    /// Whether a connection was lost and not everything is subscribed to again yet.
    gap: bool,
    /// The messages that arrived on the new connection before that.
    pending: VecDeque<Entry>,
}

struct Entry {
    before: Option<Box<Markers>>,
    message: Msg,
    size: usize,
}

/// The markers between two messages.
#[derive(Default)]
struct Markers {
    missed: u64,
    lost: Option<Error>,
    refused: VecDeque<(Subscription, Error)>,
    resubscribed: bool,
}

impl Backlog {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            entries: VecDeque::new(),
            last: Markers::default(),
            gap: false,
            pending: VecDeque::new(),
        }
    }

    /// Returns true if there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.last.is_empty()
    }

    /// Adds a message with parts of this size. The oldest messages make room for it.
    pub(crate) fn message(&mut self, message: Msg, memory: usize) {
        let size = memory + OVERHEAD;
        self.used += size;
        let entry = Entry { before: None, message, size };
        if self.gap {
            self.pending.push_back(entry)
        } else {
            self.push(entry)
        }
        while self.used > self.limit && self.entries.len() + self.pending.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Records a message that was too large to keep.
    pub(crate) fn too_large(&mut self) {
        // During a gap, messages are missed anyway.
        if !self.gap {
            self.last.missed += 1;
        }
    }

    /// Records a lost connection.
    pub(crate) fn lost(&mut self, why: Error) {
        if self.gap {
            // The messages since the last loss belong to the gap.
            self.used -= self.pending.drain(..).map(|pending| pending.size).sum::<usize>();
        } else {
            self.gap = true;
            self.last.lose(why);
        }
    }

    /// Records a subscription that was refused on a new connection.
    pub(crate) fn refused(&mut self, subscription: Subscription, error: Error) {
        self.last.refused.push_back((subscription, error));
    }

    /// Records that everything is subscribed to again.
    pub(crate) fn resubscribed(&mut self) {
        if self.gap {
            self.gap = false;
            self.last.resubscribed = true;
            std::mem::take(&mut self.pending).into_iter().for_each(|pending| self.push(pending));
        }
    }

    pub(super) fn take(&mut self) -> Option<PubSubEvent> {
        let Some(first) = self.entries.front_mut() else { return self.last.take() };
        if let Some(event) = first.before.as_mut().and_then(|markers| markers.take()) {
            return Some(event);
        }
        let first = self.entries.pop_front()?;
        self.used -= first.size;
        Some(PubSubEvent::Message(first.message))
    }

    fn push(&mut self, mut entry: Entry) {
        if !self.last.is_empty() {
            entry.before = Some(Box::new(std::mem::take(&mut self.last)));
        }
        self.entries.push_back(entry);
    }

    fn drop_oldest(&mut self) {
        let Some(mut oldest) = self.entries.pop_front().or_else(|| self.pending.pop_front()) else { return };
        self.used -= oldest.size;
        let mut markers = oldest.before.take().unwrap_or_default();
        markers.missed += 1;
        match self.entries.front_mut() {
            Some(first) => {
                markers.join(first.before.take().map(|later| *later).unwrap_or_default());
                first.before = Some(markers);
            }
            None => {
                markers.join(std::mem::take(&mut self.last));
                self.last = *markers;
            }
        }
    }
}

impl Markers {
    /// Merges gaps that have nothing to read between them.
    fn lose(&mut self, why: Error) {
        if self.resubscribed {
            self.resubscribed = false;
        } else {
            self.lost = Some(why);
        }
    }

    fn join(&mut self, later: Self) {
        self.missed += later.missed;
        if let Some(why) = later.lost {
            self.lose(why);
        }
        self.refused.extend(later.refused);
        self.resubscribed |= later.resubscribed;
    }

    fn take(&mut self) -> Option<PubSubEvent> {
        if self.missed > 0 {
            return Some(PubSubEvent::Lagged { missed: std::mem::take(&mut self.missed) });
        }
        if let Some(why) = self.lost.take() {
            return Some(PubSubEvent::Disconnected(why));
        }
        if let Some((Subscription { scope, name }, error)) = self.refused.pop_front() {
            return Some(PubSubEvent::Refused { scope, name, error });
        }
        std::mem::take(&mut self.resubscribed).then_some(PubSubEvent::Resubscribed)
    }

    fn is_empty(&self) -> bool {
        self.missed == 0 && self.lost.is_none() && self.refused.is_empty() && !self.resubscribed
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;
    use crate::error::Kind;

    fn message(text: &str) -> Msg {
        let parts = ["message", "c", text].map(|part| Value::BulkString(part.into()));
        Msg::from_owned_value(Value::Array(parts.to_vec())).unwrap()
    }

    fn add(backlog: &mut Backlog, text: &str) {
        backlog.message(message(text), 0);
    }

    fn lose(backlog: &mut Backlog) {
        backlog.lost(Error::new(Kind::Lost, "gone"));
    }

    fn taken(backlog: &mut Backlog) -> Vec<String> {
        let events = std::iter::from_fn(|| backlog.take()).map(|event| match event {
            PubSubEvent::Message(message) => message.get_payload().unwrap(),
            PubSubEvent::Disconnected(_) => "lost".to_owned(),
            PubSubEvent::Resubscribed => "again".to_owned(),
            PubSubEvent::Lagged { missed } => format!("missed {missed}"),
            PubSubEvent::Refused { .. } => "refused".to_owned(),
        });
        events.collect()
    }

    /// A backlog with room for this many of the test messages.
    fn backlog_of(messages: usize) -> Backlog {
        Backlog::new(messages * OVERHEAD)
    }

    #[test]
    fn oldest_messages_dropped_and_counted() {
        let mut backlog = backlog_of(2);
        ["1", "2", "3", "4"].iter().for_each(|text| add(&mut backlog, text));
        assert_eq!(taken(&mut backlog), ["missed 2", "3", "4"]);
        assert!(backlog.is_empty() && backlog.used == 0);
        ["5", "6"].iter().for_each(|text| add(&mut backlog, text));
        assert_eq!(taken(&mut backlog), ["5", "6"]);
    }

    #[test]
    fn message_may_exceed_the_limit() {
        let mut backlog = backlog_of(2);
        add(&mut backlog, "1");
        backlog.message(message("2"), 1 << 30);
        assert_eq!(taken(&mut backlog), ["missed 1", "2"]);
        assert_eq!(backlog.used, 0);
    }

    #[test]
    fn messages_wait_until_resubscribed() {
        let mut backlog = backlog_of(9);
        add(&mut backlog, "1");
        lose(&mut backlog);
        add(&mut backlog, "2");
        assert_eq!(taken(&mut backlog), ["1", "lost"]);
        assert!(backlog.is_empty());
        backlog.resubscribed();
        add(&mut backlog, "3");
        assert_eq!(taken(&mut backlog), ["again", "2", "3"]);
    }

    #[test]
    fn gap_may_span_several_losses() {
        let mut backlog = backlog_of(9);
        lose(&mut backlog);
        add(&mut backlog, "pending");
        lose(&mut backlog);
        backlog.resubscribed();
        backlog.resubscribed();
        add(&mut backlog, "1");
        assert_eq!(taken(&mut backlog), ["lost", "again", "1"]);
        assert_eq!(backlog.used, 0);
    }

    #[test]
    fn markers_do_not_pile_up() {
        let mut backlog = backlog_of(1);
        for round in 0..100 {
            add(&mut backlog, &round.to_string());
            lose(&mut backlog);
            backlog.resubscribed();
        }
        assert_eq!(taken(&mut backlog), ["missed 99", "lost", "again", "99", "lost", "again"]);
    }

    #[test]
    fn second_loss_not_reported_after_the_first_was_read() {
        let mut backlog = backlog_of(9);
        lose(&mut backlog);
        assert_eq!(taken(&mut backlog), ["lost"]);
        backlog.resubscribed();
        lose(&mut backlog);
        assert!(backlog.is_empty());
        backlog.refused(
            Subscription { scope: crate::proto::Scope::Channel, name: b"c".to_vec() },
            Error::new(Kind::Authentication, "no"),
        );
        backlog.resubscribed();
        assert_eq!(taken(&mut backlog), ["refused", "again"]);
    }
}
