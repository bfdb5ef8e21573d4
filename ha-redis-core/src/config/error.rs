//! What is wrong with a configuration: every mistake at once.

use std::fmt;

pub(super) const HIDDEN: &str = "<hidden>";
const NONE: &str = "none";

/// So many mistakes are listed, and the others counted.
const MAX_LISTED: usize = 32;

/// So many characters of a value are quoted, as they are printed.
const MAX_QUOTED: usize = 200;

/// The mistakes in a configuration: the first 32, and how many more there are.
///
/// `Display` prints one line a mistake: the setting, the value found, what is allowed and what to do. A
/// password is never printed, nor what stands in a URL where a password may have been meant.
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

    /// The mistakes found, at least one and at most 32.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many mistakes were found beside those in [`problems`](Self::problems).
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
    /// A mistake whose value is `none` until [`found`](Self::found) or [`hidden`](Self::hidden) says otherwise.
    pub(crate) fn new(field: &'static str, allowed: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field, part: None, value: NONE.into(), allowed: allowed.into(), remedy: remedy.into() }
    }

    pub(crate) fn found(self, value: impl AsRef<str>) -> Self {
        Self { value: cut(value.as_ref()), ..self }
    }

    pub(super) fn hidden(self) -> Self {
        self.found(HIDDEN)
    }

    /// Whether there is no value.
    pub(super) fn is_of_missing(&self) -> bool {
        self.value == NONE
    }

    /// Names the part of the URL the value was read from.
    pub(super) fn in_part(self, part: Option<&'static str>) -> Self {
        Self { part, ..self }
    }

    /// The setting, or the part of the URL (`scheme`, `query` …) where no setting could be told.
    pub fn field(&self) -> &str {
        self.field
    }

    /// The value found: `<hidden>` where it is or could be a password, `none` where one is missing. The end of a long one
    /// is left out.
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

/// The beginning of a text, and how long it is if that is not all.
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
