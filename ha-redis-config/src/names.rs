//! The names of configurations, such as `sessions`, and which variables belong to them.

use ha_redis_core::config::{Problem, Setting, SettingKind};

use crate::key::{CONFIG_FILE, Key};

/// Checks a name that a file gives to a configuration, or that a caller asks for.
///
/// Letters, digits, `-` and `_` have a form as a part of a variable's name. The variables of a name such as `sentinel`
/// would be those of other settings: `REDIS_SENTINEL_PASSWORD`.
pub(crate) fn check(name: &str) -> Result<(), Problem> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || !name.chars().all(is_word) {
        let allowed = "a name of letters, digits, - and _";
        return Err(Problem::new("configuration", allowed, "rename the configuration").found(name));
    }
    let word = in_variables(name);
    let near_map = Setting::nearest(&word).filter(|setting| setting.kind() == SettingKind::Map);
    if let Some(setting) = near_map {
        let allowed = format!("a name that cannot be confused with the setting {}", setting.name());
        return Err(Problem::new("configuration", allowed, "correct or rename it").found(name));
    }
    let taken = Setting::all().find(|setting| {
        let rest = setting.name().strip_prefix(&*word);
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('_').is_some_and(|rest| Key::of(rest).is_some())
        })
    });
    if let Some(setting) = taken {
        let allowed = format!("a name whose variables are not those of the setting {}", setting.name());
        return Err(Problem::new("configuration", allowed, "rename the configuration").found(name));
    }
    Ok(())
}

/// Returns the form of a name in the names of variables, in lower case.
pub(crate) fn in_variables(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// Which variables are of interest: those under a prefix, and of them those of one configuration.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) prefix: &'a str,
    /// The configuration to load, as a part of variables' names.
    pub(crate) name: Option<String>,
    /// The other configurations.
    pub(crate) others: Vec<String>,
}

/// Whether a value is for all configurations, or for the one that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    All,
    One,
}

impl Scope<'_> {
    /// Returns for whom a variable is, and its name without what is in front of the setting, in lower case.
    pub(crate) fn split(&self, variable: &str) -> Option<(Audience, String)> {
        let name = variable.to_ascii_lowercase();
        let key = name.strip_prefix(&self.prefix.to_ascii_lowercase())?;
        // `REDIS_MAX_CONNECTIONS` is for all, also beside a configuration `max`.
        if key == CONFIG_FILE || Key::of_variable(key).is_some() {
            return Some((Audience::All, key.to_owned()));
        }
        let longest = self.others.iter().chain(&self.name).filter(|other| follows(key, other).is_some());
        match longest.max_by_key(|other| other.len()) {
            None => Some((Audience::All, key.to_owned())),
            Some(other) if Some(other) == self.name.as_ref() => {
                Some((Audience::One, follows(key, other)?.to_owned()))
            }
            Some(_) => None,
        }
    }

    /// Returns the variable of a setting.
    pub(crate) fn variable(&self, audience: Audience, key: &str) -> String {
        let name = match (audience, &self.name) {
            (Audience::One, Some(name)) => format!("{name}_{key}"),
            _ => key.to_owned(),
        };
        format!("{}{}", self.prefix, name.to_ascii_uppercase())
    }
}

/// Returns what follows the name of a configuration in the name of a variable.
fn follows<'a>(key: &'a str, name: &str) -> Option<&'a str> {
    key.strip_prefix(name)?.strip_prefix('_')
}
