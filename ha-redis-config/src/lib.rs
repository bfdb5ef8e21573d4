// The README has links that work outside rustdoc. These definitions come first, so rustdoc uses them instead.
//! [guide]: ha_redis_core::guide::configuration_files
//! [JSON Schema]: crate::json_schema
//! [`Loaded::has_changed`]: crate::Loaded::has_changed
//! [`Loader`]: crate::Loader
//!
#![doc = include_str!("../README.md")]

mod disk;
mod dotenv;
mod explanation;
mod file;
mod file_layers;
mod key;
mod layer;
mod loaded;
mod loader;
mod names;
mod other_clients;
mod schema;
mod service_links;
mod variables;

pub use ha_redis_core::config::{ConfigError, Problem, RedisConfig};

pub use self::explanation::Explanation;
pub use self::loaded::Loaded;
pub use self::loader::Loader;
pub use self::schema::json_schema;

/// Loads the configuration `name` from the file that `REDIS_CONFIG_FILE` names and the environment. [`Loader`] has all
/// other ways.
///
/// ```no_run
/// let config = ha_redis_config::load("sessions")?;
/// # Ok::<(), ha_redis_config::ConfigError>(())
/// ```
///
/// # Errors
/// Returns every mistake of all layers. A name that the file does not have is one.
pub fn load(name: &str) -> Result<RedisConfig, ConfigError> {
    Loader::new().load(name)
}

/// Loads what all configurations share, from the file that `REDIS_CONFIG_FILE` names and the environment.
///
/// # Errors
/// Returns every mistake of all layers.
pub fn load_default() -> Result<RedisConfig, ConfigError> {
    Loader::new().load_default()
}
