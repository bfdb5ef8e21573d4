//! The handles for receiving published messages.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_channel::Sender;
use futures_core::Stream;
use futures_lite::StreamExt;
use redis::ToRedisArgs;

use crate::error::{Error, Kind, Outcome};
use crate::node::core::ClientGuard;
use crate::proto::Scope;
use crate::proto::pubsub::{Verb, command_text};
use crate::tasks::start::start;
use crate::tasks::subscriber::{self, Inbox, PubSubEvent, SubscriptionRequest};
use crate::time::{Elapsed, until};

/// A subscriber, from [`Client::pubsub`](crate::Client::pubsub): a [`Stream`] of [`PubSubEvent`]s.
///
/// A subscriber has its own connection to the master, whichever server that is. `max_connections` does not count this
/// connection, so callers cannot keep a subscriber from reconnecting. When the connection is lost, the subscriber makes
/// another one (at once after a switch to another master) and subscribes to everything again. Redis keeps no messages
/// for disconnected subscribers: messages published in the meantime are lost, and the stream reports that with
/// [`PubSubEvent::Disconnected`] and [`PubSubEvent::Resubscribed`].
///
/// Methods that subscribe take one name or many: `"news"`, `&["news", "sports"]`, a `Vec<String>`. They return once
/// the server has confirmed, and at the latest after `failover_wait` and `socket_timeout` together, or `call_timeout`
/// if that is shorter. [`PubSub::split`] lets one task read while others subscribe.
///
/// ```
/// use ha_redis_core::{Client, PubSubEvent};
///
/// # async fn listen(client: Client) -> Result<(), Box<dyn std::error::Error>> {
/// let mut sub = client.pubsub().await?;
/// sub.subscribe("news").await?;
/// sub.psubscribe(&["sports.*", "weather.*"]).await?;
/// while let Some(event) = sub.next().await {
///     match event {
///         PubSubEvent::Message(message) => {
///             println!("{}: {}", message.get_channel_name(), message.get_payload::<String>()?);
///         }
///         PubSubEvent::Resubscribed => println!("messages published in the meantime are lost"),
///         event => println!("{event:?}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Methods that subscribe and unsubscribe fail when:
/// - The server refuses. [`Error::is_permission_denied`] is true if a permission is missing, and the error names it.
///   The call has subscribed to nothing.
/// - There was no connection, or no confirmation, in time. The client still subscribes as soon as there is a
///   connection; unsubscribe to cancel that.
/// - The client is closed.
///
/// # Cancellation safety
/// Dropping [`PubSub::next`], or not polling the stream, loses no event. A call that subscribes or unsubscribes takes
/// effect even if it is dropped.
///
/// Dropping the `PubSub`, or the [`PubSubStream`] of one that was split, ends its connection.
#[derive(Debug)]
pub struct PubSub {
    sink: PubSubSink,
    stream: PubSubStream,
}

/// The half of a [`PubSub`] that subscribes. Its methods are those of `PubSub`, with the same errors and cancellation
/// safety. Clones belong to the same subscriber.
#[derive(Clone, Debug)]
pub struct PubSubSink {
    core: Arc<ClientGuard>,
    inbox: Arc<Inbox>,
    requests: Sender<SubscriptionRequest>,
}

/// The half of a [`PubSub`] that reads. Dropping it ends the connection.
#[derive(Debug)]
pub struct PubSubStream {
    inbox: Arc<Inbox>,
    /// Keeps the client running, and the task of the connection.
    _sink: PubSubSink,
    _reader: Sender<()>,
}

impl PubSub {
    /// Starts a subscriber and waits for its connection.
    pub(crate) async fn open(core: &Arc<ClientGuard>) -> Result<Self, Error> {
        start(core, None).await?;
        core.lifecycle.check_open()?;
        let inbox = Arc::new(Inbox::new(core.config().pubsub_buffer_bytes()));
        let (requests, ordered) = async_channel::bounded(1);
        let (reader, gone) = async_channel::bounded(1);
        let task = subscriber::run(Arc::clone(core), core.first_shard(), Arc::clone(&inbox), ordered, gone);
        core.spawn(Box::pin(task))?;
        let sink = PubSubSink { core: Arc::clone(core), inbox: Arc::clone(&inbox), requests };
        let stream = PubSubStream { inbox, _sink: sink.clone(), _reader: reader };
        sink.request(Verb::Subscribe, Scope::Channel, Vec::new()).await?;
        Ok(Self { sink, stream })
    }

    /// Splits it into the subscribing and the reading half.
    pub fn split(self) -> (PubSubSink, PubSubStream) {
        (self.sink, self.stream)
    }

    /// Returns the next message or other event, in order; `None` when the client is closed and everything has been
    /// read.
    pub async fn next(&mut self) -> Option<PubSubEvent> {
        self.stream.next().await
    }

