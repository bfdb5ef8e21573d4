//! The runtime-agnostic core of ha-redis, a Redis client for services that must stay up.

pub mod address;
pub mod command;
pub mod config;
pub mod proto;

pub use address::Address;
pub use config::{ConfigError, RedisConfig, RedisConfigBuilder};
