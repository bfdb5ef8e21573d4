//! The task that logs live connections in again after the credentials have changed.
//!
//! Shared connections and connections to replicas log in between two calls: a login is sent like a call, and
//! transactions are sent as a whole. A dedicated connection logs in when its caller gives it back.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future;
use redis::{ServerError, Value};

use crate::address::Address;
use crate::conn::connector::Connector;
use crate::conn::link::{Link, NoReply, SubmitError};
use crate::conn::login::{CurrentLogin, LoginVersion};
use crate::conn::raw_connection::RawConnection;
use crate::error::{Error, Kind, may_succeed_later, printable_error};
use crate::events::Event;
use crate::node::core::Core;
use crate::node::logins::{SentLogin, Who, has_old_login, send_login};
use crate::peer_text::printable;
use crate::proto::{Reply, ReplyBound, login_command};
use crate::time::sleep_until;

/// After this time, connections that have not logged in yet try again.
const RETRY: Duration = Duration::from_secs(1);

/// Logs connections in for as long as the client lives.
pub(crate) async fn run(core: Arc<Core>) {
    let seen = core.data.login.version();
    let mut task = Reauthentication { core: &core, seen, sent: Vec::new(), retry_at: None };
    future::or(task.run(), core.lifecycle.closing()).await;
}

/// Logs in a dedicated connection that its caller gives back.
pub(crate) fn on_check_in(core: &Core, link: &Arc<Link>) {
    if has_old_login(link, &core.data.login) {
        match send_login(link, &core.data.login, Who::CheckedOut, bound(core)) {
            Ok(None) => {}
            Ok(sent) => core.logins.add(sent),
            Err(_) => core.logins.add(None),
        }
    }
}

struct Reauthentication<'a> {
    core: &'a Core,
    /// The last version of the credentials that was handled.
    seen: LoginVersion,
    sent: Vec<SentLogin>,
    /// When to look again for connections that have to log in.
    retry_at: Option<Instant>,
}

enum Step {
    Changed,
    Sent(Option<SentLogin>),
    Answered(SentLogin, Result<Reply, NoReply>),
    Retry,
}

impl Reauthentication<'_> {
    async fn run(&mut self) {
        // The credentials may have changed before the task was started.
        self.log_in_all();
        loop {
            match self.next_step().await {
                Step::Changed => {
                    self.seen = self.core.data.login.version();
                    // Servers that refused the old credentials may accept the new ones.
                    self.core.routing.load().shards().iter().for_each(|shard| shard.allow_dedicated());
                    self.log_in_all();
                }
                Step::Retry => self.log_in_all(),
                Step::Sent(Some(login)) => self.sent.push(login),
                Step::Sent(None) => self.retry_later(),
                Step::Answered(login, result) => self.on_answer(&login, result),
            }
        }
    }

    async fn next_step(&mut self) -> Step {
        let (core, retry_at) = (self.core, self.retry_at);
        let changed = async {
            core.data.login.changed_since(self.seen).await;
            Step::Changed
        };
        let sent = async {
            match core.logins.sent.recv().await {
                Ok(login) => Step::Sent(login),
                Err(_) => pending().await,
            }
        };
        let retry = async {
            match retry_at {
                Some(at) => sleep_until(&*core.runtime, at).await,
                None => pending().await,
            }
            Step::Retry
        };
        let answered = next_answer(&mut self.sent);
        future::or(changed, future::or(sent, future::or(answered, retry))).await
    }

    fn log_in_all(&mut self) {
        self.retry_at = None;
        for link in self.core.links.all() {
            if !has_old_login(&link, &self.core.data.login) {
                continue;
            }
            match send_login(&link, &self.core.data.login, Who::Shared, bound(self.core)) {
                Ok(sent) => self.sent.extend(sent),
                // It has ended, or logs in when its caller gives it back.
                Err(SubmitError::Ended(_) | SubmitError::Full) => {}
                Err(SubmitError::Held | SubmitError::Silent | SubmitError::ReadOnly(_)) => self.retry_later(),
            }
        }
    }

    fn retry_later(&mut self) {
        let at = self.core.runtime.now() + RETRY;
        self.retry_at = Some(self.retry_at.map_or(at, |before| before.min(at)));
    }

    fn on_answer(&mut self, sent: &SentLogin, result: Result<Reply, NoReply>) {
        match result {
            Ok(Reply::One(Value::ServerError(refusal))) => {
                sent.link.login_version.store(0, Ordering::Relaxed);
                self.retry_later();
                report_refusal(self.core, &self.core.data, &sent.link.address, &sent.login, &refusal);
            }
            Ok(_) => tracing::debug!(address = %sent.link.address, "logged in again"),
            // A new connection logs in by itself; a late reply changes nothing.
            Err(NoReply::Ended(_) | NoReply::Late) => {}
        }
    }
}

/// Logs in again on a connection that a single task uses, if the credentials have changed. The caller sets a bound, and
/// no other reply may be outstanding. A connection that is refused stays logged in as before.
pub(crate) async fn log_in_again(
    core: &Core,
    connector: &Connector,
    address: &Address,
    raw: &mut RawConnection,
) -> Result<(), Error> {
    let Some(login) = connector.login.try_current().filter(|login| login.version != raw.login_version())
    else {
        return Ok(());
    };
    let Some(credentials) = &login.credentials else {
        raw.set_login_version(login.version);
        return Ok(());
    };
    match raw.query(&[login_command(credentials)]).await?.pop() {
        Some(Value::ServerError(refusal)) => report_refusal(core, connector, address, &login, &refusal),
        _ => raw.set_login_version(login.version),
    }
    Ok(())
}

/// Reports a refusal once for each change of the credentials.
pub(crate) fn report_refusal(
    core: &Core,
    connector: &Connector,
    address: &Address,
    login: &CurrentLogin,
    refusal: &ServerError,
) {
    if may_succeed_later(refusal) || !connector.login.is_first_refusal(login.version) {
        return;
    }
    let user = login.credentials.as_ref().map(|credentials| printable(credentials.user()));
    let message = format!(
        "{address} refused the new credentials (user {}, from {}): {}; its connections stay logged in as before",
        user.unwrap_or_default(),
        login.origin,
        connector.hide(printable_error(refusal))
    );
    let why = Error::new(Kind::Authentication, message);
    tracing::warn!(error = %why, "cannot log in again");
    core.events.send(Event::LoginRefused { address: address.clone(), why });
}

fn bound(core: &Core) -> ReplyBound {
    ReplyBound { within: Some(core.config().socket_timeout()), by: None }
}

/// Waits for the next reply to one of the logins.
async fn next_answer(sent: &mut Vec<SentLogin>) -> Step {
    poll_fn(|cx| {
        for index in 0..sent.len() {
            if let Poll::Ready(result) = sent[index].slot.poll(cx) {
                return Poll::Ready(Step::Answered(sent.swap_remove(index), result));
            }
        }
        Poll::Pending
    })
    .await
}
