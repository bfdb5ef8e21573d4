//! What a shard lets through to its master: everything, reads alone, or nothing for now.

use super::Shard;
use crate::conn::link::{Call, Link};
use crate::error::{Error, Kind};
use crate::generation::Generation;
use crate::sync::{lock, wait_for};

/// What is let through. It outlives the connections: each new one is prepared by it.
#[derive(Debug, Default)]
pub(super) struct ShardGate {
    /// While a failover is under way nothing is sent to the old master.
    pub(super) held: bool,
    /// Why nothing but reads is taken.
    read_only: Option<Error>,
    /// A connection was lost, and the source has yet to say that the master is still the same.
    unconfirmed: bool,
}

impl ShardGate {
    /// Another master is followed: what is known of the one before holds no more.
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

    /// Waits until commands are not held back, or the client is closed.
    pub(crate) async fn released(&self) {
        let is_over = |state: &mut super::State| (!state.gate.held || state.closed.is_some()).then_some(());
        wait_for(&self.state, &self.usable, is_over).await;
    }

    /// Fails for a write while only reads are taken.
    pub(crate) fn check_writes(&self, call: Call<'_>) -> Result<(), Error> {
        let read_only = lock(&self.state).gate.read_only.clone();
        match read_only {
            Some(why) if !call.is_read() => Err(why),
            _ => Ok(()),
        }
    }

    // For the source of the topology.

    /// Sends nothing more for now. What is in flight may finish.
    pub(crate) fn hold(&self) {
        let mut state = lock(&self.state);
        state.gate.held = true;
        state.connections.all().for_each(|link| link.hold());
    }

    /// Goes on sending.
    pub(crate) fn release(&self) {
        let mut state = lock(&self.state);
        state.gate.held = false;
        state.connections.all().for_each(|link| link.release(state.gate.read_only.clone()));
        drop(state);
        self.notify_all();
    }

    /// Takes only reads for this reason, or, without one, writes as well.
    pub(crate) fn restrict(&self, why: Option<Error>) {
        let mut state = lock(&self.state);
        state.gate.read_only = why;
        state.connections.all().for_each(|link| link.restrict(state.gate.read_only.clone()));
        drop(state);
        self.notify_all();
    }

    /// The source says that the master is still the same.
    pub(crate) fn confirm(&self) {
        lock(&self.state).gate.unconfirmed = false;
        self.changed.notify(usize::MAX);
    }

    /// Waits until the source has said that the master is still the same, if one of its connections was lost.
    pub(crate) async fn confirmed(&self) {
        let is_confirmed = |state: &mut super::State| (!state.gate.unconfirmed).then_some(());
        wait_for(&self.state, &self.changed, is_confirmed).await;
    }

    /// The connection was lost: no other is made before the master is confirmed, or another one followed.
    pub(super) fn mark_unconfirmed(&self, generation: Generation) {
        let mut state = lock(&self.state);
        state.gate.unconfirmed |= state.is_current(generation);
    }

    /// A server of this generation says that it is no master: its connections take nothing new, and are
    /// made anew. True when there were some, so that of many callers who find the same out, one tells of it.
    pub(super) fn drain_demoted(&self, generation: Generation) -> bool {
        let state = lock(&self.state);
        let is_demoted = |link: &&std::sync::Arc<Link>| link.generation == generation && link.is_open();
        let demoted: Vec<_> = state.connections.all().filter(is_demoted).cloned().collect();
        drop(state);
        for link in &demoted {
            link.drain(Error::new(Kind::NotMaster, format!("{} is no master any more", link.address)));
        }
        !demoted.is_empty()
    }
}
