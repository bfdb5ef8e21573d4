//! What a load read.

use std::path::Path;

use ha_redis_core::config::{ConfigError, RedisConfig};

use crate::Explanation;
use crate::disk::Disk;

/// What [`Loader::read`](crate::Loader::read) found: the configuration or its mistakes, where each value comes from,
/// and the files that were read.
///
/// # Reload
/// [`has_changed`](Self::has_changed) tells when to load again, every few seconds or on a signal:
///
/// ```
/// # use ha_redis_config::Loader;
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("redis.toml");
/// std::fs::write(&file, "[sessions]\nhost = \"redis-1.example\"")?;
/// let loader = Loader::new().file(&file).environment([("REDIS_DB", "2")]);
/// let mut loaded = loader.read("sessions");
/// assert_eq!(loaded.config()?.url(), "redis://redis-1.example/2");
///
/// std::fs::write(&file, "[sessions]\nhost = \"redis-2.example\"")?;
/// if loaded.has_changed() {
///     loaded = loader.read("sessions");
///     match loaded.config() {
///         Ok(config) => assert_eq!(config.host(), "redis-2.example"), // client.reconfigure(config)
///         Err(mistakes) => eprintln!("the configuration in use is kept: {mistakes}"),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Loaded {
    pub(crate) config: Result<RedisConfig, ConfigError>,
    pub(crate) explanation: Explanation,
    pub(crate) names: Vec<String>,
    pub(crate) disk: Disk,
}

impl Loaded {
    /// Returns the configuration.
    ///
    /// # Errors
    /// Returns every mistake of all layers.
    pub fn config(&self) -> Result<RedisConfig, ConfigError> {
        self.config.clone()
    }

    /// Returns the effective settings and where each comes from.
    pub fn explain(&self) -> &Explanation {
        &self.explanation
    }

    /// Returns the names of the configurations in the file, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Returns the files and folders that were read, and those that the code names and that were not found. What a
    /// variable such as `REDIS_PASSWORD_FILE` names is left out if it cannot be read: it may be a password.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.disk.paths()
    }

    /// Reads the files again and returns true if the contents of any of them are not those that were loaded. The
    /// environment is not compared.
    ///
    /// The files are small, so this is cheap enough for every few seconds. It blocks as long as the file system does:
    /// call it on a thread for blocking work if the files may be on a network.
    pub fn has_changed(&self) -> bool {
        self.disk.has_changed()
    }
}
