//! The effective settings, and where each comes from.

use std::fmt;

use ha_redis_core::config::{LayeredBuilder, Setting};

/// The effective settings of a configuration with their sources. `Display` prints a table, without passwords.
///
/// ```text
/// setting          source               value
/// host             redis.toml:3         redis.example
/// password         REDIS_PASSWORD_FILE  ***
/// max_connections  default              50
/// ```
///
/// A setting of TLS for the Sentinels that is not set shows the one that counts, with the source `as ssl_ca_certs`. If the
/// configuration has mistakes, the table shows what could be read.
#[derive(Clone, Debug)]
pub struct Explanation {
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    setting: &'static Setting,
    value: Option<String>,
    source: Option<String>,
}

impl Explanation {
    pub(crate) fn new(builder: &LayeredBuilder) -> Self {
        let rows = Setting::all().map(|setting| Row {
            setting,
            value: builder.value(setting.name()),
            source: builder.origin(setting.name()).map(str::to_owned),
        });
        Self { rows: rows.collect() }
    }

    /// Returns the value of a setting as text, `***` for a password, `None` if there is none.
    pub fn value(&self, setting: &str) -> Option<&str> {
        self.row(setting)?.value.as_deref()
    }

    /// Returns where the value of a setting comes from: `redis.toml:3`, `REDIS_HOST`, `/run/secrets/password` or
    /// `code`. `None` is the default.
    pub fn source(&self, setting: &str) -> Option<&str> {
        self.row(setting)?.source.as_deref()
    }

    /// Returns the row whose value counts for a `sentinel_ssl…` setting that has none.
    fn inherited(&self, row: &Row) -> Option<&Row> {
        let name = row.setting.name().strip_prefix("sentinel_").filter(|name| name.starts_with("ssl"))?;
        self.row(name).filter(|_| row.value.is_none())
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.setting.name() == name)
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.rows.iter().map(|row| {
            let inherited = self.inherited(row);
            let value = row.value.as_deref().or(inherited.and_then(|row| row.value.as_deref()));
            let source = match (&row.source, inherited) {
                (Some(source), _) => source.escape_debug().to_string(),
                (None, Some(row)) => format!("as {}", row.setting.name()),
                (None, None) => "default".to_owned(),
            };
            let value = value.unwrap_or("none").escape_debug().to_string();
            [row.setting.name().to_owned(), source, value]
        });
        let header = ["setting", "source", "value"].map(str::to_owned);
        let lines: Vec<_> = std::iter::once(header).chain(shown).collect();
        let width =
            |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
        let (names, sources) = (width(0), width(1));
        for (index, [name, source, value]) in lines.iter().enumerate() {
            let line_break = if index > 0 { "\n" } else { "" };
            write!(f, "{line_break}{name:names$}  {source:sources$}  {value}")?;
        }
        Ok(())
    }
}
