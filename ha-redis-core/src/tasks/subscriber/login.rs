//! Logs a subscriber's connection in again after the credentials have changed.

use std::time::Duration;

use crate::conn::raw_connection::RawConnection;
use crate::error::Error;
use crate::proto::login_command;
use crate::tasks::reauthentication::report_refusal;
use crate::topology::CurrentMaster;

use super::{SilenceTimer, Subscriber};

/// After this time, a connection whose login was refused or was not possible tries again.
const RETRY: Duration = Duration::from_secs(1);

impl Subscriber {
    /// Returns true if the connection has to log in now, however many messages are waiting.
    pub(super) fn is_login_due(&self, raw: &RawConnection) -> bool {
        self.core.data.login.is_newer_than(raw.login_version())
            || self.login_retry_at.is_some_and(|at| at <= self.core.runtime.now())
    }

    /// Logs in between two messages in RESP3. In RESP2, another connection takes over.
    pub(super) async fn renew_login(
        &mut self,
        raw: &mut RawConnection,
        silence: &mut SilenceTimer,
        master: &CurrentMaster,
    ) -> Result<(), Error> {
        self.login_retry_at = None;
        if raw.is_resp3() {
            self.send_login(raw, silence);
        } else if self.subscriptions.has_pending() {
            // What is under way is confirmed first.
            self.login_retry_at = Some(self.core.runtime.now() + RETRY);
            raw.set_login_version(self.core.data.login.version());
        } else {
            *raw = self.hand_over(raw, master).await?;
            silence.restart(self.core.runtime.now());
        }
        Ok(())
    }

    fn send_login(&mut self, raw: &mut RawConnection, silence: &mut SilenceTimer) {
        let Some(login) = self.core.data.login.try_current() else { return };
        if let Some(credentials) = &login.credentials {
            let owed = self.subscriptions.has_pending();
            raw.buffer(&[self.subscriptions.login(login_command(credentials))]);
            if !owed {
                silence.restart(self.core.runtime.now());
            }
        }
        raw.set_login_version(login.version);
    }

    pub(super) fn report_refused_login(&mut self, master: &CurrentMaster) {
        let Some(refusal) = self.refused_login.take() else { return };
        self.login_retry_at = Some(self.core.runtime.now() + RETRY);
        if let Some(login) = self.core.data.login.try_current() {
            report_refusal(&self.core, &self.core.data, &master.address, &login, &refusal);
        }
    }
}
