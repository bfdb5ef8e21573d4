//! The Redis protocol, without I/O: encoding, decoding, and the meaning of replies.

mod decode;
mod encode;
mod handshake;
mod in_flight;
pub(crate) mod pubsub;
mod replication;
mod role;
mod run_id;
mod secrets;
mod transaction;
#[cfg(test)]
pub(crate) mod written;

/// The code of an error that replaces a reply over a limit.
pub(crate) const TOO_LARGE: &str = "TOOLARGE";

pub use decode::{DecodeError, Decoder, Incoming, Limits, NotResp, OverLimit, Skipped};

pub(crate) use encode::encode;
pub(crate) use handshake::{Answer, Form, Greeting, Handshake, login_command, refused};
pub(crate) use in_flight::{InFlight, Reply, ReplyBound, Request, Shape};
pub use pubsub::Scope;
pub(crate) use replication::{Position, Replication, read_replication, replication_command};
pub use role::Role;
pub(crate) use role::read_hello_role;
pub(crate) use role::{read_info_role, read_role};
pub(crate) use run_id::{read_run_id, run_id_command};
pub(crate) use secrets::Secrets;
pub(crate) use transaction::Transaction;
