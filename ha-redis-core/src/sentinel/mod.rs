//! Who is master, by what the Sentinels say: their answers, their events, and what follows from them.
//!
//! Nothing here does I/O or reads a clock: [`Follower`] takes what was heard, with the time, and returns what
//! is to be done.

mod event;
mod follower;
mod replicas;
mod view;

pub(crate) use event::{CHANNELS, Event, event_of};
pub(crate) use follower::{Action, Follower, Input};
pub(crate) use replicas::listed_replicas;
pub(crate) use view::{Instance, View, is_up, questions, read_view};
