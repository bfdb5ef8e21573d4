//! What is wrong with a configuration: every mistake at once.

use std::fmt;

const HIDDEN: &str = "<hidden>";
const NONE: &str = "none";

/// The mistakes in a configuration, all of them.
///
/// `Display` prints one line a mistake: the setting, the value found, what is allowed and what to do. A
/// password is never printed.
///
/// ```
/// use ha_redis_core::config::RedisConfig;
///
/// let error = RedisConfig::builder().port(0).max_connections(0).build().unwrap_err();
/// let fields: Vec<_> = error.problems().iter().map(|problem| problem.field()).collect();
/// assert_eq!(fields, ["port", "max_connections"]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// Every mistake found, at least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    field: &'static str,
    part: Option<&'static str>,
    value: String,
    allowed: String,
    remedy: String,
}

impl Problem {
    /// A mistake whose value is `none` until [`found`](Self::found) or [`hidden`](Self::hidden) says otherwise.
    pub(crate) fn new(field: &'static str, allowed: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field, part: None, value: NONE.into(), allowed: allowed.into(), remedy: remedy.into() }
    }

    pub(crate) fn found(self, value: impl Into<String>) -> Self {
        Self { value: value.into(), ..self }
    }

    pub(super) fn hidden(self) -> Self {
        self.found(HIDDEN)
    }

    /// Names the part of the URL the value was read from.
    pub(super) fn in_part(self, part: Option<&'static str>) -> Self {
        Self { part, ..self }
    }

    /// The setting, or the part of the URL (`scheme`, `query` …) where no setting could be told.
    pub fn field(&self) -> &str {
        self.field
    }

    /// The value found: `<hidden>` where it is or could be a password, `none` where one is missing.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What is allowed instead.
    pub fn allowed(&self) -> &str {
        &self.allowed
    }

    /// What to do about it.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, part, value, allowed, remedy } = self;
        write!(f, "`{field}`")?;
        if let Some(part) = part {
            write!(f, " in the {part} of the URL")?;
        }
        match value.as_str() {
            HIDDEN | NONE => write!(f, ": found {value}")?,
            // Quoted and escaped, so that a line break in a value stays on its problem's line.
            _ => write!(f, ": found {value:?}")?,
        }
        write!(f, ", expected {allowed}; {remedy}")
    }
}
