//! Where the values of a configuration come from.

use std::collections::{BTreeMap, BTreeSet};

use super::error::Problem;

/// The origins of the settings that are not at their defaults, and the settings that could not be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    known: BTreeMap<&'static str, Origin>,
    failed: BTreeSet<&'static str>,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
struct Origin {
    /// An environment variable, a file and line, or another name that a loader gives.
    name: String,
    /// The part of the URL, if the value comes from one.
    part: Option<&'static str>,
}

impl Origins {
    pub(super) fn set(&mut self, setting: &'static str, name: &str, part: Option<&'static str>) {
        self.known.insert(setting, Origin { name: name.to_owned(), part });
    }

    /// Forgets where a setting that is back at its default came from.
    pub(super) fn remove(&mut self, setting: &str) {
        self.known.remove(setting);
    }

    pub(super) fn get(&self, setting: &str) -> Option<&str> {
        self.known.get(setting).map(|origin| origin.name.as_str())
    }

    /// Returns true if the value comes from a URL.
    pub(super) fn is_in_url(&self, setting: &str) -> bool {
        self.known.get(setting).is_some_and(|origin| origin.part.is_some())
    }

    /// Notes that a value of a setting was reported as a mistake.
    pub(super) fn fail(&mut self, setting: &'static str) {
        self.failed.insert(setting);
    }

    pub(super) fn has_failed(&self, setting: &str) -> bool {
        self.failed.contains(setting)
    }

    /// Returns the origin of a setting that another one contradicts, in parentheses, to be appended.
    pub(super) fn because(&self, setting: &str) -> String {
        self.get(setting).map(|name| format!(" (from {})", name.escape_debug())).unwrap_or_default()
    }

    /// Adds the origin of a setting to a mistake in its value. A value from a URL is hidden, since it may be a
    /// misplaced password.
    pub(super) fn name(&self, problem: Problem, setting: &str) -> Problem {
        let Some(origin) = self.known.get(setting) else { return problem };
        let in_url = origin.part.is_some_and(|part| part != "scheme") && !problem.is_of_missing();
        let problem = if in_url && !problem.value().is_empty() { problem.hidden() } else { problem };
        problem.in_part(origin.part).with_origin(&*origin.name)
    }
}
