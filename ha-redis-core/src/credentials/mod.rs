//! User names and passwords, and where they come from.
//!
//! A client logs in with the `username` and `password` of its configuration, or with what a [`CredentialsProvider`]
//! returns. When these change, new connections use the new ones, and live connections log in again without a gap.

mod file;
mod fixed;
mod refreshed;
#[cfg(feature = "token-based-authentication")]
mod streamed;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

pub use self::file::FileCredentials;
pub use self::fixed::{EnvCredentials, StaticCredentials};
pub use self::refreshed::RefreshedCredentials;
#[cfg(feature = "token-based-authentication")]
pub use self::streamed::StreamedCredentials;

/// The user of a password without a user name.
pub(crate) const DEFAULT_USER: &str = "default";

/// A user name and a password. `Debug` hides the password.
///
/// Each clone wipes its copy of the password when it is dropped. Other copies are not wiped, such as those in the buffers
/// of connections, or those that the application keeps.
#[derive(Clone)]
pub struct Credentials {
    username: Option<String>,
    password: SecretString,
    valid_for: Option<Duration>,
}

impl Credentials {
    /// Returns the credentials of an ACL user.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        let username = Some(username.into()).filter(|name| !name.is_empty());
        // Boxing a string that has spare capacity may move it and leave the old memory unwiped.
        let password = Zeroizing::new(password.into());
        Self { username, password: SecretString::from(password.as_str()), valid_for: None }
    }

    /// Returns a password without a user name: that of Redis's user `default`, or of a server before Redis 6.
    pub fn password_only(password: impl Into<String>) -> Self {
        Self::new("", password)
    }

    /// Sets how long a token is valid. [`RefreshedCredentials`] gets the next one before that time has passed.
    #[must_use]
    pub fn valid_for(mut self, time: Duration) -> Self {
        self.valid_for = Some(time);
        self
    }

    /// Returns the user name, if there is one.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// Returns the password, in clear: handle with care.
    pub fn password(&self) -> &str {
        self.password.expose_secret()
    }

    /// Returns the user as errors name it.
    pub(crate) fn user(&self) -> &str {
        self.username().unwrap_or(DEFAULT_USER)
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username && self.password() == other.password()
    }
}

impl Eq for Credentials {}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { username, valid_for, .. } = self;
        f.debug_struct("Credentials")
            .field("username", username)
            .field("password", &"***")
            .field("valid_for", valid_for)
            .finish()
    }
}

/// The error of a provider. It must not contain a password.
pub type CredentialsError = Box<dyn StdError + Send + Sync>;

/// A source of credentials that may change while the client runs: a secret store, a file, a token service.
///
/// Pass it to [`ClientOptions::credentials`](crate::ClientOptions::credentials). Ready-made providers:
/// [`StaticCredentials`], [`EnvCredentials`], [`FileCredentials`], [`RefreshedCredentials`] and, with the feature
/// `token-based-authentication`, `StreamedCredentials`.
///
/// When it returns new credentials,
/// - new connections log in with them,
/// - shared connections log in again between two calls, and never within a transaction,
/// - dedicated connections log in again when they are given back,
/// - subscribers and connections to replicas and Sentinels log in again too.
///
/// A server that refuses the new credentials keeps the connections logged in as before, and gets the former credentials on
/// new connections until it has accepted the new ones. The client tries again after a second, then less and less often,
/// and sends an [`Event::LoginRefused`](crate::Event::LoginRefused).
///
/// ```
/// use async_trait::async_trait;
/// use ha_redis_core::{Credentials, CredentialsError, CredentialsProvider};
///
/// /// Passwords that an operator types.
/// #[derive(Debug)]
/// struct Typed(async_channel::Receiver<String>);
///
/// #[async_trait]
/// impl CredentialsProvider for Typed {
///     async fn next_credentials(&mut self) -> Result<Credentials, CredentialsError> {
///         match self.0.recv().await {
///             Ok(password) => Ok(Credentials::new("app", password)),
///             Err(_) => std::future::pending().await,
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait CredentialsProvider: fmt::Debug + Send + 'static {
    /// Waits for the next change and returns the credentials. The first call returns the current ones.
    ///
    /// The client calls it from a task, one call at a time. No call of the client waits for it, except those that need
    /// the first connection: they wait as for a server that does not answer. When the client is closed, the future may
    /// be dropped at any `.await`.
    ///
    /// The client waits for any time, since the credentials may never change. Set timeouts for requests that you send.
    ///
    /// # Errors
    /// Returns an error if the credentials cannot be read. The client keeps the last ones, and calls again after a pause
    /// of at most a second. A panic counts as an error too. The client sends an
    /// [`Event::CredentialsFailed`](crate::Event::CredentialsFailed) for the first of several errors in a row. Errors less
    /// than a minute apart are in a row, unless the provider returns other credentials between them.
    async fn next_credentials(&mut self) -> Result<Credentials, CredentialsError>;

    /// Returns where the credentials come from, for errors.
    fn name(&self) -> String {
        "the credentials provider".to_owned()
    }
}
