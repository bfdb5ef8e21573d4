//! The runtime-agnostic core of ha-redis, a Redis client for services that must stay up.
//!
//! Services depend on a runtime crate: `ha-redis-tokio`, `ha-redis-async-std` or `ha-redis-smol`. These re-export
//! everything from here and add a `RedisClient`. This crate implements the client without a runtime: it opens no
//! socket, reads no clock and starts no task by itself. To run the client on a runtime of your own, implement
//! [`runtime::Runtime`] and pass it to [`Client::new`].
//!
//! - [`Client`] creates the handles: [`Connection`], [`DedicatedConnection`], [`PubSub`] and [`Events`].
//! - [`RedisConfig`] has the settings, from a builder or a URL.
//! - [`Error`] describes a failure, and [`Outcome`] what became of the command. [`RetrySafety`] and [`RetryPolicy`]
//!   control which commands are sent again, and when.
//! - [`guide`] explains all of it.
//!
//! | feature | adds |
//! |---|---|
//! | `sentinel` | The client follows the master that Sentinels name. |
//! | `tls` | Encrypted connections, with rustls and ring. |
//! | `tls-aws-lc-rs` | Encrypted connections, with rustls and aws-lc-rs: key exchange that quantum computers do not break, and FIPS. |
//! | `aio` | `redis::aio::ConnectionLike` for the handles. Runtime crates turn it on, together with one of redis's own runtime features, which it needs. |
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod address;
pub mod command;
pub mod config;
pub mod guide;
pub mod proto;
// For clusters, which the client does not support yet: public only for the tests of the testkit.
#[doc(hidden)]
pub mod routing;
pub mod runtime;

mod alarm;
mod background_drop;
mod call;
mod client;
mod closing;
mod conn;
mod connection;
mod coop_budget;
mod credentials;
mod dedicated;
mod error;
mod events;
mod generation;
mod health;
#[cfg(any(test, fuzzing))]
mod manual_runtime;
mod node;
mod peer_text;
mod pubsub;
mod replica_choice;
mod resolver;
mod retry;
#[cfg(feature = "sentinel")]
mod sentinel_connection;
mod sync;
mod tasks;
mod time;
mod topology;
mod wait_queue;

/// For fuzz targets.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing {
    use crate::conn::driver_script::{follow, read_script};

    /// Follows the script that these bytes stand for; panics when something does not hold.
    pub fn drive(bytes: &[u8]) {
        let (steps, ending) = read_script(bytes);
        follow(&steps, ending);
    }

    /// Reads these bytes as the replies of a Sentinel, and of a server; panics when something does not hold.
    #[cfg(feature = "sentinel")]
    pub fn read_replies(bytes: &[u8]) {
        crate::topology::sentinel::check_bytes(bytes);
    }
}

pub use address::Address;
pub use client::{Client, retry};
pub use closing::CloseReport;
pub use config::{
    AddressMap, ConfigError, Jitter, ParseChoiceError, Protocol, RedisConfig, RedisConfigBuilder,
    RetrySafety, TlsVersion,
};
#[cfg(feature = "__tls")]
pub use conn::tls::TlsConfig;
pub use connection::Connection;
#[cfg(feature = "token-based-authentication")]
pub use credentials::StreamedCredentials;
pub use credentials::{
    Credentials, CredentialsError, CredentialsProvider, EnvCredentials, FileCredentials,
    RefreshedCredentials, StaticCredentials,
};
pub use dedicated::DedicatedConnection;
pub use error::{Error, Outcome, RedisErrorExt};
pub use events::{Event, Events, FailoverReport};
pub use health::Health;
pub use node::client_options::ClientOptions;
pub use proto::{Role, Scope};
pub use pubsub::{PubSub, PubSubSink, PubSubStream};
#[doc(no_inline)]
pub use redis;
pub use replica_choice::{ReplicaCandidate, ReplicaChoice, ReplicaStrategy, SelectionContext};
pub use retry::RetryPolicy;
#[cfg(feature = "__tls")]
#[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
#[doc(no_inline)]
pub use rustls;
#[cfg(feature = "sentinel")]
pub use sentinel_connection::SentinelConnection;
pub use tasks::subscriber::PubSubEvent;
pub use topology::{Replica, SentinelState, Topology, TopologySource, TopologyUpdate};
