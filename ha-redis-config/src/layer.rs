//! One layer: values for settings, each with the place it came from.

use ha_redis_core::config::{LayeredBuilder, Problem, Setting, SettingKind};
use secrecy::{ExposeSecret, SecretString};

use crate::file::{Node, Value, parse_value};
use crate::key::{self, Key};

/// The values of a layer, and the mistakes that were found while it was read.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    url: Option<(SecretString, String)>,
    items: Vec<Item>,
}

#[derive(Debug)]
enum Item {
    Value {
        setting: &'static Setting,
        text: SecretString,
        origin: String,
    },
    /// What a layer before this one set does not count.
    Unset(&'static Setting),
    Problem(Problem),
}

impl Layer {
    /// Adds a value that is text, as variables and the files of secrets have it.
    pub(crate) fn add_text(&mut self, key: Key, text: SecretString, origin: String) {
        let Key::Setting(setting) = key else {
            self.url = Some((text.expose_secret().trim().into(), origin));
            return;
        };
        let trimmed = text.expose_secret().trim();
        let is_json = match setting.kind() {
            SettingKind::Text | SettingKind::File => {
                return self.items.push(Item::Value { setting, text, origin });
            }
            // Not the bracket of an IPv6 address.
            SettingKind::List => {
                trimmed.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with(['[', '"', ']']))
            }
            SettingKind::Map => trimmed.starts_with('{'),
            _ => false,
        };
        match is_json.then(|| parse_value(trimmed)) {
            Some(Ok(value)) => self.add_value(setting, &value, origin),
            // The text is not valid JSON and is refused as it is.
            Some(Err(_)) | None => self.items.push(Item::Value { setting, text: trimmed.into(), origin }),
        }
    }

    /// Adds an entry of a file.
    pub(crate) fn add_node(&mut self, name: &str, node: &Node, origin: String) {
        match (Key::of(name), &node.value) {
            (None, _) => self.add_problem(key::unknown(name).with_origin(origin)),
            (Some(Key::Setting(setting)), value) => self.add_value(setting, value, origin),
            (Some(Key::Url), Value::Text(url)) if !url.expose_secret().is_empty() => {
                self.url = Some((url.clone(), origin));
            }
            (Some(Key::Url), value) => self.add_problem(no_url(value).with_origin(origin)),
        }
    }

    fn add_value(&mut self, setting: &'static Setting, value: &Value, origin: String) {
        match text_of(setting, value) {
            Ok(Some(text)) => self.items.push(Item::Value { setting, text, origin }),
            Ok(None) => self.items.push(Item::Unset(setting)),
            Err(problem) => self.add_problem(problem.with_origin(origin)),
        }
    }

    pub(crate) fn add_problem(&mut self, problem: Problem) {
        self.items.push(Item::Problem(problem));
    }

    /// Puts the layer on top of those before it: the URL first, so that the other values refine it.
    pub(crate) fn apply(self, builder: &mut LayeredBuilder) {
        if let Some((url, origin)) = self.url {
            builder.url(url.expose_secret(), &origin);
        }
        for item in self.items {
            match item {
                Item::Value { setting, text, origin } => {
                    builder.set(setting.name(), text.expose_secret(), &origin)
                }
                Item::Unset(setting) => builder.unset(setting.name()),
                Item::Problem(problem) => builder.report(problem),
            };
        }
        builder.end_layer();
    }
}

/// Returns the value of a typed file as the text in which settings are read; `None` if it is empty. An empty password is
/// a mistake: it is rather a template that was filled in without one.
fn text_of(setting: &Setting, value: &Value) -> Result<Option<SecretString>, Problem> {
    match (setting.kind(), value) {
        (_, Value::Null) => Ok(None),
        (_, Value::Text(text)) if text.expose_secret().is_empty() && may_be_empty(setting) => Ok(None),
        (_, Value::Text(text)) => Ok(Some(text.clone())),
        (SettingKind::Switch, Value::Bool(switch)) => Ok(Some(switch.to_string().into())),
        (SettingKind::List, Value::List(items)) if items.is_empty() => Ok(None),
        (SettingKind::List, Value::List(items)) => {
            let items = items.iter().map(|item| item_of(&item.value)).collect::<Result<Vec<_>, _>>();
            Ok(Some(items.map_err(|found| misshapen(setting, &found))?.join(",").into()))
        }
        (SettingKind::Map, Value::Table(table)) if table.is_empty() => Ok(None),
        (SettingKind::Map, Value::Table(table)) => {
            let entries = table.iter().map(|(from, to)| entry_of(from, &to.value));
            let entries = entries.collect::<Result<Vec<_>, _>>();
            Ok(Some(entries.map_err(|found| misshapen(setting, found))?.join(",").into()))
        }
        (_, Value::Bool(switch)) => Err(misshapen(setting, &switch.to_string())),
        (_, Value::List(_)) => Err(misshapen(setting, "a list")),
        (_, Value::Table(_)) => Err(misshapen(setting, "a table")),
    }
}

/// Returns true for settings that have no value by default.
pub(crate) fn may_be_empty(setting: &Setting) -> bool {
    setting.default_text().is_none() && !setting.is_secret()
}

/// Returns an item of a list: a text, or a pair of host and port as the Python library has them. The error is what was
/// found in its place.
fn item_of(value: &Value) -> Result<String, String> {
    let wrong = "a list of other values than texts";
    let item = match value {
        Value::List(pair) => {
            let [host, port] = &pair[..] else { return Err(wrong.into()) };
            let (host, port) = scalar_of(&host.value).zip(scalar_of(&port.value)).ok_or(wrong)?;
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
        }
        _ => scalar_of(value).ok_or(wrong)?.to_owned(),
    };
    match item.bytes().all(|byte| byte.is_ascii_digit()) {
        // The port of a pair whose brackets are missing.
        true if !item.is_empty() => Err(format!("{item} as an item")),
        _ if item.contains(',') => Err("an item with a comma".into()),
        _ => Ok(item),
    }
}

/// Returns an entry of a table. The error is what was found in its place.
fn entry_of(from: &str, to: &Value) -> Result<String, &'static str> {
    let to = scalar_of(to).ok_or("a table of other values than texts")?;
    match [from, to].iter().any(|text| text.contains([',', '='])) {
        true => Err("an entry with a comma or an equals sign"),
        false => Ok(format!("{from}={to}")),
    }
}

fn scalar_of(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text.expose_secret()),
        _ => None,
    }
}

/// Returns the mistake of an entry `url` without a URL.
fn no_url(value: &Value) -> Problem {
    let remedy = match value {
        Value::Null | Value::Text(_) => {
            "write another one, or the settings that differ, since a shared URL cannot be dropped"
        }
        _ => "write it in quotes",
    };
    let problem = Problem::new(key::URL, "a URL, such as redis://host:6379/0", remedy);
    match value {
        Value::Null => problem,
        Value::Text(_) => problem.found(""),
        _ => problem.hidden(),
    }
}

fn misshapen(setting: &Setting, found: &str) -> Problem {
    let remedy = match setting.kind() {
        SettingKind::List => "write a list of texts, or one text with commas",
        SettingKind::Map => "write a table of texts, or one text with commas",
        _ => "write a single value, in quotes if it is text",
    };
    Problem::new(setting.name(), setting.allowed(), remedy).found(found)
}
