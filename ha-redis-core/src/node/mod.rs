//! The servers behind a client: the connections to each, their limits and health.

pub(crate) mod client_options;
pub(crate) mod core;
pub(crate) mod fence;
pub(crate) mod lifecycle;
pub(crate) mod logins;
pub(crate) mod open_links;
mod reconfigure;
pub(crate) mod scan_cursors;
#[cfg(feature = "sentinel")]
pub(crate) mod sentinel_list;
pub(crate) mod shard;
