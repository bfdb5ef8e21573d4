//! Reads the layers in their order.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use ha_redis_core::config::{ConfigError, LayeredBuilder, Problem, RedisConfig};
use secrecy::{ExposeSecret, SecretString};

use crate::disk::{Disk, MAX_FILE, NamedBy, reason};
use crate::file_layers::Configurations;
use crate::key::{self, CONFIG_FILE, Key};
use crate::layer::Layer;
use crate::names::{self, Scope};
use crate::variables::{self, Variable, VariableValue};
use crate::{Explanation, Loaded, dotenv, file};

/// The source of what [`Loader::set`] and [`Loader::url`] set.
const CODE: &str = "code";

/// Loads a [`RedisConfig`] from layers, of which each replaces values of those before it:
///
/// 1. the defaults;
/// 2. the [`file`](Self::file): what all configurations share, then the one that is loaded;
/// 3. the [`secrets_dir`](Self::secrets_dir);
/// 4. the [`url`](Self::url);
/// 5. the [`dotenv`](Self::dotenv) file;
/// 6. the [`environment`](Self::environment);
/// 7. what the code [`set`](Self::set)s.
///
/// Within a layer, what is for one configuration replaces what is for all (`REDIS_SESSIONS_HOST`, `REDIS_HOST`), and
/// values refine the URL of their layer. The same loader may load as often as needed, and any configuration.
///
/// ```
/// use ha_redis_config::Loader;
///
/// let loader = Loader::new().environment([
///     ("REDIS_HOST", "redis.example"),
///     ("REDIS_SOCKET_TIMEOUT", "2.5"),
///     ("REDIS_SESSIONS_DB", "1"),
/// ]);
/// assert_eq!(loader.load("sessions")?.url(), "redis://redis.example/1?socket_timeout=2500ms");
/// assert_eq!(loader.load_default()?.url(), "redis://redis.example?socket_timeout=2500ms");
/// # Ok::<(), ha_redis_config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a loader does nothing until it loads"]
pub struct Loader {
    prefix: String,
    file: Option<PathBuf>,
    secrets_dir: Option<PathBuf>,
    url: Option<SecretString>,
    dotenv: Option<PathBuf>,
    /// `None` is the environment of the process.
    environment: Option<Vec<Variable>>,
    values: Vec<(String, SecretString)>,
}

impl Default for Loader {
    fn default() -> Self {
        let prefix = "REDIS_".to_owned();
        let (file, secrets_dir, url, dotenv, environment) = (None, None, None, None, None);
        Self { prefix, file, secrets_dir, url, dotenv, environment, values: Vec::new() }
    }
}

