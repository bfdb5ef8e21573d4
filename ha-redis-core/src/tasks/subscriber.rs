//! The task of a subscriber: it keeps one connection to the current master, subscribes there, and passes on the
//! messages.

mod backlog;
mod event;
mod inbox;

use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Instant;

use async_channel::{Receiver, Sender};
use futures_lite::future;
use redis::Value;

use crate::conn::raw_connection::RawConnection;
use crate::conn::reconnect_backoff::ReconnectBackoff;
use crate::error::{Error, Kind};
use crate::node::core::Core;
use crate::node::shard::Shard;
use crate::proto::Skipped;
use crate::proto::pubsub::{News, SubscriptionChange, Subscriptions};
use crate::tasks::shared_connection;
use crate::time::{sleep, sleep_until};
use crate::topology::CurrentMaster;

pub use event::PubSubEvent;
pub(crate) use inbox::Inbox;

type Waiter = Sender<Result<(), Error>>;

/// A request of a handle to the task.
pub(crate) type SubscriptionRequest = SubscriptionChange<Waiter>;

/// Runs until the client is closed or the `reader` is gone.
pub(crate) async fn run(
    core: Arc<Core>,
    shard: Arc<Shard>,
    inbox: Arc<Inbox>,
    requests: Receiver<SubscriptionRequest>,
    reader: Receiver<()>,
) {
    let _ends = Ends { inbox: Arc::clone(&inbox), requests: requests.clone() };
    let mut subscriber = Subscriber { core, shard, inbox, requests, subscriptions: Subscriptions::new() };
    let gone = async { _ = reader.recv().await };
    future::or(subscriber.keep(), gone).await;
}

/// Ends the stream and the pending requests, also when the runtime drops the task.
struct Ends {
    inbox: Arc<Inbox>,
    requests: Receiver<SubscriptionRequest>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.requests.close();
        while self.requests.try_recv().is_ok() {}
        self.inbox.end();
    }
}

struct Subscriber {
    core: Arc<Core>,
    shard: Arc<Shard>,
    inbox: Arc<Inbox>,
    requests: Receiver<SubscriptionRequest>,
    subscriptions: Subscriptions<Waiter>,
}

/// What happened on a connection.
enum Step {
    Heard(Result<Value, Skipped>),
    Told(SubscriptionRequest),
    /// The server has been silent for as long as it may.
    Silence,
}

/// How many times the allowed silence may pass with messages only before an outstanding confirmation arrives.
const MESSAGES_BEFORE: u32 = 3;

