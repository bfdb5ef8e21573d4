//! The names that files and variables give to values.

use ha_redis_core::config::{Problem, Setting};

use crate::other_clients;

/// What a value is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    /// A URL, which sets many settings.
    Url,
    Setting(&'static Setting),
}

pub(crate) const URL: &str = "url";

impl Key {
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            URL => Some(Self::Url),
            _ => Setting::by_name(name).map(Self::Setting),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Url => URL,
            Self::Setting(setting) => setting.name(),
        }
    }
}

/// Returns the key that an unknown name was probably meant to be.
pub(crate) fn meant(name: &str) -> Option<&'static str> {
    other_clients::our_name(name).or_else(|| Setting::nearest(name).map(Setting::name))
}

/// Returns the mistake of an unknown key. Its value is hidden, since it may be a password under a misspelled name.
pub(crate) fn unknown(name: &str) -> Problem {
    let (allowed, remedy) = match meant(name) {
        Some(near) => (format!("the name of a setting, such as {near}"), format!("correct it to {near}")),
        None => ("the name of a setting".into(), "correct or remove it".into()),
    };
    Problem::new(name.to_owned(), allowed, remedy).hidden()
}
