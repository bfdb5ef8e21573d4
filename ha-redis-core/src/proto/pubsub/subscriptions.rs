//! The subscriptions of one subscriber across its connections.

use std::collections::{BTreeSet, VecDeque};

use redis::{Cmd, ServerError, Value, cmd};

use super::marker::{Marker, is_on_marker_channel};
use super::push::Push;
use super::{Scope, SubscriberEvent, Subscription, Verb};
use crate::error::{Error, Kind, Outcome, may_succeed_later, printable_error};
use crate::peer_text::printable;

/// How many names a message quotes.
const MAX_QUOTED_NAMES: usize = 3;

/// A caller's request. Without names it only requests a connection.
#[derive(Debug)]
pub(crate) struct SubscriptionChange<W> {
    pub(crate) verb: Verb,
    pub(crate) scope: Scope,
    pub(crate) names: Vec<Vec<u8>>,
    /// Who waits for the result.
    pub(crate) waiter: W,
}

/// A command that waits for replies.
#[derive(Debug)]
enum Pending<W> {
    SubscriptionChange {
        request: SubscriptionChange<W>,
        /// How many names are unconfirmed: the server confirms each by itself.
        unconfirmed: usize,
    },
    /// A subscription from before the connection.
    Restored(Subscription),
    Ping,
    Login,
    /// Starts or ends the subscription to the channel of a handover's marker.
    Marker(Verb, Vec<u8>),
}

/// A handover in which this connection takes part.
#[derive(Debug)]
struct Handover {
    marker: Marker,
    has_arrived: bool,
    /// Why the server does not let the connection subscribe to the marker's channel.
    refusal: Option<ServerError>,
}

/// Tracks the subscriptions, the commands without a reply, and what to send on a new connection.
///
/// Confirmations arrive in the order of the commands, so each reply belongs to the oldest pending command.
#[derive(Debug)]
pub(crate) struct Subscriptions<W> {
    /// What every new connection subscribes to.
    subscribed: BTreeSet<Subscription>,
    /// Requests that were not sent on this connection.
    waiting: VecDeque<SubscriptionChange<W>>,
    pending: VecDeque<Pending<W>>,
    /// How many of the pending commands are [`Pending::Restored`].
    unrestored: usize,
    handover: Option<Handover>,
    settled: Vec<(W, Result<(), Error>)>,
}

impl<W> Subscriptions<W> {
    pub(crate) fn new() -> Self {
        Self {
            subscribed: BTreeSet::new(),
            waiting: VecDeque::new(),
            pending: VecDeque::new(),
            unrestored: 0,
            handover: None,
            settled: Vec::new(),
        }
    }

    // Used by callers.

    /// Adds a caller's request. The next [`Subscriptions::send`] returns its command.
    pub(crate) fn request(&mut self, request: SubscriptionChange<W>) {
        self.waiting.push_back(request);
    }

    /// Returns the results of the requests that were completed since the last call.
    pub(crate) fn settled(&mut self) -> impl Iterator<Item = (W, Result<(), Error>)> {
        self.settled.drain(..)
    }

    // Used on a connection.

    /// Returns the first commands on a new connection: one for each subscription, so that a refused one affects no
    /// other.
    pub(crate) fn restore(&mut self) -> Vec<Cmd> {
        self.unrestored = self.subscribed.len();
        self.pending.extend(self.subscribed.iter().cloned().map(Pending::Restored));
        let restore =
            |subscription: &Subscription| command(Verb::Subscribe, subscription.scope, [&subscription.name]);
        self.subscribed.iter().map(restore).collect()
    }

    /// Returns the commands to send now.
    pub(crate) fn send(&mut self) -> Vec<Cmd> {
        let mut commands = Vec::new();
        for request in std::mem::take(&mut self.waiting) {
            let unconfirmed = request.names.len();
            if unconfirmed == 0 {
                self.settled.push((request.waiter, Ok(())));
                continue;
            }
            commands.push(command(request.verb, request.scope, &request.names));
            self.pending.push_back(Pending::SubscriptionChange { request, unconfirmed });
        }
        commands
    }

    /// Returns a PING, whose reply shows that the server is alive.
    pub(crate) fn ping(&mut self) -> Cmd {
        self.pending.push_back(Pending::Ping);
        cmd("PING")
    }

    /// Expects the reply to this login, and returns it. Only RESP3 allows it on a subscriber's connection.
    pub(crate) fn login(&mut self, command: Cmd) -> Cmd {
        self.pending.push_back(Pending::Login);
        command
    }

    /// Starts a handover: returns the command that subscribes to the marker's channel.
    pub(crate) fn start_handover(&mut self, marker: Marker) -> Cmd {
        let channel = marker.channel().to_vec();
        let subscribe = command(Verb::Subscribe, Scope::Channel, [&channel]);
        self.pending.push_back(Pending::Marker(Verb::Subscribe, channel));
        self.handover = Some(Handover { marker, has_arrived: false, refusal: None });
        subscribe
    }

