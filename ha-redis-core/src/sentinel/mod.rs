//! Who is master, by what the Sentinels say: their answers, their events, and what follows from them.
//!
//! Nothing here does I/O or reads a clock: [`Follower`] takes what was heard, with the time, and returns what
//! is to be done. The files in `scenarios/` tell how failovers go, line by line; a test holds the follower to them.

#[cfg(any(test, fuzzing))]
mod any_reply;
mod council;
mod event;
#[cfg(test)]
mod fixtures;
mod follower;
#[cfg(test)]
mod identity_tests;
#[cfg(test)]
mod liar_tests;
mod master;
mod member;
mod messages;
mod pace;
mod promotion;
mod replicas;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod scenarios;
mod survey;
mod view;

#[cfg(fuzzing)]
pub(crate) use any_reply::check_bytes;
pub(crate) use event::{CHANNELS, Event, event_of};
pub(crate) use follower::Follower;
pub(crate) use messages::{Action, Input, Naming, NoAnswer, Rules};
pub(crate) use view::{Instance, View, is_up, questions, read_view};
