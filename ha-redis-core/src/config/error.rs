//! The mistakes in a configuration.

use std::fmt;

pub(super) const HIDDEN: &str = "<hidden>";
const NONE: &str = "none";

/// How many mistakes are listed; the others are counted.
const MAX_LISTED: usize = 32;

/// How many characters of a value are quoted, counted as they are printed.
const MAX_QUOTED: usize = 200;

/// The mistakes in a configuration: the first 32, and how many more there are.
///
/// `Display` prints one line for each mistake: the setting, the value found, what is allowed and what to do. It never
/// prints a password, nor a part of a URL that may have been meant as one.
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
    more: usize,
}

impl ConfigError {
    pub(crate) fn new(problems: impl IntoIterator<Item = Problem>) -> Self {
        let mut error = Self { problems: Vec::new(), more: 0 };
        problems.into_iter().for_each(|problem| error.add(problem));
        error
    }

    pub(super) fn add(&mut self, problem: Problem) {
        if self.problems.len() < MAX_LISTED {
            self.problems.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// Returns the mistakes found, at least one and at most 32.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns how many mistakes were found in addition to [`problems`](Self::problems).
    pub fn unlisted(&self) -> usize {
        self.more
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
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
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
    /// Creates a mistake with the value `none`. [`found`](Self::found) and [`hidden`](Self::hidden) replace it.
    pub(crate) fn new(field: &'static str, allowed: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field, part: None, value: NONE.into(), allowed: allowed.into(), remedy: remedy.into() }
    }

    pub(crate) fn found(self, value: impl AsRef<str>) -> Self {
        Self { value: cut(value.as_ref()), ..self }
    }

    pub(super) fn hidden(self) -> Self {
        self.found(HIDDEN)
    }

    /// Returns true if there is no value.
    pub(super) fn is_of_missing(&self) -> bool {
        self.value == NONE
    }

    /// Names the part of the URL the value was read from.
    pub(super) fn in_part(self, part: Option<&'static str>) -> Self {
        Self { part, ..self }
    }

    /// Returns the setting, or the part of the URL (`scheme`, `query` …) if the setting is unknown.
    pub fn field(&self) -> &str {
        self.field
    }

    /// Returns the value found: `<hidden>` if it is or could be a password, `none` if it is missing. A long value is
    /// cut.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Returns what is allowed instead.
    pub fn allowed(&self) -> &str {
        &self.allowed
    }

    /// Returns how to fix the mistake.
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

/// Returns the beginning of a text, and its length if it was cut.
pub(crate) fn cut(text: &str) -> String {
    let mut printed = 0;
    let end = text.char_indices().find(|(_, c)| {
        printed += c.escape_debug().count();
        printed > MAX_QUOTED
    });
    match end {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
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