    /// Subscribes to channels.
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn subscribe(&self, channels: impl ToRedisArgs) -> Result<(), Error> {
        self.sink.subscribe(channels).await
    }

    /// Ends subscriptions to channels. Messages that arrived before can still be read.
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn unsubscribe(&self, channels: impl ToRedisArgs) -> Result<(), Error> {
        self.sink.unsubscribe(channels).await
    }

    /// Subscribes to all channels whose names match the patterns, such as `news.*`.
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn psubscribe(&self, patterns: impl ToRedisArgs) -> Result<(), Error> {
        self.sink.psubscribe(patterns).await
    }

    /// Ends subscriptions to patterns, which must be written as they were subscribed.
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn punsubscribe(&self, patterns: impl ToRedisArgs) -> Result<(), Error> {
        self.sink.punsubscribe(patterns).await
    }

    /// Subscribes to shard channels, to which `SPUBLISH` publishes. Needs Redis 7.
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn ssubscribe(&self, channels: impl ToRedisArgs) -> Result<(), Error> {
        self.sink.ssubscribe(channels).await
    }

    /// Ends subscriptions to shard channels.
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn sunsubscribe(&self, channels: impl ToRedisArgs) -> Result<(), Error> {
        self.sink.sunsubscribe(channels).await
    }
}

impl Stream for PubSub {
    type Item = PubSubEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PubSubEvent>> {
        self.stream.poll_next(cx)
    }
}

impl PubSubStream {
    /// See [`PubSub::next`].
    pub async fn next(&mut self) -> Option<PubSubEvent> {
        StreamExt::next(self).await
    }
}

impl Stream for PubSubStream {
    type Item = PubSubEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PubSubEvent>> {
        self.inbox.poll_take(cx)
    }
}

impl PubSubSink {
    /// See [`PubSub::subscribe`].
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn subscribe(&self, channels: impl ToRedisArgs) -> Result<(), Error> {
        self.ask(Verb::Subscribe, Scope::Channel, channels.to_redis_args()).await
    }

    /// See [`PubSub::unsubscribe`].
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn unsubscribe(&self, channels: impl ToRedisArgs) -> Result<(), Error> {
        self.ask(Verb::Unsubscribe, Scope::Channel, channels.to_redis_args()).await
    }

    /// See [`PubSub::psubscribe`].
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn psubscribe(&self, patterns: impl ToRedisArgs) -> Result<(), Error> {
        self.ask(Verb::Subscribe, Scope::Pattern, patterns.to_redis_args()).await
    }

    /// See [`PubSub::punsubscribe`].
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn punsubscribe(&self, patterns: impl ToRedisArgs) -> Result<(), Error> {
        self.ask(Verb::Unsubscribe, Scope::Pattern, patterns.to_redis_args()).await
    }

    /// See [`PubSub::ssubscribe`].
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn ssubscribe(&self, channels: impl ToRedisArgs) -> Result<(), Error> {
        self.ask(Verb::Subscribe, Scope::ShardChannel, channels.to_redis_args()).await
    }

    /// See [`PubSub::sunsubscribe`].
    ///
    /// # Errors
    /// See [`PubSub`](PubSub#errors).
    pub async fn sunsubscribe(&self, channels: impl ToRedisArgs) -> Result<(), Error> {
        self.ask(Verb::Unsubscribe, Scope::ShardChannel, channels.to_redis_args()).await
    }

    async fn ask(&self, verb: Verb, scope: Scope, names: Vec<Vec<u8>>) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let what = command_text(verb, scope, &names);
        self.request(verb, scope, names).await.map_err(|error| error.during(what))
    }

    /// Sends a request to the task of the connection, and waits for its outcome.
    async fn request(&self, verb: Verb, scope: Scope, names: Vec<Vec<u8>>) -> Result<(), Error> {
        let config = self.core.config();
        let timeout = config.failover_wait() + config.socket_timeout();
        let timeout = config.call_timeout().map_or(timeout, |call_timeout| call_timeout.min(timeout));
        let runtime = &*self.core.runtime;
        let (waiter, settled) = async_channel::bounded(1);
        let order = SubscriptionRequest { verb, scope, names, waiter };
        let exchange = async {
            self.requests.send(order).await.ok()?;
            settled.recv().await.ok()
        };
        match until(runtime, runtime.now() + timeout, exchange).await {
            Ok(Some(settled)) => settled,
            Ok(None) => Err(self.core.lifecycle.check_open().err().unwrap_or_else(ended)),
            Err(Elapsed) => Err(match self.inbox.failure() {
                Some(failure) => failure.during(format!("no connection could be made within {timeout:?}")),
                None => {
                    let message = format!("the server did not confirm within {timeout:?}");
                    Error::new(Kind::Timeout, message).with_outcome(Outcome::MaybeApplied)
                }
            }),
        }
    }
}

fn ended() -> Error {
    Error::new(Kind::Closed, "the stream of this PubSub was dropped; create another one with client.pubsub()")
}
