//! The names of configurations, such as `sessions`, and which variables belong to them.

use std::collections::BTreeMap;

use ha_redis_core::config::{Problem, Setting, SettingKind};

use crate::key::{CONFIG_FILE, Key};

/// No setting has a longer name.
const MAX_SETTING: usize = 64;

/// Checks a name that a file gives to a configuration, or that a caller asks for.
///
/// Letters, digits, `-` and `_` have a form as a part of a variable's name. The variables of a name such as `sentinel`
/// would be those of other settings: `REDIS_SENTINEL_PASSWORD`. Those of `my-service` would be those that Kubernetes sets
/// for a service `redis-my`: `REDIS_MY_SERVICE_HOST`.
pub(crate) fn check(name: &str) -> Result<(), Problem> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || !name.chars().all(is_word) {
        let allowed = "a name of letters, digits, - and _";
        return Err(Problem::new("configuration", allowed, "rename the configuration").found(name));
    }
    let word = in_variables(name);
    if word == "service" || word.ends_with("_service") {
        let allowed = "a name whose variables Kubernetes does not set for a service";
        let remedy = "rename the configuration, so that it does not end in service";
        return Err(Problem::new("configuration", allowed, remedy).found(name));
    }
    let near_map = Setting::nearest(&word).filter(|setting| setting.kind() == SettingKind::Map);
    if let Some(setting) = near_map {
        let allowed = format!("a name that cannot be confused with the setting {}", setting.name());
        return Err(Problem::new("configuration", allowed, "correct or rename it").found(name));
    }
    if let Some(setting) = setting_begun_by(&word) {
        let allowed = format!("a name whose variables are not those of the setting {}", setting.name());
        return Err(Problem::new("configuration", allowed, "rename the configuration").found(name));
    }
    Ok(())
}

/// Returns a setting whose variable could be that of a setting of the configuration `word`.
fn setting_begun_by(word: &str) -> Option<&'static Setting> {
    Setting::all().find(|setting| {
        let rest = setting.name().strip_prefix(word);
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('_').is_some_and(|rest| Key::of(rest).is_some())
        })
    })
}

/// Checks the names of a file against each other. Returns the mistakes, each with the name that is to be changed.
///
/// Beside `sessions`, the variables of `sessions-sentinel` would be those of other settings of `sessions`:
/// `REDIS_SESSIONS_SENTINEL_PASSWORD`.
pub(crate) fn check_together<'a>(names: impl Iterator<Item = &'a str>) -> Vec<(&'a str, Problem)> {
    let (mut known, mut problems) = (BTreeMap::new(), Vec::new());
    let mut report = |name: &'a str, allowed| {
        problems.push((name, Problem::new("configuration", allowed, "rename one of the two").found(name)));
    };
    for name in names {
        if let Some(first) = known.insert(in_variables(name), name) {
            report(name, format!("a name whose variables are not those of {first}"));
        }
    }
    for (word, name) in &known {
        // Longer ends are not the beginning of any setting.
        let ends = word.rmatch_indices('_').map(|(at, _)| (&word[..at], &word[at + 1..]));
        for (shorter, rest) in ends.take_while(|(_, rest)| rest.len() <= MAX_SETTING) {
            if let (Some(first), Some(setting)) = (known.get(shorter), setting_begun_by(rest)) {
                let setting = setting.name();
                report(
                    name,
                    format!("a name whose variables are not those of the setting {setting} of {first}"),
                );
            }
        }
    }
    problems
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
        let names = self.others.iter().chain(&self.name);
        let owners = names.filter_map(|name| Some((name, follows(key, name)?)));
        // `REDIS_SESSIONS_MAX_CONNECTIONS` is for `sessions`, also beside a configuration `sessions-max`.
        let owner = owners.max_by_key(|(name, rest)| (Key::of_variable(rest).is_some(), name.len()));
        match owner {
            None => Some((Audience::All, key.to_owned())),
            Some((name, rest)) if Some(name) == self.name.as_ref() => Some((Audience::One, rest.to_owned())),
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
