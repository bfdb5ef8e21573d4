//! The mistakes in a configuration.

use std::borrow::Cow;
use std::fmt;

use crate::peer_text::escaped;

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

    /// Adds the mistakes in what comes from `origin`.
    pub(super) fn add_all(&mut self, error: Self, origin: &str) {
        self.more += error.more;
        error.problems.into_iter().for_each(|problem| self.add(problem.with_origin(origin)));
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
    field: Cow<'static, str>,
    part: Option<&'static str>,
    origin: Option<Box<str>>,
    value: Found,
    allowed: Box<str>,
    remedy: Box<str>,
}

/// The value that a mistake is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Missing,
    Hidden,
    Text(Box<str>),
}

impl Problem {
    /// Creates the mistake of a missing value. `field` names a setting, `allowed` completes "expected …", and `remedy`
    /// tells the user what to do. All three are printed: they must not contain a secret.
    pub fn new(
        field: impl Into<Cow<'static, str>>,
        allowed: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let field = match field.into() {
            Cow::Owned(field) => cut(&field).into(),
            known => known,
        };
        let (allowed, remedy) = (allowed.into().into(), remedy.into().into());
        Self { field, part: None, origin: None, value: Found::Missing, allowed, remedy }
    }

    /// Sets the value found. It is printed: use [`hidden`](Self::hidden) for what is or may be a password.
    #[must_use]
    pub fn found(self, value: impl AsRef<str>) -> Self {
        Self { value: Found::Text(cut(value.as_ref()).into()), ..self }
    }

    /// Reports a value without printing it.
    #[must_use]
    pub fn hidden(self) -> Self {
        Self { value: Found::Hidden, ..self }
    }

    /// Names where the value comes from: an environment variable, or a file and line.
    #[must_use]
    pub fn with_origin(self, origin: impl Into<String>) -> Self {
        Self { origin: Some(origin.into().into()), ..self }
    }

    /// Returns true if there is no value.
    pub(super) fn is_of_missing(&self) -> bool {
        self.value == Found::Missing
    }

    /// Names the part of the URL the value was read from.
    pub(super) fn in_part(self, part: Option<&'static str>) -> Self {
        Self { part, ..self }
    }

    /// Returns the setting, or the part of the URL (`scheme`, `query` …) if the setting is unknown.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Returns where the value comes from, such as `REDIS_PORT` or `redis.toml:12`, `None` if no loader was told.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    /// Returns the value found: `<hidden>` if it is or could be a password, `none` if it is missing. A long value is
    /// cut.
    pub fn value(&self) -> &str {
        match &self.value {
            Found::Missing => NONE,
            Found::Hidden => HIDDEN,
            Found::Text(text) => text,
        }
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
        let Self { field, part, origin, value, allowed, remedy } = self;
        // Escaped, since a field can be a key of a file, and an origin the name of one.
        write!(f, "`{}`", escaped(field))?;
        if let Some(part) = part {
            write!(f, " in the {part} of the URL")?;
        }
        if let Some(origin) = origin {
            write!(f, " from {}", escaped(origin))?;
        }
        match value {
            Found::Missing | Found::Hidden => write!(f, ": found {}", self.value())?,
            // Quoted and escaped, so that a line break in a value stays on its problem's line.
            Found::Text(text) => write!(f, ": found {}", escaped(&format!("{text:?}")))?,
        }
        write!(f, ", expected {allowed}; {remedy}")
    }
}
