//! The async glue between the decisions and the sockets.
//!
//! A [`lane`] task keeps a connection to the master: it connects ([`connector`], [`dial`]), verifies the role on that
//! connection, and then drives it ([`driver`]). Callers ([`calling`], and [`caller`] when that does not do) meet the
//! driver in a [link](crate::link): they encode into its buffer and wait in a slot. A connection for one caller at
//! a time is [`borrowed`]; an [`opener`] task makes and drives it. A [`subscriber`] has a connection of its own.

pub(crate) mod borrowed;
pub(crate) mod caller;
pub(crate) mod calling;
pub(crate) mod connector;
pub(crate) mod coop_budget;
pub(crate) mod core;
pub(crate) mod dial;
pub(crate) mod dialog;
#[cfg(feature = "sentinel")]
pub(crate) mod discovery;
pub(crate) mod driver;
#[cfg(test)]
mod driver_order_tests;
#[cfg(any(test, fuzzing))]
pub(crate) mod driver_script;
pub(crate) mod exchange;
pub(crate) mod fence;
pub(crate) mod handshake_forms;
pub(crate) mod lane;
pub(crate) mod opener;
pub(crate) mod outage;
pub(crate) mod reading;
pub(crate) mod redial;
pub(crate) mod refused;
pub(crate) mod replica;
pub(crate) mod reply_reader;
#[cfg(feature = "sentinel")]
pub(crate) mod roll_call;
mod scans;
#[cfg(feature = "sentinel")]
pub(crate) mod sentinel_list;
#[cfg(feature = "sentinel")]
pub(crate) mod sentinel_task;
pub(crate) mod subscriber;
#[cfg(feature = "sentinel")]
pub(crate) mod supervisor;
pub(crate) mod tls_probe;
pub(crate) mod urgent;
pub(crate) mod watchdog;