impl Loader {
    /// Creates a loader of the environment, and of the file that `REDIS_CONFIG_FILE` names, if it is set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the configuration file, in place of the one that the variable `REDIS_CONFIG_FILE` names. TOML (`.toml`),
    /// YAML (`.yaml`, `.yml`) and JSON (`.json`), up to 1 MiB. A file that does not exist is a mistake.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Sets what the names of variables begin with, in any case. Default: `REDIS_`.
    pub fn env_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets a folder with one file for each value, as Docker (`/run/secrets`) and Kubernetes mount them: `password`,
    /// `redis_password` or `redis-sessions-password`. A line break at the end of a value is cut off. A certificate or a
    /// key (`ssl_keyfile`) is that file itself. Other files are ignored, and so is a folder that does not exist.
    pub fn secrets_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.secrets_dir = Some(path.into());
        self
    }

    /// Sets a URL that replaces how the file reaches the server, and whatever else it contains.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into().into());
        self
    }

    /// Sets a file of `NAME=value` lines, often `.env`. It may be missing. Nothing is substituted in the values: a `$`
    /// is a dollar sign.
    pub fn dotenv(mut self, path: impl Into<PathBuf>) -> Self {
        self.dotenv = Some(path.into());
        self
    }

    /// Replaces the environment of the process by these variables, for tests or to leave it out:
    /// `environment([("", ""); 0])`.
    pub fn environment<K, V>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.environment = Some(variables.filter_map(Variable::of_environment).collect());
        self
    }

    /// Sets a setting by its name, above all other layers. `url` sets what a URL contains.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.values.push((name.into(), value.into().into()));
        self
    }

    /// Loads the configuration `name`: a table of the file, or variables such as `REDIS_SESSIONS_HOST`.
    ///
    /// # Errors
    /// Returns every mistake of all layers. A name that the file does not have is one.
    pub fn load(&self, name: &str) -> Result<RedisConfig, ConfigError> {
        self.read(name).config
    }

    /// Loads what all configurations share.
    ///
    /// # Errors
    /// Returns every mistake of all layers.
    pub fn load_default(&self) -> Result<RedisConfig, ConfigError> {
        self.read_default().config
    }

    /// Loads the configuration `name`, with all that is known about it.
    pub fn read(&self, name: &str) -> Loaded {
        self.read_layers(Some(name))
    }

    /// Loads what all configurations share, with all that is known about it.
    pub fn read_default(&self) -> Loaded {
        self.read_layers(None)
    }

    fn read_layers(&self, name: Option<&str>) -> Loaded {
        let mut disk = Disk::default();
        let mut builder = LayeredBuilder::new();
        let (dotenv, dotenv_problems) = self.read_dotenv(&mut disk);
        let process;
        let environment = match &self.environment {
            Some(variables) => variables,
            None => {
                process = env::vars_os().filter_map(Variable::of_environment).collect();
                &process
            }
        };

        let configurations = self.read_file(&[environment, &dotenv], &mut builder, &mut disk);
        let names: Vec<String> =
            configurations.iter().flat_map(Configurations::names).map(str::to_owned).collect();
        // The file reports the names that it has.
        let is_in_file = |name: &str| names.iter().any(|known| known == name);
        let wrong = name.filter(|name| !is_in_file(name)).and_then(|name| names::check(name).err());
        let name_in_file = name.filter(|_| wrong.is_none());
        wrong.into_iter().for_each(|problem| {
            builder.report(problem.with_origin(CODE));
        });
        let others = names.iter().filter(|other| Some(other.as_str()) != name);
        let scope = Scope {
            prefix: &self.prefix,
            name: name.map(names::in_variables),
            others: others.map(|other| names::in_variables(other)).collect(),
        };

        let mut layers = configurations.map(|file| file.layers(name_in_file)).unwrap_or_default();
        let secrets = self.list_secrets(&mut builder, &mut disk);
        layers.extend(variables::layers(&secrets, &scope, &mut disk));
        layers.push(self.url_layer());
        layers.extend(variables::layers(&dotenv, &scope, &mut disk));
        layers.extend(variables::layers(environment, &scope, &mut disk));
        layers.push(self.code_layer());
        layers.into_iter().for_each(|layer| layer.apply(&mut builder));
        dotenv_problems.into_iter().for_each(|problem| {
            builder.report(problem);
        });
        Loaded { config: builder.build(), explanation: Explanation::new(&builder), names, disk }
    }

    /// Parses the file that the code or a variable names, if there is one.
    fn read_file(
        &self,
        variables: &[&Vec<Variable>],
        builder: &mut LayeredBuilder,
        disk: &mut Disk,
    ) -> Option<Configurations> {
        let (path, named_by, origin) = match &self.file {
            Some(path) => (path.clone(), NamedBy::Code, CODE.to_owned()),
            None => {
                let variable = format!("{}{CONFIG_FILE}", self.prefix);
                let mut variables = variables.iter().flat_map(|variables| variables.iter());
                let is_set =
                    |known: &&Variable| known.name.eq_ignore_ascii_case(&variable) && !known.is_empty();
                let Variable { value, origin, .. } = variables.find(is_set)?;
                let VariableValue::Text(path) = value else {
                    let problem = Problem::new("file", "a path in UTF-8", "rename the file").hidden();
                    builder.report(problem.with_origin(&**origin));
                    return None;
                };
                (path.expose_secret().into(), NamedBy::Variable, origin.clone())
            }
        };
        let parsed = match disk.read(&path, named_by, MAX_FILE) {
            Ok(text) => file::parse(&path, text.trim_start_matches('\u{feff}'), &origin),
            Err(error) => Err(unreadable(&path, &error).with_origin(origin)),
        };
        match parsed {
            Ok(table) => Some(Configurations::new(&path, table)),
            Err(problem) => {
                builder.report(problem);
                None
            }
        }
    }

    fn read_dotenv(&self, disk: &mut Disk) -> (Vec<Variable>, Vec<Problem>) {
        let Some(path) = &self.dotenv else { return Default::default() };
        match disk.read(path, NamedBy::Code, MAX_FILE) {
            Ok(text) => dotenv::parse(path, text.trim_start_matches('\u{feff}')),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            Err(error) => (Vec::new(), vec![unreadable(path, &error).with_origin(CODE)]),
        }
    }

    fn list_secrets(&self, builder: &mut LayeredBuilder, disk: &mut Disk) -> Vec<Variable> {
        let Some(folder) = &self.secrets_dir else { return Vec::new() };
        match disk.list(folder) {
            Ok(paths) => paths.iter().filter_map(|path| Variable::of_secret(&self.prefix, path)).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let allowed = format!("a readable folder ({})", reason(&error));
                let problem = Problem::new("secrets_dir", allowed, "correct the path or its permissions");
                builder.report(problem.found(folder.display().to_string()).with_origin(CODE));
                Vec::new()
            }
        }
    }

    fn url_layer(&self) -> Layer {
        let mut layer = Layer::default();
        if let Some(url) = &self.url {
            layer.add_text(Key::Url, url.clone(), CODE.to_owned());
        }
        layer
    }

    fn code_layer(&self) -> Layer {
        let mut layer = Layer::default();
        for (name, value) in &self.values {
            match Key::of(name) {
                Some(key) => layer.add_text(key, value.clone(), CODE.to_owned()),
                None => layer.add_problem(key::unknown(name).with_origin(CODE)),
            }
        }
        layer
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let allowed = format!("a readable file ({})", reason(error));
    file::problem(path, allowed, "correct the path, or create the file")
}
