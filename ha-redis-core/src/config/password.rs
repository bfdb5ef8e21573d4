//! A password that is never printed.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// A string that is wiped from memory on drop and hidden by `Debug`.
#[derive(Clone)]
pub(crate) struct Password(SecretString);

impl Password {
    pub(crate) fn new(password: impl Into<String>) -> Self {
        Self(SecretString::from(password.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
