//! Which replica a read goes to: decisions only, no I/O and no clock.

mod choice;
mod pattern;
mod strategy;

pub use choice::{ReplicaCandidate, ReplicaChoice, SelectionContext};
pub(crate) use pattern::ReplicaPattern;
pub use strategy::ReplicaStrategy;
