//! The Redis protocol, without I/O: what is said, and what an answer means.

mod decode;
mod encode;
mod handshake;
mod in_flight;
pub(crate) mod pubsub;
mod replication;

pub use decode::{DecodeError, Decoder, Limits};

pub(crate) use encode::encode;
pub use handshake::Role;
#[cfg(feature = "sentinel")]
pub(crate) use handshake::may_not;
pub(crate) use handshake::{Answer, Handshake, Protocol, read_info_role, read_role};
pub(crate) use in_flight::{InFlight, Reply, ReplyBound, Request, Shape};
pub use pubsub::Scope;
pub(crate) use replication::{Position, Replication, read_replication, replication_question};
