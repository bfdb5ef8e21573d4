//! Logins on live connections, after the credentials have changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_channel::{Receiver, Sender};

use crate::conn::link::{Call, Link, ReplySlot, SubmitError};
use crate::conn::login::{CurrentLogin, Login};
use crate::proto::{ReplyBound, login_command};

/// A login whose reply has not arrived.
#[derive(Debug)]
pub(crate) struct SentLogin {
    pub(crate) link: Arc<Link>,
    pub(crate) login: CurrentLogin,
    pub(crate) slot: Arc<ReplySlot>,
}

/// News for the [task](crate::tasks::reauthentication) that logs connections in.
#[derive(Debug)]
pub(crate) enum LoginNews {
    /// A login was sent; its reply is to be read.
    Sent(SentLogin),
    /// There may be a connection that has to log in.
    LookAgain,
}

/// The mailbox of that task.
#[derive(Debug)]
pub(crate) struct LoginMailbox {
    sender: Sender<LoginNews>,
    receiver: Receiver<LoginNews>,
    /// True while the task waits before it sends logins again: some were refused or not possible.
    paused: AtomicBool,
}

impl Default for LoginMailbox {
    fn default() -> Self {
        let (sender, receiver) = async_channel::unbounded();
        Self { sender, receiver, paused: AtomicBool::new(false) }
    }
}

impl LoginMailbox {
    pub(crate) fn send(&self, news: LoginNews) {
        // The channel is never closed.
        let _ = self.sender.try_send(news);
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Returns true while the task waits before it sends logins again.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub(crate) async fn next(&self) -> LoginNews {
        match self.receiver.recv().await {
            Ok(news) => news,
            Err(_) => std::future::pending().await,
        }
    }
}

/// Who uses a connection that is to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkUse {
    /// Callers share it, or nobody uses it. A connection that a caller has checked out is left alone: the caller may be
    /// within a transaction.
    Shared,
    /// Its caller is giving it back.
    GivenBack,
}

/// Returns true if other credentials than those of the connection are current.
#[inline]
pub(crate) fn has_old_login(link: &Link, login: &Login) -> bool {
    login.is_newer_than(link.login_version.load(Ordering::Relaxed))
}

/// Sends a login on the connection, before everything that is sent later. Returns `None` if the server needs none.
///
/// # Errors
/// The connection accepts nothing at the moment.
pub(crate) fn send_login(
    link: &Arc<Link>,
    login: &Login,
    link_use: LinkUse,
    bound: ReplyBound,
) -> Result<Option<SentLogin>, SubmitError> {
    let Some(login) = login.try_current() else { return Ok(None) };
    let Some(credentials) = &login.credentials else {
        // There is no way back to a connection that is not logged in.
        link.login_version.store(login.version, Ordering::Relaxed);
        return Ok(None);
    };
    let (command, slot) = (login_command(credentials), Arc::default());
    match link_use {
        LinkUse::Shared => link.submit_unless_checked_out(Call::Command(&command), &slot, bound)?,
        LinkUse::GivenBack => link.submit_past_bounds(Call::Command(&command), &slot, bound)?,
    }
    link.login_version.store(login.version, Ordering::Relaxed);
    Ok(Some(SentLogin { link: Arc::clone(link), login, slot }))
}
