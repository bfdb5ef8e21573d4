//! Logins that were sent on live connections, after the credentials had changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

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

/// Which connections are asked to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A connection that no caller has checked out: its caller may be within a transaction.
    Shared,
    /// A connection that its caller is giving back.
    CheckedOut,
}

/// Passes the logins that were sent to the [task](crate::tasks::reauthentication) that reads their replies. `None` asks
/// it to look for connections that have to log in.
#[derive(Debug)]
pub(crate) struct Logins {
    sender: Sender<Option<SentLogin>>,
    pub(crate) sent: Receiver<Option<SentLogin>>,
}

impl Default for Logins {
    fn default() -> Self {
        let (sender, sent) = async_channel::unbounded();
        Self { sender, sent }
    }
}

impl Logins {
    pub(crate) fn add(&self, sent: Option<SentLogin>) {
        // The channel is never closed.
        let _ = self.sender.try_send(sent);
    }
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
    who: Who,
    bound: ReplyBound,
) -> Result<Option<SentLogin>, SubmitError> {
    let Some(login) = login.try_current() else { return Ok(None) };
    let Some(credentials) = &login.credentials else {
        // There is no way back to a connection that is not logged in.
        link.login_version.store(login.version, Ordering::Relaxed);
        return Ok(None);
    };
    let (command, slot) = (login_command(credentials), Arc::default());
    match who {
        Who::Shared => link.submit_unless_checked_out(Call::Command(&command), &slot, bound)?,
        Who::CheckedOut => link.submit_past_bounds(Call::Command(&command), &slot, bound)?,
    }
    link.login_version.store(login.version, Ordering::Relaxed);
    Ok(Some(SentLogin { link: Arc::clone(link), login, slot }))
}