    /// Returns true between the arrival of the marker and the end of the handover.
    pub(crate) fn has_marker(&self) -> bool {
        self.handover.as_ref().is_some_and(|handover| handover.has_arrived)
    }

    /// Returns the server's error if it refused the subscription to the marker's channel.
    pub(crate) fn handover_refusal(&self) -> Option<&ServerError> {
        self.handover.as_ref().and_then(|handover| handover.refusal.as_ref())
    }

    /// Returns the subscriptions of a connection that takes over, which has to [restore](Self::restore) them.
    pub(crate) fn successor(&self) -> Self {
        Self { subscribed: self.subscribed.clone(), ..Self::new() }
    }

    /// Continues on the connection of `successor`, on which the marker has arrived.
    pub(crate) fn continue_as(&mut self, successor: Self) {
        self.subscribed = successor.subscribed;
    }

    /// Ends a handover, if one is in progress: returns the command that unsubscribes from the marker's channel.
    pub(crate) fn end_handover(&mut self) -> Option<Cmd> {
        let handover = self.handover.take().filter(|handover| handover.refusal.is_none())?;
        let channel = handover.marker.channel().to_vec();
        let unsubscribe = command(Verb::Unsubscribe, Scope::Channel, [&channel]);
        self.pending.push_back(Pending::Marker(Verb::Unsubscribe, channel));
        Some(unsubscribe)
    }

    /// Returns true if a caller's request waits for the next connection.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns how many replies are expected, to notice whether some have arrived.
    pub(crate) fn pending_replies(&self) -> usize {
        let of_front = match self.pending.front() {
            Some(Pending::SubscriptionChange { unconfirmed, .. }) => *unconfirmed,
            Some(Pending::Restored(_) | Pending::Ping | Pending::Login | Pending::Marker(..)) | None => 0,
        };
        self.pending.len() + of_front
    }

    /// Returns true if all subscriptions from before this connection are restored or refused.
    pub(crate) fn is_restored(&self) -> bool {
        self.unrestored == 0
    }

    /// Returns false if a lost connection means lost messages.
    pub(crate) fn is_empty(&self) -> bool {
        self.subscribed.is_empty()
    }

    /// Processes a value from the server.
    pub(crate) fn receive(&mut self, value: Value) -> Result<Option<SubscriberEvent>, Error> {
        match Push::read(value).map_err(|invalid| unexpected(&invalid))? {
            Push::Message(message, _) if is_on_marker_channel(&message) => {
                if let Some(handover) = &mut self.handover {
                    handover.has_arrived |= handover.marker.is(&message);
                }
                // Others are of handovers that have failed, of other connections, or forged.
                Ok(None)
            }
            Push::Message(message, size) => Ok(Some(SubscriberEvent::Message(message, size))),
            Push::Confirmed(verb, scope, name) => {
                self.confirm(verb, Subscription { scope, name }).map(|()| None)
            }
            Push::Refused(error) => self.refuse(error),
            Push::Pong if matches!(self.pending.front(), Some(Pending::Ping)) => {
                self.pending.pop_front();
                Ok(None)
            }
            Push::Pong => Err(unexpected("PONG")),
            Push::Okay if matches!(self.pending.front(), Some(Pending::Login)) => {
                self.pending.pop_front();
                Ok(None)
            }
            Push::Okay => Err(unexpected("OK")),
            Push::Other => Ok(None),
        }
    }

    fn confirm(&mut self, verb: Verb, confirmed: Subscription) -> Result<(), Error> {
        match self.pending.front_mut() {
            Some(Pending::Marker(requested, channel))
                if (*requested, Scope::Channel, &*channel) == (verb, confirmed.scope, &confirmed.name) => {}
            Some(Pending::Restored(requested)) if verb == Verb::Subscribe && *requested == confirmed => {
                self.unrestored -= 1;
            }
            Some(Pending::SubscriptionChange { request, unconfirmed })
                if (request.verb, request.scope) == (verb, confirmed.scope)
                    && request.names.iter().nth_back(*unconfirmed - 1) == Some(&confirmed.name) =>
            {
                match verb {
                    Verb::Subscribe => self.subscribed.insert(confirmed),
                    Verb::Unsubscribe => self.subscribed.remove(&confirmed),
                };
                *unconfirmed -= 1;
                if *unconfirmed > 0 {
                    return Ok(());
                }
            }
            // A server may have ended a subscription by itself: a new connection shows whether it is allowed.
            _ => return Err(unexpected(&printable(&command_text(verb, confirmed.scope, &[confirmed.name])))),
        }
        if let Some(Pending::SubscriptionChange { request, .. }) = self.pending.pop_front() {
            self.settled.push((request.waiter, Ok(())));
        }
        Ok(())
    }

