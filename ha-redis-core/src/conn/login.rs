//! The credentials that the connections of one kind log in with, as they are now.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use event_listener::Event;

use crate::address::Address;
use crate::credentials::Credentials;
use crate::sync::{Mutex, lock, wait_for};

/// How many servers are remembered that have accepted or refused the current credentials.
const MAX_SERVERS: usize = 64;

/// Counts the credentials that a connection could have logged in with; each change is a new version.
pub(crate) type LoginVersion = u64;

/// The current credentials, where they come from, and which version they are.
#[derive(Clone, Debug)]
pub(crate) struct CurrentLogin {
    pub(crate) version: LoginVersion,
    /// `None` if the server needs none.
    pub(crate) credentials: Option<Arc<Credentials>>,
    /// The setting or the provider, for errors.
    pub(crate) origin: Arc<str>,
}

/// The credentials of masters and replicas, or of Sentinels.
pub(crate) struct Login {
    state: Mutex<State>,
    /// The version of the current credentials.
    version: AtomicU64,
    changed: Event,
}

struct State {
    /// `None` until the provider has returned credentials.
    current: Option<CurrentLogin>,
    /// The servers that have accepted the current credentials.
    accepting: BTreeSet<Address>,
    /// The last credentials before the current ones that a server has accepted.
    former: Option<CurrentLogin>,
    /// The servers whose refusal of the current credentials was reported.
    reported: BTreeSet<Address>,
    /// Why the provider has returned none.
    failure: Option<String>,
    origin: Arc<str>,
}

impl Login {
    /// Uses these credentials until they are replaced.
    pub(crate) fn known(credentials: Option<Credentials>, origin: &str) -> Self {
        let login = Self::awaited(origin);
        login.set(credentials);
        login
    }

    /// Waits for the first credentials of a provider.
    pub(crate) fn awaited(origin: &str) -> Self {
        let state = State {
            current: None,
            accepting: BTreeSet::new(),
            former: None,
            reported: BTreeSet::new(),
            failure: None,
            origin: origin.into(),
        };
        Self { state: Mutex::new(state), version: AtomicU64::new(0), changed: Event::new() }
    }

    /// Replaces the credentials. Returns false if they are the current ones.
    pub(crate) fn set(&self, credentials: Option<Credentials>) -> bool {
        let mut state = lock(&self.state);
        let credentials = credentials.map(Arc::new);
        if state.current.as_ref().is_some_and(|current| current.credentials == credentials) {
            return false;
        }
        let version = self.version.load(Ordering::Relaxed) + 1;
        if !state.accepting.is_empty() {
            state.former = state.current.take().filter(|former| former.credentials.is_some());
        }
        state.accepting.clear();
        state.current = Some(CurrentLogin { version, credentials, origin: Arc::clone(&state.origin) });
        state.failure = None;
        state.reported.clear();
        self.version.store(version, Ordering::Release);
        drop(state);
        self.changed.notify(usize::MAX);
        true
    }

    /// Records why the provider returned no credentials.
    pub(crate) fn failed(&self, why: String) {
        lock(&self.state).failure = Some(why);
    }

    /// Returns the current credentials. Waits for the first ones.
    pub(crate) async fn current(&self) -> CurrentLogin {
        wait_for(&self.state, &self.changed, |state| state.current.clone()).await
    }

    /// Returns the current credentials, if there are any yet.
    pub(crate) fn try_current(&self) -> Option<CurrentLogin> {
        lock(&self.state).current.clone()
    }

    /// Returns the version of the current credentials, 0 while there are none.
    pub(crate) fn version(&self) -> LoginVersion {
        self.version.load(Ordering::Acquire)
    }

    /// Returns why there are no credentials yet; `None` if there are.
    pub(crate) fn missing(&self) -> Option<String> {
        let state = lock(&self.state);
        let why = state.failure.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        state.current.is_none().then(|| format!("{} has not returned the credentials{why}", state.origin))
    }

    /// Has tasks that wait for other credentials try again, with the same ones.
    pub(crate) fn try_again(&self) {
        let mut state = lock(&self.state);
        let version = self.version.load(Ordering::Relaxed) + 1;
        if let Some(current) = &mut state.current {
            current.version = version;
            self.version.store(version, Ordering::Release);
        }
        drop(state);
        self.changed.notify(usize::MAX);
    }

