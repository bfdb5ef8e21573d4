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
    senders: Mutex<HashMap<String, Sender<Utf8Bytes>>>,
    /// The rooms to which the server has confirmed a subscription.
    subscribed: watch::Sender<HashSet<String>>,
    /// Told when a room gets its first socket, and when it has lost its last one.
    changed: Notify,
}

enum Change {
    Subscribe(String),
    Unsubscribe(String),
}

impl Rooms {
    pub fn new(subscriptions: PubSubSink) -> Self {
        let (subscribed, _) = watch::channel(HashSet::new());
        Self { subscriptions, senders: Mutex::default(), subscribed, changed: Notify::new() }
    }

    /// Returns the messages of a room from now on; `None` if there is no subscription in time.
    pub async fn join(&self, room: &str) -> Option<Receiver<Utf8Bytes>> {
        let new = || broadcast::channel(ROOM_CAPACITY).0;
        let messages = self.senders().entry(room.to_owned()).or_insert_with(new).subscribe();
        self.changed.notify_one();
        let mut subscribed = self.subscribed.subscribe();
        let is_subscribed = subscribed.wait_for(|subscribed| subscribed.contains(room));
        if timeout(JOIN_BOUND, is_subscribed).await.is_ok() {
            return Some(messages);
        }
        self.leave(room, messages);
        None
    }

    pub fn leave(&self, room: &str, messages: Receiver<Utf8Bytes>) {
        drop(messages);
        let mut senders = self.senders();
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
            let result = match change {
                Change::Subscribe(room) => {
                    requested.insert(room.clone());
                    self.subscribe(room).await
                }
                Change::Unsubscribe(room) => {
                    let result = self.subscriptions.unsubscribe(channel(&room)).await;
                    result.map(|()| _ = requested.remove(&room))
                }
            };
            if let Err(error) = result {
                eprintln!("{error}");
                sleep(PAUSE).await;
            }
        }
    }

    fn next_change(&self, requested: &HashSet<String>) -> Option<Change> {
        let senders = self.senders();
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
        let mut senders = self.senders();
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
                    if let Some(sender) = self.senders().get(room) {
                        // It fails when the last socket is just leaving.
                        let _ = sender.send(text(news));
                    }
                }
                PubSubEvent::Disconnected(_) => self.tell_all(json!({ "gap": "begins" })),
                PubSubEvent::Resubscribed => self.tell_all(json!({ "gap": "ends" })),
                // This program itself was too slow. Nobody knows whose messages they were.
                PubSubEvent::Lagged { missed } => self.tell_all(json!({ "missed": missed })),
                // The server no longer allows this channel.
                PubSubEvent::Refused { name, .. } => {
                    let name = String::from_utf8_lossy(&name);
                    self.close(name.strip_prefix(PREFIX).unwrap_or_default());
                }
                _ => {}
            }
        }
    }

    fn tell_all(&self, news: Value) {
        let news = text(news);
        for sender in self.senders().values() {
            let _ = sender.send(news.clone());
        }
    }

    fn senders(&self) -> MutexGuard<'_, HashMap<String, Sender<Utf8Bytes>>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the text of an object for sockets.
pub fn text(value: Value) -> Utf8Bytes {
    value.to_string().into()
}
