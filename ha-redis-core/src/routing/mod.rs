//! Which part of a cluster a call goes to.
//!
//! A [`Slot`] is the part of a key, [`Slots`] those of a whole call. A [`Split`] is a command whose keys have several
//! slots, with a part for each.

mod slot;
mod slots;
mod split;
mod table;

pub use slot::{InvalidSlot, Slot};
pub use slots::{CrossSlot, Slots};
pub use split::{Split, SplitPart};
pub(crate) use table::RoutingTable;
