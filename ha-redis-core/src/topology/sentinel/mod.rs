//! Who is master, by what the Sentinels say: their answers, their events, and what follows from them.
//!
//! Nothing here does I/O or reads a clock: [`SentinelMonitor`] takes what was heard, with the time, and returns what
//! is to be done. The files in `scenarios/` tell how failovers go, line by line; a test holds the follower to them.

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
mod rate_limit;
mod replicas;
mod report;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod scenarios;
mod votes;

#[cfg(fuzzing)]
pub(crate) use any_reply::check_bytes;
pub(crate) use event::{CHANNELS, SentinelEvent, event_of};
pub(crate) use messages::{FailoverConfig, QueryError};
pub(crate) use monitor::SentinelMonitor;
pub(crate) use report::{ReportedReplica, SentinelReport, is_up, questions, read_report};

use crate::topology::Naming;
use crate::topology::messages::{Action, Input};
