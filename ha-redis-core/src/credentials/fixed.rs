//! Credentials that do not change: given by the application, or read from the environment.

use std::env;
use std::future::pending;

use async_trait::async_trait;

use super::{Credentials, CredentialsError, CredentialsProvider};

/// Credentials that never change.
#[derive(Clone, Debug)]
pub struct StaticCredentials(Option<Credentials>);

impl StaticCredentials {
    /// Returns a provider of these credentials.
    pub fn new(credentials: Credentials) -> Self {
        Self(Some(credentials))
    }
}

#[async_trait]
impl CredentialsProvider for StaticCredentials {
    async fn next_credentials(&mut self) -> Result<Credentials, CredentialsError> {
        match self.0.take() {
            Some(credentials) => Ok(credentials),
            None => pending().await,
        }
    }

    fn name(&self) -> String {
        "the application".to_owned()
    }
}

/// Credentials from environment variables, which are read once, when the client starts.
#[derive(Clone, Debug)]
pub struct EnvCredentials {
    username: Option<String>,
    password: String,
    is_read: bool,
}

impl EnvCredentials {
    /// Returns a provider that reads the password from the variable `password`.
    pub fn new(password: impl Into<String>) -> Self {
        Self { username: None, password: password.into(), is_read: false }
    }

    /// Sets the variable that has the user name. Without it, the user is Redis's `default`.
    #[must_use]
    pub fn username(mut self, variable: impl Into<String>) -> Self {
        self.username = Some(variable.into());
        self
    }
}

#[async_trait]
impl CredentialsProvider for EnvCredentials {
    async fn next_credentials(&mut self) -> Result<Credentials, CredentialsError> {
        if self.is_read {
            return pending().await;
        }
        let password = read(&self.password)?;
        let credentials = match &self.username {
            Some(username) => Credentials::new(read(username)?, password),
            None => Credentials::password_only(password),
        };
        self.is_read = true;
        Ok(credentials)
    }

    fn name(&self) -> String {
        format!("the environment variable {}", self.password)
    }
}

fn read(variable: &str) -> Result<String, CredentialsError> {
    // The text of `VarError` would contain a value that is not UTF-8.
    let value = env::var(variable).map_err(|error| match error {
        env::VarError::NotPresent => format!("the environment variable {variable} is not set"),
        env::VarError::NotUnicode(_) => format!("the environment variable {variable} is not UTF-8"),
    })?;
    match value.is_empty() {
        true => Err(format!("the environment variable {variable} is empty").into()),
        false => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn static_credentials_returned_once() {
        let mut provider = StaticCredentials::new(Credentials::new("app", "secret"));
        assert_eq!(block_on(provider.next_credentials()).unwrap(), Credentials::new("app", "secret"));
        assert!(block_on(poll_once(provider.next_credentials())).is_none());
    }

    #[test]
    fn variables_are_read_once() {
        // Cargo sets these for its tests.
        let mut provider = EnvCredentials::new("CARGO_PKG_VERSION").username("CARGO_PKG_NAME");
        let credentials = block_on(provider.next_credentials()).unwrap();
        assert_eq!(credentials.username(), Some("ha-redis-core"));
        assert_eq!(credentials.password(), env!("CARGO_PKG_VERSION"));
        assert!(block_on(poll_once(provider.next_credentials())).is_none());
    }

    #[test]
    fn missing_variable_is_named() {
        let mut provider = EnvCredentials::new("HA_REDIS_TEST_NO_SUCH_VARIABLE");
        let error = block_on(provider.next_credentials()).unwrap_err();
        assert_eq!(error.to_string(), "the environment variable HA_REDIS_TEST_NO_SUCH_VARIABLE is not set");
    }
}
