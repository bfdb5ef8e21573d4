//! The task of a subscriber: it keeps one connection to the current master, subscribes there, and passes on the
//! messages.

mod backlog;
mod event;
mod handover;
mod inbox;
mod login;

use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use futures_lite::future;
use redis::{Cmd, ServerError, Value};

use crate::conn::raw_connection::RawConnection;
use crate::conn::reconnect_backoff::ReconnectBackoff;
use crate::error::{Error, Kind};
use crate::node::core::Core;
use crate::node::shard::Shard;
use crate::proto::Skipped;
use crate::proto::pubsub::{SubscriberEvent, SubscriptionChange, Subscriptions};
use crate::tasks::shared_connection;
use crate::time::{sleep, sleep_until};
use crate::topology::CurrentMaster;
use login::LoginRetry;

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
    let _guard = EndGuard { inbox: Arc::clone(&inbox), requests: requests.clone() };
    let subscriptions = Subscriptions::new();
    let mut subscriber =
        Subscriber { core, shard, inbox, requests, subscriptions, refused_login: None, login_retry: None };
    let gone = async { _ = reader.recv().await };
    future::or(subscriber.run(), gone).await;
}

/// Ends the stream and the pending requests, also when the runtime drops the task.
struct EndGuard {
    inbox: Arc<Inbox>,
    requests: Receiver<SubscriptionRequest>,
}

impl Drop for EndGuard {
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
    /// A refused login that is not reported yet.
    refused_login: Option<ServerError>,
    /// When to try again after a login that has failed.
    login_retry: Option<LoginRetry>,
}

/// A value that the server sent, or why it was skipped.
type Received = Result<Value, Skipped>;

/// What happened on a connection.
enum Step {
    Received(Received),
    Request(SubscriptionRequest),
    /// The server has been silent for as long as it may.
    Silence,
    /// The settings may have changed.
    Recheck,
    /// The credentials have changed, or a login that has failed is tried again.
    LoginDue,
}

/// After this time, an idle subscriber looks at its settings again.
const RECHECK: Duration = Duration::from_secs(60);

/// How many times the allowed silence may pass with messages only before an outstanding confirmation arrives.
const MAX_MESSAGE_INTERVALS: u32 = 3;

/// Since when the server of a connection has been silent.
struct SilenceTimer {
    quiet_since: Instant,
    /// Since when a confirmation has been outstanding.
    owed_since: Instant,
}

impl SilenceTimer {
    fn new(now: Instant) -> Self {
        Self { quiet_since: now, owed_since: now }
    }

    /// Records a confirmation, or that one is outstanding from now on.
    fn restart(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Records a message while a confirmation is outstanding. The confirmation may come after many messages, but not
    /// without limit, and not after anything else.
    fn on_message(&mut self, now: Instant, timeout: Duration) {
        if now < self.owed_since + MAX_MESSAGE_INTERVALS * timeout {
            self.quiet_since = now;
        }
    }
}

impl Subscriber {
    async fn run(&mut self) {
        let (core, shard) = (Arc::clone(&self.core), Arc::clone(&self.shard));
        let mut reconnect = ReconnectBackoff::default();
        while let Some(master) = self.offline(shard.current_master()).await {
            let mut login_version = core.data.login.version();
            let attempt = shared_connection::connect_to_master(&core, &shard, &master);
            match self.offline(shard.until_master_changes(master.generation, attempt)).await {
                None => {
                    reconnect.switched();
                    continue;
                }
                Some(Ok((raw, _))) => {
                    let opened = core.runtime.now();
                    self.connected(&master, raw).await;
                    reconnect.lost(core.runtime.now() - opened);
                    // Only a failed attempt is repeated at once when the credentials change.
                    login_version = core.data.login.version();
                }
                Some(Err(error)) if shared_connection::is_outdated_refusal(&core, &error, login_version) => {
                    continue;
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "cannot connect the subscriber");
                    reconnect.failed(&error);
                    self.inbox.set_failure(Some(error));
                    self.update_requests();
                }
            }
            let pause = sleep(&*core.runtime, reconnect.pause(core.runtime.random()));
            let new_login = core.data.login.changed_since(login_version);
            let news = future::or(shard.master_changed(master.generation), new_login);
            self.offline(future::or(pause, news)).await;
        }
    }

