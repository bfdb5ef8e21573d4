//! The Redis protocol, without I/O: what is said, and what an answer means.

mod decode;
mod handshake;
mod in_flight;

pub use decode::{DecodeError, Decoder, Limits};

#[cfg(feature = "sentinel")]
pub(crate) use handshake::read_role;
pub(crate) use handshake::{Answer, Handshake, Protocol, Role};
pub(crate) use in_flight::{InFlight, Reply, Request, Shape};
