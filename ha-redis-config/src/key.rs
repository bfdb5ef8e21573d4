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

/// What follows the prefix in the name of the variable that names the configuration file.
pub(crate) const CONFIG_FILE: &str = "config_file";

impl Key {
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            URL => Some(Self::Url),
            _ => Setting::by_name(name).map(Self::Setting),
        }
    }

    /// Returns the key of a variable, by its name without the prefix, and whether it names a file with the value.
    pub(crate) fn of_variable(name: &str) -> Option<(Self, bool)> {
        let in_file = || Some((Self::of(name.strip_suffix("_file")?)?, true));
        Self::of(name).map(|key| (key, false)).or_else(in_file)
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
    let name = other_clients::in_our_form(name);
    other_clients::our_name(&name).or_else(|| Setting::nearest(&name).map(Setting::name))
}

/// Returns the mistake of an unknown key. Its value is hidden, since it may be a password under a misspelled name.
pub(crate) fn unknown(name: &str) -> Problem {
    let (allowed, remedy) = match meant(name) {
        Some(near) => (format!("the name of a setting, such as {near}"), format!("correct it to {near}")),
        None => ("the name of a setting".into(), "correct or remove it".into()),
    };
    Problem::new(name.to_owned(), allowed, remedy).hidden()
}
