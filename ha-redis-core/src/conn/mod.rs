//! One connection: the half that callers share ([`link`]), the [`driver`] that does its I/O, and how it is opened.
//!
//! A [`connector`] dials ([`dial`]), sets up TLS ([`tls`]) and runs the handshake. Until a driver takes over, a
//! connection is a [`raw_connection`]: a single task sends commands and reads the replies.

pub(crate) mod connector;
pub(crate) mod dial;
pub(crate) mod driver;
#[cfg(test)]
mod driver_order_tests;
#[cfg(any(test, fuzzing))]
pub(crate) mod driver_script;
pub(crate) mod handshake_forms;
pub(crate) mod link;
pub(crate) mod login;
pub(crate) mod raw_connection;
pub(crate) mod reconnect_backoff;
pub(crate) mod reply_reader;
#[cfg(feature = "__tls")]
pub(crate) mod tls;
#[cfg(not(feature = "__tls"))]
#[path = "tls/off.rs"]
pub(crate) mod tls;
pub(crate) mod tls_probe;
pub(crate) mod watchdog;
