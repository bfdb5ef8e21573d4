//! Which commands a shard lets through to its master: all, only reads, or none for now.

use std::sync::Arc;

use super::{Shard, State};
use crate::conn::link::{Call, Link};
use crate::error::{Error, Kind};
use crate::generation::Generation;
use crate::sync::{lock, wait_for};

/// The state of the gate. It outlives the connections, and each new one takes it over.
#[derive(Debug, Default)]
pub(super) struct ShardGate {
    /// Whether commands are held, because a failover is in progress.
    pub(super) held: bool,
    /// Why only reads are allowed.
    read_only: Option<Error>,
    /// Whether a connection was lost and the source has not confirmed the master since.
    unconfirmed: bool,
}

impl ShardGate {
    /// Resets what applied to the previous master.
    pub(super) fn on_switch(&mut self) {
        (self.held, self.unconfirmed) = (false, false);
    }

    pub(super) fn apply(&self, link: &Link) {
        link.restrict(self.read_only.clone());
        if self.held {
            link.hold();
        }
    }
}

impl Shard {
    // For callers.

    /// Waits until commands are no longer held, or the client is closed.
    pub(crate) async fn released(&self) {
        let is_over = |state: &mut State| (!state.gate.held || state.closed.is_some()).then_some(());
        wait_for(&self.state, &self.usable, is_over).await;
    }

    /// Fails for a write while only reads are allowed.
    pub(crate) fn check_writes(&self, call: Call<'_>) -> Result<(), Error> {
        let read_only = lock(&self.state).gate.read_only.clone();
        match read_only {
            Some(why) if !call.is_read() => Err(why),
            _ => Ok(()),
        }
    }

    // For the topology source.

    /// Holds new commands. Those in flight may finish.
    pub(crate) fn hold(&self) {
        let mut state = lock(&self.state);
        state.gate.held = true;
        state.connections.all().for_each(|link| link.hold());
    }

    /// Ends the hold.
    pub(crate) fn release(&self) {
        let mut state = lock(&self.state);
        state.gate.held = false;
        state.connections.all().for_each(|link| link.release(state.gate.read_only.clone()));
        drop(state);
        self.notify_all();
    }

    /// Allows only reads, for this reason; `None` allows writes again.
    pub(crate) fn restrict(&self, why: Option<Error>) {
        let mut state = lock(&self.state);
        state.gate.read_only = why;
        state.connections.all().for_each(|link| link.restrict(state.gate.read_only.clone()));
        drop(state);
        self.notify_all();
    }

    /// Records that the source confirmed the master.
    pub(crate) fn confirm(&self) {
        lock(&self.state).gate.unconfirmed = false;
        self.changed.notify(usize::MAX);
    }

    /// Waits until the source has confirmed the master, if one of its connections was lost.
    pub(crate) async fn wait_until_confirmed(&self) {
        let is_confirmed = |state: &mut State| (!state.gate.unconfirmed).then_some(());
        wait_for(&self.state, &self.changed, is_confirmed).await;
    }

    /// Records a lost connection: no other is made before the master is confirmed or replaced.
    pub(super) fn mark_unconfirmed(&self, generation: Generation) {
        let mut state = lock(&self.state);
        state.gate.unconfirmed |= state.is_current(generation);
    }

    /// Drains the connections of this generation, whose server replied that it is not the master, so that they are
    /// made again. Returns true if there were any, so that only the first of many callers reports it.
    pub(super) fn drain_demoted(&self, generation: Generation) -> bool {
        let state = lock(&self.state);
        let is_demoted = |link: &&Arc<Link>| link.generation == generation && link.is_open();
        let demoted: Vec<_> = state.connections.all().filter(is_demoted).cloned().collect();
        drop(state);
        for link in &demoted {
            link.drain(Error::new(Kind::NotMaster, format!("{} is no longer the master", link.address)));
        }
        !demoted.is_empty()
    }
}
