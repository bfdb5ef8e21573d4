//! The rooms that have sockets, and the one subscriber of Redis behind them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use ha_redis_tokio::{Error, PubSubEvent, PubSubSink, PubSubStream};
use serde_json::{Value, json};
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// The largest message.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// How many messages a room keeps for sockets that are behind: with the largest ones, some 4 MiB.
const ROOM_CAPACITY: usize = 64;

const PREFIX: &str = "room:";

/// How long a socket waits for its room's subscription.
const JOIN_BOUND: Duration = Duration::from_secs(10);

/// The pause after a request to the server that has failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Returns the name of a room's channel.
pub fn channel(room: &str) -> String {
    format!("{PREFIX}{room}")
}

/// The rooms that have sockets. Each has a channel of Redis with its name.
pub struct Rooms {
    subscriptions: PubSubSink,
    open: Mutex<OpenRooms>,
    /// The rooms to which the server has confirmed a subscription.
    subscribed: watch::Sender<HashSet<String>>,
    /// Told when a room gets its first socket, and when it has lost its last one.
    changed: Notify,
}

#[derive(Default)]
struct OpenRooms {
    senders: HashMap<String, Sender<Utf8Bytes>>,
    /// Whether the subscriber is without a connection.
    in_gap: bool,
}

enum Change {
    Subscribe(String),
    Unsubscribe(String),
}

impl Rooms {
    pub fn new(subscriptions: PubSubSink) -> Self {
        let (subscribed, _) = watch::channel(HashSet::new());
        Self { subscriptions, open: Mutex::default(), subscribed, changed: Notify::new() }
    }

    /// Returns the messages of a room from now on, and whether they begin in a gap; `None` if there is no subscription in
    /// time.
    pub async fn join(&self, room: &str) -> Option<(Receiver<Utf8Bytes>, bool)> {
        let (messages, in_gap) = self.open().receiver(room);
        self.changed.notify_one();
        let mut subscribed = self.subscribed.subscribe();
        let is_subscribed = subscribed.wait_for(|subscribed| subscribed.contains(room));
        if timeout(JOIN_BOUND, is_subscribed).await.is_ok() {
            return Some((messages, in_gap));
        }
        self.leave(room, messages);
        None
    }

    pub fn leave(&self, room: &str, messages: Receiver<Utf8Bytes>) {
        drop(messages);
        let senders = &mut self.open().senders;
        if senders.get(room).is_some_and(|sender| sender.receiver_count() == 0) {
            senders.remove(room);
            self.changed.notify_one();
        }
    }

    /// Subscribes to the channels of the rooms that have sockets, and to no others. Only this task does so, one change
    /// after the other: sockets come and go meanwhile, and nobody but who joins waits for Redis.
    pub async fn keep_subscribed(&self) {
        // Also those that have failed: the client still subscribes when it can.
        let mut requested = HashSet::new();
        loop {
            let Some(change) = self.next_change(&requested) else {
                self.changed.notified().await;
                continue;
            };
            let (what, result) = match change {
                Change::Subscribe(room) => {
                    requested.insert(room.clone());
                    (format!("subscribe to room {room:?}"), self.subscribe(room).await)
                }
                Change::Unsubscribe(room) => {
                    let result = self.subscriptions.unsubscribe(channel(&room)).await;
                    let result = result.map(|()| _ = requested.remove(&room));
                    (format!("unsubscribe from room {room:?}"), result)
                }
            };
            if let Err(error) = result {
                eprintln!("cannot {what}: {error}");
                sleep(PAUSE).await;
            }
        }
    }

    fn next_change(&self, requested: &HashSet<String>) -> Option<Change> {
        let senders = &self.open().senders;
        // Whoever joins one of these again waits for a new subscription. Nobody waits for the end of one.
        self.subscribed.send_if_modified(|subscribed| {
            subscribed.retain(|room| senders.contains_key(room));
            false
        });
        let subscribed = self.subscribed.borrow();
        if let Some(room) = senders.keys().find(|room| !subscribed.contains(*room)) {
            return Some(Change::Subscribe(room.clone()));
        }
        requested.iter().find(|room| !senders.contains_key(*room)).cloned().map(Change::Unsubscribe)
    }

    async fn subscribe(&self, room: String) -> Result<(), Error> {
        let result = self.subscriptions.subscribe(channel(&room)).await;
        match &result {
            Ok(()) => self.subscribed.send_modify(|subscribed| _ = subscribed.insert(room)),
            Err(error) if error.is_permission_denied() => self.close(&room),
            Err(_) => {}
        }
        result
    }

    /// Closes the sockets of a room, which lose their sender. Whoever joins it again waits for a new subscription.
    fn close(&self, room: &str) {
        let senders = &mut self.open().senders;
        senders.remove(room);
        self.subscribed.send_if_modified(|subscribed| {
            subscribed.remove(room);
            false
        });
        self.changed.notify_one();
    }

    /// Passes everything that happens to the subscriber on to the rooms, until the client is closed.
    pub async fn pass_on(&self, mut events: PubSubStream) {
        while let Some(event) = events.next().await {
            match event {
                PubSubEvent::Message(message) => {
                    let published = message.get_payload_bytes();
                    // Others may publish to the channel too.
                    let news = match published.len() <= MAX_MESSAGE_BYTES {
                        true => json!({ "message": String::from_utf8_lossy(published) }),
                        false => json!({ "missed": 1 }),
                    };
                    let room = message.get_channel_name().strip_prefix(PREFIX).unwrap_or_default();
                    if let Some(sender) = self.open().senders.get(room) {
                        // It fails when the last socket is just leaving.
                        let _ = sender.send(text(news));
                    }
                }
                PubSubEvent::Disconnected(_) => self.begin_gap(),
                PubSubEvent::Resubscribed => self.end_gap(),
                // This program itself was too slow. Nobody knows whose messages they were.
                PubSubEvent::Lagged { missed } => self.open().tell_all(&text(json!({ "missed": missed }))),
                // The server no longer allows this channel.
                PubSubEvent::Refused { name, .. } => {
                    let name = String::from_utf8_lossy(&name);
                    self.close(name.strip_prefix(PREFIX).unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    fn begin_gap(&self) {
        let mut open = self.open();
        open.in_gap = true;
        open.tell_all(&gap_begins());
    }

    fn end_gap(&self) {
        let mut open = self.open();
        open.in_gap = false;
        open.tell_all(&text(json!({ "gap": "ends" })));
    }

    fn open(&self) -> MutexGuard<'_, OpenRooms> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenRooms {
    /// Returns the messages of a room from now on, and whether they begin in a gap.
    fn receiver(&mut self, room: &str) -> (Receiver<Utf8Bytes>, bool) {
        let new = || broadcast::channel(ROOM_CAPACITY).0;
        (self.senders.entry(room.to_owned()).or_insert_with(new).subscribe(), self.in_gap)
    }

    fn tell_all(&self, news: &Utf8Bytes) {
        for sender in self.senders.values() {
            let _ = sender.send(news.clone());
        }
    }
}

/// Returns what sockets are told when a gap begins, or when they join within one.
pub fn gap_begins() -> Utf8Bytes {
    text(json!({ "gap": "begins" }))
}

/// Returns the text of an object for sockets.
pub fn text(value: Value) -> Utf8Bytes {
    value.to_string().into()
}
