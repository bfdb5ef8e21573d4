//! The subscriptions of one subscriber over the connections of its life.

use std::collections::{BTreeSet, VecDeque};

use redis::{Cmd, ServerError, Value, cmd};

use super::push::Push;
use super::{News, Scope, Subscription, Verb};
use crate::error::{Error, Kind, Outcome, may_succeed_later, printable_error};
use crate::peer_text::printable;

/// How many names a message quotes.
const QUOTED: usize = 3;

/// What a caller asks for. Without names it asks for nothing but a connection.
#[derive(Debug)]
pub(crate) struct SubscriptionChange<W> {
    pub(crate) verb: Verb,
    pub(crate) scope: Scope,
    pub(crate) names: Vec<Vec<u8>>,
    /// Whom to tell what became of it.
    pub(crate) waiter: W,
}

/// What the server owes an answer to.
#[derive(Debug)]
enum Owed<W> {
    SubscriptionChange {
        request: SubscriptionChange<W>,
        /// The server confirms each name by itself.
        unconfirmed: usize,
    },
    /// A subscription that there was before the connection.
    Restored(Subscription),
    Ping,
}

/// Knows what is subscribed to, what the server has not answered yet, and what to say on a new connection.
///
/// Messages and confirmations come in the order of the commands, so that an answer belongs to the oldest command
/// that is owed one.
#[derive(Debug)]
pub(crate) struct Subscriptions<W> {
    /// What every new connection subscribes to.
    kept: BTreeSet<Subscription>,
    /// What has not been sent on this connection.
    waiting: VecDeque<SubscriptionChange<W>>,
    owed: VecDeque<Owed<W>>,
    /// How many of those that are owed are [`Owed::Restored`].
    unrestored: usize,
    settled: Vec<(W, Result<(), Error>)>,
}

impl<W> Subscriptions<W> {
    pub(crate) fn new() -> Self {
        Self {
            kept: BTreeSet::new(),
            waiting: VecDeque::new(),
            owed: VecDeque::new(),
            unrestored: 0,
            settled: Vec::new(),
        }
    }

    // For callers.

    /// Takes what a caller asks for: the next [`Subscriptions::send`] says it.
    pub(crate) fn ask(&mut self, request: SubscriptionChange<W>) {
        self.waiting.push_back(request);
    }

    /// What became of the requests that have been answered since the last call.
    pub(crate) fn settled(&mut self) -> impl Iterator<Item = (W, Result<(), Error>)> {
        self.settled.drain(..)
    }

    // On a connection.

    /// What to say first on a new connection: each subscription by itself, so that one which is refused takes no other
    /// with it.
    pub(crate) fn restore(&mut self) -> Vec<Cmd> {
        self.unrestored = self.kept.len();
        self.owed.extend(self.kept.iter().cloned().map(Owed::Restored));
        self.kept.iter().map(|kept| command(Verb::Subscribe, kept.scope, [&kept.name])).collect()
    }

    /// What to say now.
    pub(crate) fn send(&mut self) -> Vec<Cmd> {
        let mut commands = Vec::new();
        for request in std::mem::take(&mut self.waiting) {
            let unconfirmed = request.names.len();
            if unconfirmed == 0 {
                self.settled.push((request.waiter, Ok(())));
                continue;
            }
            commands.push(command(request.verb, request.scope, &request.names));
            self.owed.push_back(Owed::SubscriptionChange { request, unconfirmed });
        }
        commands
    }

    /// Asks for a sign of life.
    pub(crate) fn ping(&mut self) -> Cmd {
        self.owed.push_back(Owed::Ping);
        cmd("PING")
    }