    // Without a connection.

    /// Accepts requests while `work` is in progress.
    async fn offline<T>(&mut self, work: impl Future<Output = T>) -> T {
        let shard = Arc::clone(&self.shard);
        let accept_requests = async {
            loop {
                let request = async { Some(next_request(&self.requests).await) };
                let permanent_failure = async {
                    match self.subscriptions.is_waiting() {
                        true => shard.fails_permanently().await,
                        false => pending().await,
                    }
                    None
                };
                if let Some(request) = future::or(request, permanent_failure).await {
                    self.subscriptions.request(request);
                }
                self.update_requests();
            }
        };
        future::or(work, accept_requests).await
    }

    /// Fails requests that cannot succeed, and keeps those whose callers are gone.
    fn update_requests(&mut self) {
        match self.inbox.failure().filter(Error::is_permanent).or_else(|| self.shard.permanent_failure()) {
            Some(error) => self.subscriptions.fail(&error),
            None => drop(self.subscriptions.remember(Sender::is_closed)),
        }
        self.send_outcomes();
    }

    // On a connection.

    /// Serves the reader until the connection ends, or the master changes.
    async fn connected(&mut self, master: &CurrentMaster, raw: RawConnection) {
        let (core, shard) = (Arc::clone(&self.core), Arc::clone(&self.shard));
        let Some(_counted) = core.lifecycle.count() else { return };
        self.inbox.set_failure(None);
        self.login_retry = None;
        tracing::info!(address = %master.address, generation = %master.generation, "subscriber connected");
        let switched = async {
            shard.master_changed(master.generation).await;
            Err(Error::new(Kind::NotMaster, format!("{} is no longer the master", master.address)))
        };
        let Err(why) = future::or(self.serve(raw, master), switched).await;
        let why = core.data.hide_secrets(why);
        tracing::info!(address = %master.address, %why, "subscriber disconnected");
        if !self.subscriptions.is_empty() && shard.check_open().is_ok() {
            self.inbox.add(|backlog| backlog.lost(why));
        }
        self.subscriptions.disconnected();
        self.send_outcomes();
    }

    async fn serve(&mut self, mut raw: RawConnection, master: &CurrentMaster) -> Result<Infallible, Error> {
        let runtime = Arc::clone(&self.core.runtime);
        raw.buffer(&self.subscriptions.restore());
        self.check_restored();
        let mut silence = SilenceTimer::new(runtime.now());
        loop {
            if self.is_login_due(&raw) {
                self.renew_login(&mut raw, &mut silence, master).await?;
            }
            self.send_requests(&mut raw, &mut silence);
            match self.next_step(&mut raw, &silence).await? {
                Step::Request(request) => self.subscriptions.request(request),
                Step::Received(received) => {
                    self.on_received(received, &mut raw, &mut silence)?;
                    self.report_refused_login(master);
                }
                Step::Recheck => {}
                Step::Silence if self.subscriptions.has_pending() => return Err(self.unconfirmed(master)),
                Step::Silence => {
                    raw.buffer(&[self.subscriptions.ping()]);
                    silence.quiet_since = runtime.now();
                }
                Step::LoginDue => {}
            }
        }
    }

    /// Stages the waiting requests for sending.
    fn send_requests(&mut self, raw: &mut RawConnection, silence: &mut SilenceTimer) {
        while let Ok(request) = self.requests.try_recv() {
            self.subscriptions.request(request);
        }
        self.buffer(raw, silence, Subscriptions::send);
        self.send_outcomes();
    }

    /// Buffers commands, after which confirmations may be outstanding.
    fn buffer<T: AsRef<[Cmd]>>(
        &mut self,
        raw: &mut RawConnection,
        silence: &mut SilenceTimer,
        commands: impl FnOnce(&mut Subscriptions<Waiter>) -> T,
    ) {
        let was_owed = self.subscriptions.has_pending();
        raw.buffer(commands(&mut self.subscriptions).as_ref());
        if !was_owed && self.subscriptions.has_pending() {
            silence.restart(self.core.runtime.now());
        }
    }