impl Subscriber {
    async fn keep(&mut self) {
        let (core, shard) = (Arc::clone(&self.core), Arc::clone(&self.shard));
        let mut reconnect = ReconnectBackoff::default();
        while let Some(followed) = self.offline(shard.current_master()).await {
            let attempt = async { Some(shared_connection::reach(&core, &shard, &followed).await) };
            let switched = async {
                shard.master_changed(followed.generation).await;
                None
            };
            match self.offline(future::or(attempt, switched)).await {
                None => {
                    reconnect.switched();
                    continue;
                }
                Some(Ok((raw, _))) => {
                    let opened = core.runtime.now();
                    self.connected(&followed, raw).await;
                    reconnect.lost(core.runtime.now() - opened);
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "no connection for a subscriber");
                    reconnect.failed(&error);
                    self.inbox.set_failure(Some(error));
                    self.tend();
                }
            }
            let pause = sleep(&*core.runtime, reconnect.pause(core.runtime.random()));
            self.offline(future::or(pause, shard.master_changed(followed.generation))).await;
        }
    }

    // Without a connection.

    /// Accepts requests while `work` is in progress.
    async fn offline<T>(&mut self, work: impl Future<Output = T>) -> T {
        let shard = Arc::clone(&self.shard);
        let take_orders = async {
            loop {
                let order = async { Some(next_order(&self.requests).await) };
                let permanent_failure = async {
                    match self.subscriptions.is_waiting() {
                        true => shard.fails_permanently().await,
                        false => pending().await,
                    }
                    None
                };
                if let Some(order) = future::or(order, permanent_failure).await {
                    self.subscriptions.ask(order);
                }
                self.tend();
            }
        };
        future::or(work, take_orders).await
    }

    /// Fails requests that cannot succeed, and keeps those whose callers are gone.
    fn tend(&mut self) {
        match self.inbox.failure().filter(Error::is_permanent).or_else(|| self.shard.permanent_failure()) {
            Some(error) => self.subscriptions.fail(&error),
            None => drop(self.subscriptions.remember(Sender::is_closed)),
        }
        self.settle();
    }

    // On a connection.

    /// Serves the reader until the connection ends, or the master changes.
    async fn connected(&mut self, followed: &CurrentMaster, raw: RawConnection) {
        let (core, shard) = (Arc::clone(&self.core), Arc::clone(&self.shard));
        let Some(_counted) = core.lifecycle.count() else { return };
        self.inbox.set_failure(None);
        tracing::info!(address = %followed.address, generation = %followed.generation, "subscriber connected");
        let switched = async {
            shard.master_changed(followed.generation).await;
            Err(Error::new(Kind::NotMaster, format!("{} is not followed any more", followed.address)))
        };
        let Err(why) = future::or(self.carry(raw, followed), switched).await;
        let why = core.data.hide_secrets(why);
        tracing::info!(address = %followed.address, %why, "subscriber disconnected");
        if !self.subscriptions.is_empty() && shard.check_open().is_ok() {
            self.inbox.add(|backlog| backlog.lost(why));
        }
        self.subscriptions.disconnected();
        self.settle();
    }

    async fn carry(&mut self, mut raw: RawConnection, followed: &CurrentMaster) -> Result<Infallible, Error> {
        let runtime = Arc::clone(&self.core.runtime);
        raw.stage(&self.subscriptions.restore());
        self.check_restored();
        // Since when the server has been silent, or a confirmation has been outstanding.
        let mut quiet_since = runtime.now();
        let mut owed_since = quiet_since;
        loop {
            while let Ok(order) = self.requests.try_recv() {
                self.subscriptions.ask(order);
            }
            let owed = self.subscriptions.is_owed();
            raw.stage(&self.subscriptions.send());
            if !owed && self.subscriptions.is_owed() {
                (quiet_since, owed_since) = (runtime.now(), runtime.now());
            }
            self.settle();
            match self.next_step(&mut raw, quiet_since).await? {
                Step::Told(order) => self.subscriptions.ask(order),
                Step::Heard(heard) => {
                    let (owed, now) = (self.subscriptions.owed(), runtime.now());
                    let mut is_message = self.hear(heard)?;
                    while let Some(heard) = raw.try_receive()? {
                        is_message |= self.hear(heard)?;
                    }
                    // A confirmation may come after many messages, but not without limit, and not after anything
                    // else.
                    if owed == 0 || self.subscriptions.owed() != owed {
                        (quiet_since, owed_since) = (now, now);
                    } else if is_message
                        && now < owed_since + MESSAGES_BEFORE * self.core.config.socket_timeout()
                    {
                        quiet_since = now;
                    }
                }
                Step::Silence if self.subscriptions.is_owed() => {
                    let patience = self.core.config.socket_timeout();
                    let message =
                        format!("{} owed an answer and sent nothing for {patience:?}", followed.address);
                    return Err(Error::new(Kind::Timeout, message));
                }
                Step::Silence => {
                    raw.stage(&[self.subscriptions.ping()]);
                    quiet_since = runtime.now();
                }
            }
        }
    }

    async fn next_step(&self, raw: &mut RawConnection, quiet_since: Instant) -> Result<Step, Error> {
        let config = &self.core.config;
        let patience = match self.subscriptions.is_owed() {
            true => Some(config.socket_timeout()),
            false => Some(config.health_check_interval()).filter(|interval| !interval.is_zero()),
        };
        let heard = async { raw.receive().await.map(Step::Heard) };
        let told = async { Ok(Step::Told(next_order(&self.requests).await)) };
        let silence = async {
            match patience {
                Some(patience) => sleep_until(&*self.core.runtime, quiet_since + patience).await,
                None => pending().await,
            }
            Ok(Step::Silence)
        };
        future::or(heard, future::or(told, silence)).await
    }

    /// Handles a message or a confirmation. Returns true if it was a message.
    fn hear(&mut self, heard: Result<Value, Skipped>) -> Result<bool, Error> {
        let value = match heard {
            Ok(value) => value,
            Err(skipped) => {
                tracing::warn!(%skipped, "a message is missed");
                self.inbox.add(|backlog| backlog.too_large());
                return Ok(true);
            }
        };
        let restored = self.subscriptions.is_restored();
        let news = self.subscriptions.hear(value)?;
        let is_message = matches!(news, Some(News::Message(..)));
        match news {
            None => {}
            Some(News::Message(message, size)) => self.inbox.add(|backlog| backlog.message(message, size)),
            Some(News::Refused(subscription, error)) => {
                let error = self.core.data.hide_secrets(error);
                tracing::warn!(%error, "a subscription is given up");
                self.inbox.add(|backlog| backlog.refused(subscription, error));
            }
        }
        if !restored {
            self.check_restored();
        }
        Ok(is_message)
    }

    fn check_restored(&self) {
        if self.subscriptions.is_restored() {
            self.inbox.add(|backlog| backlog.resubscribed());
        }
    }

    /// Sends callers the outcomes of their requests.
    fn settle(&mut self) {
        for (waiter, outcome) in self.subscriptions.settled() {
            if let Err(async_channel::TrySendError::Closed(Err(error))) = waiter.try_send(outcome) {
                let error = self.core.data.hide_secrets(error);
                tracing::warn!(%error, "a subscription that nobody waits for was refused");
            }
        }
    }
}

/// Waits for the next request. The stream holds a sender, so the channel stays open.
async fn next_order(requests: &Receiver<SubscriptionRequest>) -> SubscriptionRequest {
    match requests.recv().await {
        Ok(order) => order,
        Err(_) => pending().await,
    }
}