    /// Records that a server has accepted these credentials.
    pub(crate) fn on_accepted(&self, server: &Address, login: &CurrentLogin) {
        let mut state = lock(&self.state);
        if !self.is_newer_than(login.version)
            && !state.accepting.contains(server)
            && state.accepting.len() < MAX_SERVERS
        {
            state.accepting.insert(server.clone());
        }
    }

    /// Returns the credentials to try after a server has refused those of `version`: the former ones, unless this server
    /// has accepted the current ones before.
    pub(crate) fn former(&self, server: &Address, version: LoginVersion) -> Option<CurrentLogin> {
        let state = lock(&self.state);
        let applies = !self.is_newer_than(version) && !state.accepting.contains(server);
        state.former.clone().filter(|_| applies)
    }

    /// Returns true the first time that a server's refusal of the current credentials is reported.
    pub(crate) fn is_first_refusal(&self, server: &Address, version: LoginVersion) -> bool {
        let mut state = lock(&self.state);
        !self.is_newer_than(version)
            && state.reported.len() < MAX_SERVERS
            && state.reported.insert(server.clone())
    }

    /// Returns true if other credentials than those of `version` are current.
    #[inline]
    pub(crate) fn is_newer_than(&self, version: LoginVersion) -> bool {
        self.version() != version
    }

    /// Waits until other credentials than those of `version` are current.
    pub(crate) async fn changed_since(&self, version: LoginVersion) {
        wait_for(&self.state, &self.changed, |_| self.is_newer_than(version).then_some(())).await;
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("current", &self.try_current()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn first_credentials_are_awaited() {
        let login = Login::awaited("the file /run/password");
        let mut current = pin!(login.current());
        assert!(block_on(poll_once(current.as_mut())).is_none());
        login.failed("it is empty".into());
        let missing = "the file /run/password has not returned the credentials: it is empty";
        assert_eq!(login.missing().as_deref(), Some(missing));
        assert!(login.set(Some(Credentials::new("app", "one"))));
        assert_eq!((block_on(current).version, login.missing()), (1, None));
    }

    #[test]
    fn former_credentials_stand_in_for_refused_ones() {
        let login = Login::known(Some(Credentials::new("app", "one")), "`password`");
        let [a, b] = [Address::tcp("a", 1), Address::tcp("b", 1)];
        login.set(Some(Credentials::new("app", "two")));
        assert!(login.former(&a, 2).is_none(), "no server has accepted the first ones");
        let two = login.try_current().unwrap();
        login.on_accepted(&a, &two);
        login.set(Some(Credentials::new("app", "three")));
        assert_eq!(login.former(&a, 3).unwrap().version, 2);
        login.on_accepted(&a, &two);
        login.on_accepted(&b, &login.try_current().unwrap());
        assert!(login.former(&a, 3).is_some() && login.former(&b, 3).is_none());
        login.set(None);
        login.on_accepted(&a, &login.try_current().unwrap());
        login.set(Some(Credentials::new("app", "four")));
        assert!(login.former(&a, 5).is_none(), "a password is not left out");
    }

    #[test]
    fn waiting_tasks_try_again() {
        let login = Login::known(Some(Credentials::new("app", "one")), "`password`");
        let mut changed = pin!(login.changed_since(1));
        assert!(block_on(poll_once(changed.as_mut())).is_none());
        login.try_again();
        block_on(changed);
        assert_eq!(login.try_current().unwrap().version, 2);
    }

    #[test]
    fn refusal_is_reported_once_for_each_server_and_change() {
        let login = Login::known(Some(Credentials::new("app", "one")), "`password`");
        let [a, b] = [Address::tcp("a", 1), Address::tcp("b", 1)];
        assert!(login.is_first_refusal(&a, 1) && login.is_first_refusal(&b, 1));
        assert!(!login.is_first_refusal(&a, 1));
        login.set(Some(Credentials::new("app", "two")));
        assert!(!login.is_first_refusal(&a, 1), "a late one of the former credentials");
        assert!(login.is_first_refusal(&a, 2));
    }

    #[test]
    fn only_changes_are_new_versions() {
        let login = Login::known(Some(Credentials::new("app", "one")), "`password`");
        let mut changed = pin!(login.changed_since(1));
        assert!(!login.set(Some(Credentials::new("app", "one"))));
        assert!(block_on(poll_once(changed.as_mut())).is_none());
        assert!(login.set(None) && login.is_newer_than(1));
        block_on(changed);
    }
}
