//! Logs a subscriber's connection in again after the credentials have changed.

use std::future::pending;
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::conn::login::LoginVersion;
use crate::conn::raw_connection::RawConnection;
use crate::error::Error;
use crate::events::Event;
use crate::proto::login_command;
use crate::tasks::reauthentication::report_refusal;
use crate::time::sleep_until;
use crate::topology::CurrentMaster;

use super::handover::Failure;
use super::{SilenceTimer, Subscriber};

/// After this time, a connection whose login was refused or was not possible tries again. It doubles with every
/// handover that fails with the same credentials, since each opens connections.
const RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(32);

/// When to try again with credentials that have failed. Others are tried at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoginRetry {
    failed: LoginVersion,
    pause: Duration,
    at: Instant,
}

impl Subscriber {
    /// Returns true if the connection has to log in now, however many messages are waiting.
    pub(super) fn is_login_due(&self, raw: &RawConnection) -> bool {
        let login = &self.core.data.login;
        match self.login_retry {
            Some(retry) if !login.is_newer_than(retry.failed) => retry.at <= self.core.runtime.now(),
            _ => login.is_newer_than(raw.login_version()),
        }
    }

    /// Waits until a connection that has logged in with the credentials of `version` has to log in.
    pub(super) async fn until_login_is_due(&self, version: LoginVersion) {
        let retry = async {
            match self.login_retry {
                Some(retry) => sleep_until(&*self.core.runtime, retry.at).await,
                None => pending().await,
            }
        };
        let tried = self.login_retry.map_or(version, |retry| retry.failed);
        future::or(self.core.data.login.changed_since(tried), retry).await;
    }

    /// Logs in between two messages in RESP3. In RESP2, another connection takes over.
    ///
    /// # Errors
    /// The connection cannot continue.
    pub(super) async fn renew_login(
        &mut self,
        raw: &mut RawConnection,
        silence: &mut SilenceTimer,
        master: &CurrentMaster,
    ) -> Result<(), Error> {
        let before = self.login_retry.take();
        let Some(login) = self.core.data.login.try_current() else { return Ok(()) };
        let Some(credentials) = &login.credentials else {
            raw.set_login_version(login.version);
            return Ok(());
        };
        if raw.is_resp3() {
            let command = login_command(credentials);
            self.buffer(raw, silence, |subscriptions| [subscriptions.login(command)]);
            raw.set_login_version(login.version);
            return Ok(());
        }
        match self.hand_over(raw, silence, master).await {
            Ok(new) => {
                *raw = new;
                silence.restart(self.core.runtime.now());
            }
            Err(Failure::Lasting(error)) => return Err(error),
            Err(Failure::Temporary(error)) => {
                let doubled =
                    before.filter(|before| before.failed == login.version).map(|before| 2 * before.pause);
                self.try_again_after(doubled.unwrap_or(RETRY).min(MAX_RETRY), login.version);
                self.report_failed_handover(&error, login.version, master);
            }
        }
        self.buffer(raw, silence, |subscriptions| {
            subscriptions.end_handover().into_iter().collect::<Vec<_>>()
        });
        Ok(())
    }

    fn try_again_after(&mut self, pause: Duration, failed: LoginVersion) {
        self.login_retry = Some(LoginRetry { failed, pause, at: self.core.runtime.now() + pause });
    }

    /// Reports that the server has refused a login in RESP3.
    pub(super) fn report_refused_login(&mut self, master: &CurrentMaster) {
        let Some(refusal) = self.refused_login.take() else { return };
        let Some(login) = self.core.data.login.try_current() else { return };
        self.try_again_after(RETRY, login.version);
        report_refusal(&self.core, &self.core.data, &master.address, &login, &refusal);
    }

    /// Reports that no other connection could take over. The first time that the server refuses the credentials, it
    /// does so to users.
    fn report_failed_handover(&self, error: &Error, version: LoginVersion, master: &CurrentMaster) {
        tracing::debug!(%error, "no other connection could take over from the subscriber's; trying again");
        if !error.is_authentication() || !self.core.data.login.is_first_refusal(&master.address, version) {
            return;
        }
        let message = format!(
            "{} refused the new credentials: {}; its connections stay logged in as before",
            master.address,
            error.message()
        );
        let why = error.clone().with_message(message);
        tracing::warn!(error = %why, "cannot log in again");
        self.core.events.send(Event::LoginRefused { address: master.address.clone(), why });
    }
}
