//! Layers from variables: those of the environment, of a `.env` file, and a folder of secrets.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use ha_redis_core::config::{Problem, SettingKind};
use secrecy::{ExposeSecret, SecretString};

use crate::disk::{Disk, MAX_SECRET, NamedBy, reason};
use crate::key::{self, CONFIG_FILE, Key};
use crate::layer::Layer;
use crate::names::{Audience, Scope};
use crate::service_links::is_service_link;

/// A variable, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: VariableValue,
    pub(crate) origin: String,
}

#[derive(Clone)]
pub(crate) enum VariableValue {
    Text(SecretString),
    NotUtf8,
    /// The value is the contents of a file of a folder of secrets, which is read if it is needed.
    Secret {
        path: PathBuf,
        /// Whether the name of the file begins with the prefix. Others may be other programs'.
        has_prefix: bool,
    },
}

/// Never shows a value. What is taken for a path may be a password in the wrong variable.
impl fmt::Debug for VariableValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Variable {
    /// Takes a variable of an environment. Variables whose names are not UTF-8 are nobody's settings.
    pub(crate) fn of_environment((name, value): (OsString, OsString)) -> Option<Self> {
        let name = name.into_string().ok()?;
        let value = match value.into_string() {
            Ok(text) => VariableValue::Text(text.into()),
            Err(_) => VariableValue::NotUtf8,
        };
        Some(Self { origin: name.clone(), name, value })
    }

    /// Takes a file of a folder of secrets: `password`, `redis_password` or `redis-password`. Kubernetes keeps the
    /// versions of a folder in others, which begin with a dot.
    pub(crate) fn of_secret(prefix: &str, path: &Path) -> Option<Self> {
        let file = path.file_name()?.to_str().filter(|name| !name.starts_with('.'))?;
        let file = file.replace('-', "_");
        let has_prefix = file.to_ascii_lowercase().starts_with(&prefix.to_ascii_lowercase());
        let name = if has_prefix { file } else { format!("{prefix}{file}") };
        let value = VariableValue::Secret { path: path.to_owned(), has_prefix };
        Some(Self { name, value, origin: path.display().to_string() })
    }

    fn text(&self) -> &str {
        match &self.value {
            VariableValue::Text(text) => text.expose_secret(),
            VariableValue::NotUtf8 | VariableValue::Secret { .. } => "",
        }
    }

    /// Returns true for a file in a folder of secrets, such as `tls`, whose name does not tell that it is ours.
    fn is_of_others(&self, audience: Audience) -> bool {
        matches!(self.value, VariableValue::Secret { has_prefix: false, .. }) && audience == Audience::All
    }

    /// An empty variable counts as not set.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.value, VariableValue::Text(_)) && self.text().is_empty()
    }
}

/// A variable that sets a value.
struct Assignment<'a> {
    audience: Audience,
    key: Key,
    /// Whether the variable names a file with the value.
    in_file: bool,
    variable: &'a Variable,
}

