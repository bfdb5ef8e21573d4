//! The Redis protocol, without I/O.

mod decode;

pub use decode::{DecodeError, Decoder, Limits};