    /// Handles what was received, and everything else that the connection has already read, up to the marker of a
    /// handover.
    fn on_received(
        &mut self,
        received: Received,
        raw: &mut RawConnection,
        silence: &mut SilenceTimer,
    ) -> Result<(), Error> {
        let (owed, now) = (self.subscriptions.pending_replies(), self.core.runtime.now());
        let mut is_message = self.handle(received)?;
        while !self.subscriptions.has_marker() {
            let Some(received) = raw.try_receive()? else { break };
            is_message |= self.handle(received)?;
        }
        if owed == 0 || self.subscriptions.pending_replies() != owed {
            silence.restart(now);
        } else if is_message {
            silence.on_message(now, self.core.config().socket_timeout());
        }
        Ok(())
    }

    /// Returns the error for a confirmation that did not come in time.
    fn unconfirmed(&self, master: &CurrentMaster) -> Error {
        let timeout = self.core.config().socket_timeout();
        let message = format!("{} sent no confirmation within {timeout:?}", master.address);
        Error::new(Kind::Timeout, message)
    }

    async fn next_step(&self, raw: &mut RawConnection, silence: &SilenceTimer) -> Result<Step, Error> {
        let config = self.core.config();
        let timeout = match self.subscriptions.has_pending() {
            true => Some(config.socket_timeout()),
            false => Some(config.health_check_interval()).filter(|interval| !interval.is_zero()),
        };
        let login_due = self.until_login_is_due(raw.login_version());
        let received = async { raw.receive().await.map(Step::Received) };
        let request = async { Ok(Step::Request(next_request(&self.requests).await)) };
        // A shorter interval may be set meanwhile.
        let recheck_at = self.core.runtime.now() + RECHECK;
        let silent_at = timeout.map(|timeout| silence.quiet_since + timeout);
        let silent = async {
            sleep_until(&*self.core.runtime, silent_at.map_or(recheck_at, |at| at.min(recheck_at))).await;
            Ok(if silent_at.is_some_and(|at| at <= recheck_at) { Step::Silence } else { Step::Recheck })
        };
        let login_due = async {
            login_due.await;
            Ok(Step::LoginDue)
        };
        future::or(received, future::or(request, future::or(login_due, silent))).await
    }

    /// Handles a message or a confirmation. Returns true if it was a message.
    fn handle(&mut self, received: Received) -> Result<bool, Error> {
        let value = match received {
            Ok(value) => value,
            Err(skipped) => {
                tracing::warn!(%skipped, "message dropped");
                self.inbox.add(|backlog| backlog.too_large());
                return Ok(true);
            }
        };
        let restored = self.subscriptions.is_restored();
        let event = self.subscriptions.receive(value)?;
        let is_message = matches!(event, Some(SubscriberEvent::Message(..)));
        self.pass_on(event);
        if !restored {
            self.check_restored();
        }
        Ok(is_message)
    }

    fn pass_on(&mut self, event: Option<SubscriberEvent>) {
        match event {
            None => {}
            Some(SubscriberEvent::Message(message, size)) => {
                self.inbox.add(|backlog| backlog.message(message, size))
            }
            Some(SubscriberEvent::LoginRefused(refusal)) => self.refused_login = Some(refusal),
            Some(SubscriberEvent::Refused(subscription, error)) => {
                let error = self.core.data.hide_secrets(error);
                tracing::warn!(%error, "the server refused a subscription; giving it up");
                self.inbox.add(|backlog| backlog.refused(subscription, error));
            }
        }
    }

    fn check_restored(&self) {
        if self.subscriptions.is_restored() {
            self.inbox.add(|backlog| backlog.resubscribed());
        }
    }

    /// Sends callers the outcomes of their requests.
    fn send_outcomes(&mut self) {
        for (waiter, outcome) in self.subscriptions.settled() {
            if let Err(async_channel::TrySendError::Closed(Err(error))) = waiter.try_send(outcome) {
                let error = self.core.data.hide_secrets(error);
                tracing::warn!(%error, "the server refused a subscription whose caller is gone");
            }
        }
    }
}

/// Waits for the next request. The stream holds a sender, so the channel stays open.
async fn next_request(requests: &Receiver<SubscriptionRequest>) -> SubscriptionRequest {
    match requests.recv().await {
        Ok(request) => request,
        Err(_) => pending().await,
    }
}
