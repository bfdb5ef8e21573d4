//! What goes on while the callers call.

use std::pin::pin;
use std::time::Duration;

use ha_redis_testkit::Topology;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::interval;

use super::Demo;
use super::fault::Fault;
use super::report::Moments;
use super::view::View;
use crate::load::record::{Recorder, SLOT};
use crate::observe::{Sight, Sighting};

/// When the master fails; sooner in a short run, since recovery is what is to be seen.
const FAULT_AFTER: Duration = Duration::from_secs(5);

/// Lets the fault happen, and shows and notes down what follows.
pub(crate) struct Stage<'a> {
    fault: Fault,
    fault_after: Duration,
    topology: Option<&'a Topology>,
    recorder: &'a Recorder,
    view: View,
    master: String,
    /// From when on an answered write is one of the new master, once there is one.
    turn: Option<Duration>,
    pub(crate) moments: Moments,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(demo: &'a Demo<'_>, recorder: &'a Recorder, view: View, master: String) -> Self {
        Self {
            fault: demo.fault,
            fault_after: FAULT_AFTER.min(demo.length / 3),
            topology: demo.topology,
            recorder,
            view,
            master,
            turn: None,
            moments: Moments::default(),
        }
    }

    /// Goes on until `end`, and returns what that returns.
    pub(crate) async fn play<T>(
        &mut self,
        mut sightings: Option<UnboundedReceiver<Sighting>>,
        end: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let mut end = pin!(end);
        let mut frames = interval(SLOT);
        loop {
            tokio::select! {
                ended = &mut end => return ended,
                Some(sighting) = next(&mut sightings) => self.note(sighting),
                _ = frames.tick() => {
                    let now = self.recorder.snapshot();
                    self.note_first_success();
                    self.view.frame(&now, &self.master);
                    if now.elapsed >= self.fault_after && self.moments.fault.is_none() {
                        self.inject()?;
                    }
                }
            }
        }
    }

    fn inject(&mut self) -> Result<(), String> {
        let (Some(topology), Fault::Kill | Fault::Hang | Fault::Planned) = (self.topology, self.fault) else {
            return Ok(());
        };
        // This blocks for some milliseconds, but on the main thread, where no caller runs.
        let at = self.fault.inject(topology).map_err(|error| format!("the fault did not happen: {error}"))?;
        let at = self.recorder.time_of(at);
        self.moments.fault = Some(at);
        self.view.event(at, &format!("{} ({})", self.fault.event(), self.master));
        Ok(())
    }

    fn note(&mut self, sighting: Sighting) {
        let at = self.recorder.time_of(sighting.at);
        match sighting.what {
            Sight::Turned { server, still_replica } => {
                self.master = server.to_string();
                self.moments.replica_is_master = Some(at);
                // The old master of a planned failover may still answer while the replica turns.
                let planned = self.fault == Fault::Planned;
                self.turn = Some(if planned { at } else { self.recorder.time_of(still_replica) });
                self.view.event(at, &format!("a replica is master: {server}"));
                self.note_first_success();
            }
            Sight::Published { sentinel, channel } => {
                if channel == "+switch-master" && self.moments.sentinels_announce.is_none() {
                    self.moments.sentinels_announce = Some(at);
                }
                self.view.event(at, &format!("Sentinel {}: {channel}", sentinel.port()));
            }
        }
    }

    fn note_first_success(&mut self) {
        let (Some(turn), None) = (self.turn, self.moments.first_success) else { return };
        let Some(success) = self.recorder.first_write_after(turn) else { return };
        self.moments.first_success = Some(success);
        // A write on the new master dates its turn, too, if the client was faster than the observer.
        self.moments.replica_is_master = self.moments.replica_is_master.map(|turned| turned.min(success));
        self.view.event(success, "the first write succeeds on the new master");
    }
}

/// The next sighting; waits for ever if nothing is watched.
async fn next(sightings: &mut Option<UnboundedReceiver<Sighting>>) -> Option<Sighting> {
    match sightings {
        Some(sightings) => sightings.recv().await,
        None => std::future::pending().await,
    }
}