/// Returns the layers of variables for a scope: that for all configurations, and that for the loaded one.
pub(crate) fn layers(variables: &[Variable], scope: &Scope<'_>, disk: &mut Disk) -> [Layer; 2] {
    let mut layers = [Layer::default(), Layer::default()];
    let (mut known, mut unknown): (Vec<Assignment<'_>>, Vec<_>) = (Vec::new(), Vec::new());
    for variable in variables.iter().filter(|variable| !variable.is_empty()) {
        let Some((audience, name)) = scope.split(&variable.name) else { continue };
        if name == CONFIG_FILE || is_service_link(&name, variable.text()) {
            continue;
        }
        let key = match variable.value {
            // The file itself has the value.
            VariableValue::Secret { .. } => Key::of(&name).map(|key| (key, false)),
            _ => Key::of_variable(&name),
        };
        match key {
            Some((key, in_file)) => known.push(Assignment { audience, key, in_file, variable }),
            None if variable.is_of_others(audience) => {}
            None => unknown.push((audience, name, variable)),
        }
    }
    // An environment has no order, and mistakes should have one.
    known.sort_by(|one, other| one.variable.name.cmp(&other.variable.name));
    unknown.sort_by(|(_, one, _), (_, other, _)| one.cmp(other));
    for (audience, name, variable) in unknown {
        // A host stands in place of a URL.
        let is_host = |key: Key| matches!(key.name(), "host" | "unix_socket" | "sentinel_hosts");
        let is_set = |ours: &str| {
            let mut keys = known.iter().filter(|known| known.audience == audience).map(|known| known.key);
            keys.any(|key| key.name() == ours || (ours == key::URL && is_host(key)))
        };
        let meant = key::meant(&name).map(|ours| (ours, ""));
        let in_file = || Some((key::meant(name.strip_suffix("_file")?)?, "_file"));
        if let Some((ours, suffix)) = meant.or_else(in_file).filter(|(ours, _)| !is_set(ours)) {
            let wanted = scope.variable(audience, &format!("{ours}{suffix}"));
            layers[index(audience)].add_problem(misspelled(&name, ours, variable, &wanted));
        }
    }
    for (at, assignment) in known.iter().enumerate() {
        let Assignment { audience, key, variable, .. } = *assignment;
        let layer = &mut layers[index(audience)];
        let is_same = |other: &&Assignment<'_>| other.audience == audience && other.key.name() == key.name();
        match known[..at].iter().find(is_same) {
            Some(first) => layer.add_problem(twice(key, first.variable, variable)),
            None => add(layer, assignment, disk),
        }
    }
    layers
}

fn index(audience: Audience) -> usize {
    match audience {
        Audience::All => 0,
        Audience::One => 1,
    }
}

fn add(layer: &mut Layer, assignment: &Assignment<'_>, disk: &mut Disk) {
    let Assignment { key, in_file, variable, .. } = *assignment;
    let (path, named_by) = match &variable.value {
        VariableValue::Secret { path, .. } => (path.clone(), NamedBy::Code),
        VariableValue::Text(text) if in_file => (PathBuf::from(text.expose_secret()), NamedBy::Variable),
        VariableValue::Text(text) => {
            return layer.add_text(key, text.clone(), variable.origin.clone());
        }
        VariableValue::NotUtf8 => return layer.add_problem(not_utf8(key, variable)),
    };
    if let Key::Setting(setting) = key
        && setting.kind() == SettingKind::File
    {
        // The value is a path. A mounted certificate or key is that file itself.
        return match path.to_str() {
            Some(path) => layer.add_text(key, path.into(), variable.origin.clone()),
            None => layer.add_problem(not_utf8(key, variable)),
        };
    }
    match disk.read(&path, named_by, MAX_SECRET) {
        Ok(text) => {
            // Editors and `echo` end a file with a line break, which no password has.
            let line = text.trim_start_matches('\u{feff}');
            let line = line.strip_suffix('\n').unwrap_or(line);
            let line = line.strip_suffix('\r').unwrap_or(line);
            layer.add_text(key, line.into(), variable.origin.clone());
        }
        Err(error) => {
            let allowed = format!("a readable file with the value ({})", reason(&error));
            let remedy = "correct the path or the file";
            layer.add_problem(
                Problem::new(key.name(), allowed, remedy).hidden().with_origin(&*variable.origin),
            );
        }
    }
}

fn not_utf8(key: Key, variable: &Variable) -> Problem {
    let problem = Problem::new(key.name(), "UTF-8", "encode the value in UTF-8");
    problem.hidden().with_origin(&*variable.origin)
}

fn twice(key: Key, first: &Variable, second: &Variable) -> Problem {
    let remedy = format!("keep one of {} and {}", first.origin, second.origin);
    let found = "two values";
    Problem::new(key.name(), "one value", remedy).found(found).with_origin(&*second.origin)
}

/// The variable may be another program's, so the remedy includes a way to keep it.
fn misspelled(name: &str, ours: &str, variable: &Variable, wanted: &str) -> Problem {
    let remedy = match variable.value {
        VariableValue::Secret { .. } => {
            let wanted = wanted.to_ascii_lowercase();
            format!("rename the file to {}", wanted.strip_suffix("_file").unwrap_or(&wanted))
        }
        _ => format!("rename it to {wanted}; if another program reads it, set {wanted} too"),
    };
    Problem::new(name.to_owned(), format!("the name of a setting, such as {ours}"), remedy)
        .hidden()
        .with_origin(&*variable.origin)
}
