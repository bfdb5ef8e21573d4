//! Real Redis servers for tests: a single [`Server`], a [`Topology`] of a master with replicas and Sentinels, or a
//! [`Cluster`], with server faults on request. Each can use TLS with certificates of its own. [`Proxy`] adds network
//! faults, and [`ScriptedServer`] sends replies that no real server sends. [`sim`] tests the client against random
//! faults in virtual time, without real servers.
//!
//! Every server runs on a reserved port of 127.0.0.1, with its data in a temporary folder. Dropping the handle ends the
//! server and removes the folder. A panic, a Ctrl-C or a SIGKILL of the test does so as well. Calls block, and those
//! that wait have a timeout. An async test may call them anywhere, because no other test uses its server.
//! [`binary::redis_server`] finds the server program.
//!
//! ```
//! use ha_redis_testkit::Server;
//!
//! # fn main() -> Result<(), ha_redis_testkit::Error> {
//! let server = Server::start()?;
//! server.query(&["SET", "key", "value"])?;
//! assert_eq!(server.query(&["GET", "key"])?.text(), Some("value"));
//! server.hang()?; // accepts connections, sends no replies
//! server.resume()?;
//! # Ok(())
//! # }
//! ```
//!
//! Unix only.

pub mod binary;
mod certificates;
mod cluster;
#[cfg(feature = "conformance")]
pub mod conformance;
mod environment;
mod error;
mod guard;
pub mod lock_file;
mod network;
mod ports;
mod proxy;
mod replication;
mod resp;
mod scripted;
mod server;
pub mod sim;
mod topology;

pub use cluster::{Cluster, ClusterBuilder, Failover, Migration};
pub use environment::Environment;
pub use error::Error;
pub use proxy::{Cut, Direction, Proxy};
pub use resp::Reply;
pub use scripted::{Answer, ScriptedServer};
pub use server::{Server, ServerBuilder};
pub use topology::{Topology, TopologyBuilder};
