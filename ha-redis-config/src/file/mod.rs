//! Parses a configuration file: TOML, YAML or JSON, by its extension.

mod json;
mod node;
mod toml;
mod yaml;

use std::path::Path;

use ha_redis_core::config::Problem;

pub(crate) use self::json::parse_value;
pub(crate) use self::node::{Node, Table, Value};

/// Parses the text of a file that `origin` names.
pub(crate) fn parse(path: &Path, text: &str, origin: &str) -> Result<Table, Problem> {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    let (format, parsed) = match extension.as_deref().and_then(|extension| extension.to_str()) {
        Some("toml") => ("TOML", toml::parse(text)),
        Some("yaml" | "yml") => ("YAML", yaml::parse(text)),
        Some("json") => ("JSON", json::parse(text)),
        _ => return Err(unknown_format(path).with_origin(origin)),
    };
    parsed.map_err(|error| {
        let origin = format!("{}:{}:{}", path.display(), error.line, error.column);
        let message = error.message.trim_end_matches('.').replace('\n', ", ");
        let remedy = "correct the file at this line and column";
        Problem::new("syntax", format!("valid {format} ({message})"), remedy).hidden().with_origin(origin)
    })
}

fn unknown_format(path: &Path) -> Problem {
    problem(path, "a name that ends in .toml, .yaml, .yml or .json", "rename the file")
}

/// Returns a mistake about a whole file. A URL in place of its path is hidden, since it may contain a password.
pub(crate) fn problem(path: &Path, allowed: impl Into<String>, remedy: &str) -> Problem {
    let problem = Problem::new("file", allowed, remedy);
    let shown = path.display().to_string();
    let may_be_url = shown.contains('@') || shown.contains("://");
    if may_be_url { problem.hidden() } else { problem.found(shown) }
}
