//! Chooses the replica for a read, without I/O or clock.

mod choice;
mod pattern;
mod strategy;

pub use choice::{ReplicaCandidate, ReplicaChoice, SelectionContext};
pub(crate) use pattern::ReplicaPattern;
pub use strategy::ReplicaStrategy;