    fn refuse(&mut self, error: ServerError) -> Result<Option<SubscriberEvent>, Error> {
        match self.pending.pop_front() {
            Some(Pending::Ping) => Ok(None),
            Some(Pending::Marker(verb, channel)) => {
                let of_marker = |handover: &&mut Handover| handover.marker.channel() == channel;
                if let Some(handover) = self.handover.as_mut().filter(of_marker)
                    && verb == Verb::Subscribe
                {
                    handover.refusal = Some(error);
                }
                Ok(None)
            }
            Some(Pending::Login) => Ok(Some(SubscriberEvent::LoginRefused(error))),
            // The next connection tries again.
            Some(Pending::Restored(refused)) if may_succeed_later(&error) => {
                Err(refusal(Verb::Subscribe, refused.scope, std::slice::from_ref(&refused.name), error))
            }
            Some(Pending::Restored(refused)) => {
                self.unrestored -= 1;
                self.subscribed.remove(&refused);
                let error =
                    refusal(Verb::Subscribe, refused.scope, std::slice::from_ref(&refused.name), error);
                Ok(Some(SubscriberEvent::Refused(refused, error)))
            }
            Some(Pending::SubscriptionChange { request, .. }) => {
                let error = refusal(request.verb, request.scope, &request.names, error);
                self.settled.push((request.waiter, Err(error)));
                Ok(None)
            }
            None => Err(unexpected(&printable_error(&error))),
        }
    }

    // Used without a connection.

    /// Moves requests without a reply to the next connection, since this one has ended.
    pub(crate) fn disconnected(&mut self) {
        (self.unrestored, self.handover) = (0, None);
        for pending in std::mem::take(&mut self.pending).into_iter().rev() {
            if let Pending::SubscriptionChange { request, .. } = pending {
                self.waiting.push_front(request);
            }
        }
        self.unsubscribe();
    }

    /// Completes all requests to unsubscribe: nothing is subscribed to while there is no connection.
    fn unsubscribe(&mut self) {
        let mut subscribe: VecDeque<SubscriptionChange<W>> = VecDeque::new();
        for request in std::mem::take(&mut self.waiting) {
            if request.verb == Verb::Subscribe {
                subscribe.push_back(request);
                continue;
            }
            for earlier in subscribe.iter_mut().filter(|earlier| earlier.scope == request.scope) {
                earlier.names.retain(|name| !request.names.contains(name));
            }
            for name in request.names {
                self.subscribed.remove(&Subscription { scope: request.scope, name });
            }
            self.settled.push((request.waiter, Ok(())));
        }
        self.waiting = subscribe;
    }

    /// Fails all waiting requests with `error`. The next connection subscribes to their names nonetheless.
    pub(crate) fn fail(&mut self, error: &Error) {
        for waiter in self.remember(|_| true) {
            self.settled.push((waiter, Err(error.clone())));
        }
    }

    /// Stores the names of requests whose callers have gone away. Returns their waiters.
    pub(crate) fn remember(&mut self, is_gone: impl Fn(&W) -> bool) -> Vec<W> {
        self.unsubscribe();
        let requests = std::mem::take(&mut self.waiting);
        let (gone, waiting): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|request| is_gone(&request.waiter));
        self.waiting = waiting.into();
        let store = |request: SubscriptionChange<W>| {
            let scope = request.scope;
            self.subscribed.extend(request.names.into_iter().map(|name| Subscription { scope, name }));
            request.waiter
        };
        gone.into_iter().map(store).collect()
    }
}

fn command(verb: Verb, scope: Scope, names: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Cmd {
    let mut command = cmd(verb.on(scope));
    names.into_iter().for_each(|name| _ = command.arg(name.as_ref()));
    command
}

/// Returns a command as messages quote it.
pub(crate) fn command_text(verb: Verb, scope: Scope, names: &[Vec<u8>]) -> String {
    let quoted = names.iter().take(MAX_QUOTED_NAMES).map(|name| name.escape_ascii().to_string());
    let mut text = format!("{} {}", verb.on(scope), quoted.collect::<Vec<_>>().join(" "));
    if names.len() > MAX_QUOTED_NAMES {
        text.push_str(&format!(" and {} more", names.len() - MAX_QUOTED_NAMES));
    }
    text
}

fn refusal(verb: Verb, scope: Scope, names: &[Vec<u8>], error: ServerError) -> Error {
    let what = command_text(verb, scope, names);
    let error_text = printable_error(&error);
    let (kind, remedy) = match (error.code(), scope) {
        ("NOPERM", Scope::Pattern) => (
            Kind::Permission,
            "; allow the user the command and this exact pattern, such as ACL SETUSER <user> +psubscribe &<pattern>",
        ),
        ("NOPERM", _) => (
            Kind::Permission,
            "; allow the user the command and the channels, such as ACL SETUSER <user> +subscribe &<channel>",
        ),
        (_, Scope::ShardChannel) => (Kind::Server, "; shard channels need Redis 7"),
        _ => (Kind::Server, ""),
    };
    Error::new(kind, format!("the server refused {what}: {error_text}{remedy}"))
        .with_outcome(Outcome::NotApplied)
}

fn unexpected(what: &str) -> Error {
    Error::new(Kind::Protocol, format!("the server sent an unexpected reply: {what}"))
}