    /// Whether there is something to say on the next connection that somebody has just asked for.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn is_owed(&self) -> bool {
        !self.owed.is_empty()
    }

    /// How much is owed, to tell whether some of it has come.
    pub(crate) fn owed(&self) -> usize {
        let of_front = match self.owed.front() {
            Some(Owed::SubscriptionChange { unconfirmed, .. }) => *unconfirmed,
            Some(Owed::Restored(_) | Owed::Ping) | None => 0,
        };
        self.owed.len() + of_front
    }

    /// Whether all that there was before this connection is subscribed to again, or refused.
    pub(crate) fn is_restored(&self) -> bool {
        self.unrestored == 0
    }

    /// Whether a lost connection means lost messages.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Takes what the server says.
    pub(crate) fn hear(&mut self, value: Value) -> Result<Option<News>, Error> {
        match Push::read(value).map_err(|said| out_of_step(&said))? {
            Push::Message(message, size) => Ok(Some(News::Message(message, size))),
            Push::Confirmed(verb, scope, name) => {
                self.confirm(verb, Subscription { scope, name }).map(|()| None)
            }
            Push::Refused(error) => self.refuse(error),
            Push::Pong if matches!(self.owed.front(), Some(Owed::Ping)) => {
                self.owed.pop_front();
                Ok(None)
            }
            Push::Pong => Err(out_of_step("PONG")),
            Push::Other => Ok(None),
        }
    }

    fn confirm(&mut self, verb: Verb, confirmed: Subscription) -> Result<(), Error> {
        match self.owed.front_mut() {
            Some(Owed::Restored(asked)) if verb == Verb::Subscribe && *asked == confirmed => {
                self.unrestored -= 1;
            }
            Some(Owed::SubscriptionChange { request, unconfirmed })
                if (request.verb, request.scope) == (verb, confirmed.scope)
                    && request.names.iter().nth_back(*unconfirmed - 1) == Some(&confirmed.name) =>
            {
                match verb {
                    Verb::Subscribe => self.kept.insert(confirmed),
                    Verb::Unsubscribe => self.kept.remove(&confirmed),
                };
                *unconfirmed -= 1;
                if *unconfirmed > 0 {
                    return Ok(());
                }
            }
            // As when a server takes a subscription away: a new connection will tell.
            _ => return Err(out_of_step(&printable(&named(verb, confirmed.scope, &[confirmed.name])))),
        }
        if let Some(Owed::SubscriptionChange { request, .. }) = self.owed.pop_front() {
            self.settled.push((request.waiter, Ok(())));
        }
        Ok(())
    }

    fn refuse(&mut self, error: ServerError) -> Result<Option<News>, Error> {
        match self.owed.pop_front() {
            Some(Owed::Ping) => Ok(None),
            // The next connection asks again.
            Some(Owed::Restored(kept)) if may_succeed_later(&error) => {
                Err(refusal(Verb::Subscribe, kept.scope, std::slice::from_ref(&kept.name), error))
            }
            Some(Owed::Restored(gone)) => {
                self.unrestored -= 1;
                self.kept.remove(&gone);
                let error = refusal(Verb::Subscribe, gone.scope, std::slice::from_ref(&gone.name), error);
                Ok(Some(News::Refused(gone, error)))
            }
            Some(Owed::SubscriptionChange { request, .. }) => {
                let error = refusal(request.verb, request.scope, &request.names, error);
                self.settled.push((request.waiter, Err(error)));
                Ok(None)
            }
            None => Err(out_of_step(&printable_error(&error))),
        }
    }

    // Without a connection.

    /// The connection has ended: what it owes is asked of the next one.
    pub(crate) fn disconnected(&mut self) {
        self.unrestored = 0;
        for owed in std::mem::take(&mut self.owed).into_iter().rev() {
            if let Owed::SubscriptionChange { request, .. } = owed {
                self.waiting.push_front(request);
            }
        }
        self.unsubscribe();
    }

    /// While there is no connection, nothing is subscribed to: what is to end has ended.
    fn unsubscribe(&mut self) {
        let mut asked: VecDeque<SubscriptionChange<W>> = VecDeque::new();
        for request in std::mem::take(&mut self.waiting) {
            if request.verb == Verb::Subscribe {
                asked.push_back(request);
                continue;
            }
            for earlier in asked.iter_mut().filter(|earlier| earlier.scope == request.scope) {
                earlier.names.retain(|name| !request.names.contains(name));
            }
            for name in request.names {
                self.kept.remove(&Subscription { scope: request.scope, name });
            }
            self.settled.push((request.waiter, Ok(())));
        }
        self.waiting = asked;
    }

    /// Tells every waiter of `error`. What they asked for is subscribed to on the next connection nonetheless.
    pub(crate) fn fail(&mut self, error: &Error) {
        for waiter in self.remember(|_| true) {
            self.settled.push((waiter, Err(error.clone())));
        }
    }

    /// Keeps what those callers asked for who are gone.
    pub(crate) fn remember(&mut self, is_gone: impl Fn(&W) -> bool) -> Vec<W> {
        self.unsubscribe();
        let asked = std::mem::take(&mut self.waiting);
        let (gone, waiting): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|request| is_gone(&request.waiter));
        self.waiting = waiting.into();
        let keep = |request: SubscriptionChange<W>| {
            let scope = request.scope;
            self.kept.extend(request.names.into_iter().map(|name| Subscription { scope, name }));
            request.waiter
        };
        gone.into_iter().map(keep).collect()
    }
}

fn command(verb: Verb, scope: Scope, names: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Cmd {
    let mut command = cmd(verb.on(scope));
    names.into_iter().for_each(|name| _ = command.arg(name.as_ref()));
    command
}

/// A command as messages quote it.
pub(crate) fn named(verb: Verb, scope: Scope, names: &[Vec<u8>]) -> String {
    let quoted = names.iter().take(QUOTED).map(|name| name.escape_ascii().to_string());
    let mut text = format!("{} {}", verb.on(scope), quoted.collect::<Vec<_>>().join(" "));
    if names.len() > QUOTED {
        text.push_str(&format!(" and {} more", names.len() - QUOTED));
    }
    text
}

fn refusal(verb: Verb, scope: Scope, names: &[Vec<u8>], error: ServerError) -> Error {
    let what = named(verb, scope, names);
    let said = printable_error(&error);
    let (kind, remedy) = match (error.code(), scope) {
        ("NOPERM", Scope::Pattern) => (
            Kind::Permission,
            "; allow the user the command and this very pattern, such as ACL SETUSER <user> +psubscribe &<pattern>",
        ),
        ("NOPERM", _) => (
            Kind::Permission,
            "; allow the user the command and the channels, such as ACL SETUSER <user> +subscribe &<channel>",
        ),
        (_, Scope::ShardChannel) => (Kind::Server, "; shard channels need Redis 7"),
        _ => (Kind::Server, ""),
    };
    Error::new(kind, format!("the server refused {what}: {said}{remedy}")).with_outcome(Outcome::NotApplied)
}

fn out_of_step(what: &str) -> Error {
    Error::new(Kind::Protocol, format!("the server said what it was not asked for: {what}"))
}
