//! Decides which server is the master from the Sentinels' replies and events.
//!
//! Nothing here does I/O or reads a clock: [`SentinelMonitor`] takes an input with its time and returns the actions
//! to take. The files in `scenarios/` describe failovers line by line; a test runs each against the monitor.

#[cfg(any(test, fuzzing))]
mod any_reply;
mod describe;
mod event;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod identity_tests;
mod known_sentinel;
#[cfg(test)]
mod liar_tests;
mod master;
mod messages;
mod monitor;
mod promotion;
mod replicas;
mod report;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod scenarios;
mod votes;

#[cfg(fuzzing)]
pub(crate) use any_reply::check_bytes;
pub(crate) use event::{CHANNELS, SentinelEvent, parse_event};
pub(crate) use messages::{FailoverConfig, QueryError};
pub(crate) use monitor::SentinelMonitor;
pub(crate) use report::{ReportedReplica, SentinelReport, is_up, queries, read_report};

use crate::topology::Naming;
use crate::topology::messages::{Action, Input};
