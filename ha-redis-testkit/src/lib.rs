//! Real Redis servers for tests: one, or a master with replicas and Sentinels, with the faults they can have.
//! Each can have TLS, with certificates of its own. [`Proxy`] adds the faults of the network between, and
//! [`ScriptedServer`] says what no real server says. No real server at all takes part in [`sim`], where the client meets
//! random faults in virtual time.
//!
//! Every server runs on a port of 127.0.0.1 that no other test takes, with its data in a temporary folder. All
//! of it is gone when the handle drops, and also after a panic, a Ctrl-C or a SIGKILL of the test. Calls block,
//! and those that wait have a bound; an async test may make them where it likes, since it has its server for
//! itself. The server program is found by [`binary::redis_server`].
//!
//! ```
//! use ha_redis_testkit::Server;
//!
//! # fn main() -> Result<(), ha_redis_testkit::Error> {
//! let server = Server::start()?;
//! server.query(&["SET", "key", "value"])?;
//! assert_eq!(server.query(&["GET", "key"])?.text(), Some("value"));
//! server.hang()?; // accepts connections, answers nothing
//! server.resume()?;
//! # Ok(())
//! # }
//! ```
//!
//! Unix only.

pub mod binary;
mod certificates;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod guard;
mod ports;
mod proxy;
mod resp;
mod scripted;
mod server;
pub mod sim;
mod topology;

pub use error::Error;
pub use proxy::{Cut, Direction, Proxy};
pub use resp::Reply;
pub use scripted::{Answer, ScriptedServer};
pub use server::{Server, ServerBuilder};
pub use topology::{Topology, TopologyBuilder};
