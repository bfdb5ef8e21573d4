//! The task that logs live connections in again after the credentials have changed.
//!
//! Shared connections and connections to replicas log in between two calls: a login is sent like a call, and
//! transactions are sent as a whole. A dedicated connection logs in when its caller gives it back.

use std::future::{pending, poll_fn};
use std::mem;
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
use crate::error::{Error, Kind, may_succeed_later, printable_error};
use crate::events::Event;
use crate::node::core::Core;
use crate::node::logins::{LinkUse, LoginNews, SentLogin, has_old_login, send_login};
use crate::peer_text::printable;
use crate::proto::{Reply, ReplyBound};
use crate::time::sleep_until;

/// After this time, connections that have not logged in yet try again. It doubles with every refusal in a row.
const RETRY: Duration = Duration::from_secs(1);

/// How many times it doubles.
const MAX_DOUBLINGS: u32 = 5;

/// Logs connections in for as long as the client lives.
pub(crate) async fn run(core: Arc<Core>) {
    let seen = core.data.login.version();
    let mut task = Reauthentication { core: &core, seen, sent: Vec::new(), retry_at: None, refusals: 0 };
    future::or(task.run(), core.lifecycle.closing()).await;
}

/// Logs in a dedicated connection that its caller gives back, before anybody else gets it.
pub(crate) fn log_in_before_return(core: &Core, link: &Arc<Link>) {
    if has_old_login(link, &core.data.login)
        && !core.logins.is_paused()
        && let Ok(Some(sent)) = send_login(link, &core.data.login, LinkUse::GivenBack, bound(core))
    {
        core.logins.send(LoginNews::Sent(sent));
    }
}

/// Has the task look for a connection that was given back and that could not log in before, or whose login is old
/// already.
pub(crate) fn look_after_return(core: &Core, link: &Link) {
    if has_old_login(link, &core.data.login) {
        core.logins.send(LoginNews::LookAgain);
    }
}

struct Reauthentication<'a> {
    core: &'a Core,
    /// The last version of the credentials that was handled.
    seen: LoginVersion,
    sent: Vec<SentLogin>,
    /// When to look again for connections that have to log in.
    retry_at: Option<Instant>,
    /// How many rounds in a row were refused.
    refusals: u32,
}

enum Step {
    Changed,
    News(LoginNews),
    Answered(Vec<(SentLogin, Result<Reply, NoReply>)>),
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
                    self.refusals = 0;
                    // Servers that refused the old credentials may accept the new ones.
                    self.core.routing.load().shards().iter().for_each(|shard| shard.allow_dedicated());
                    self.log_in_all();
                }
                Step::Retry => self.log_in_all(),
                Step::News(LoginNews::Sent(login)) => self.sent.push(login),
                // After a refusal, the pause before the next attempt counts.
                Step::News(LoginNews::LookAgain) if self.refusals > 0 => self.retry_after(self.pause()),
                Step::News(LoginNews::LookAgain) => self.log_in_all(),
                Step::Answered(answers) => {
                    answers.into_iter().for_each(|(login, result)| self.on_answer(login, result));
                }
            }
        }
    }

    async fn next_step(&mut self) -> Step {
        let (core, retry_at) = (self.core, self.retry_at);
        let changed = async {
            core.data.login.changed_since(self.seen).await;
            Step::Changed
        };
        let news = async { Step::News(core.logins.next().await) };
        let retry = async {
            match retry_at {
                Some(at) => sleep_until(&*core.runtime, at).await,
                None => pending().await,
            }
            Step::Retry
        };
        let answered = answers(&mut self.sent);
        future::or(changed, future::or(news, future::or(answered, retry))).await
    }

    fn log_in_all(&mut self) {
        self.retry_at = None;
        self.core.logins.set_paused(false);
        for link in self.core.links.all() {
            if !has_old_login(&link, &self.core.data.login) {
                continue;
            }
            match send_login(&link, &self.core.data.login, LinkUse::Shared, bound(self.core)) {
                Ok(sent) => self.sent.extend(sent),
                // It has ended, or logs in when its caller gives it back.
                Err(SubmitError::Ended(_) | SubmitError::Full) => {}
                Err(SubmitError::Held | SubmitError::Silent | SubmitError::ReadOnly(_)) => {
                    self.retry_after(RETRY);
                }
            }
        }
    }

    /// Returns the pause after a refusal.
    fn pause(&self) -> Duration {
        RETRY * 2_u32.pow(self.refusals.min(MAX_DOUBLINGS))
    }

    fn retry_after(&mut self, pause: Duration) {
        let at = self.core.runtime.now() + pause;
        self.retry_at = Some(self.retry_at.map_or(at, |before| before.min(at)));
        self.core.logins.set_paused(true);
    }

    fn on_answer(&mut self, sent: SentLogin, result: Result<Reply, NoReply>) {
        match result {
            Ok(Reply::One(Value::ServerError(refusal))) => {
                sent.link.login_version.store(0, Ordering::Relaxed);
                if self.retry_at.is_none() {
                    self.retry_after(self.pause());
                    self.refusals += 1;
                }
                report_refusal(self.core, &self.core.data, &sent.link.address, &sent.login, &refusal);
            }
            Ok(_) => {
                self.core.data.login.on_accepted(&sent.link.address, &sent.login);
                tracing::debug!(address = %sent.link.address, "logged in again");
            }
            // The reply may still come.
            Err(NoReply::Late) => self.sent.push(sent),
            // A new connection logs in by itself.
            Err(NoReply::Ended(_)) => {}
        }
    }
}

/// Reports a refusal once for each server and change of the credentials.
pub(crate) fn report_refusal(
    core: &Core,
    connector: &Connector,
    address: &Address,
    login: &CurrentLogin,
    refusal: &ServerError,
) {
    if may_succeed_later(refusal) || !connector.login.is_first_refusal(address, login.version) {
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

/// Waits for replies to the logins, and takes all that have arrived.
async fn answers(sent: &mut Vec<SentLogin>) -> Step {
    poll_fn(|cx| {
        let mut answered = Vec::new();
        for login in mem::take(sent) {
            match login.slot.poll(cx) {
                Poll::Ready(result) => answered.push((login, result)),
                Poll::Pending => sent.push(login),
            }
        }
        if answered.is_empty() { Poll::Pending } else { Poll::Ready(Step::Answered(answered)) }
    })
    .await
}
