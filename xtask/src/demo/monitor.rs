//! The fault and the events that follow while the callers run.

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
use crate::observe::{Observation, ObservedEvent};

/// When the master fails. Earlier in a short run, because the recovery is what matters.
const FAULT_AFTER: Duration = Duration::from_secs(5);

/// Injects the fault, and shows and records the events that follow.
pub(crate) struct FaultMonitor<'a> {
    fault: Fault,
    fault_after: Duration,
    topology: Option<&'a Topology>,
    recorder: &'a Recorder,
    view: View,
    master: String,
    /// When the replica became master, so that later writes were answered by it.
    promoted_at: Option<Duration>,
    pub(crate) moments: Moments,
}

impl<'a> FaultMonitor<'a> {
    pub(crate) fn new(demo: &'a Demo<'_>, recorder: &'a Recorder, view: View, master: String) -> Self {
        Self {
            fault: demo.fault,
            fault_after: FAULT_AFTER.min(demo.length / 3),
            topology: demo.topology,
            recorder,
            view,
            master,
            promoted_at: None,
            moments: Moments::default(),
        }
    }

    /// Runs until `end` completes, and returns its output.
    pub(crate) async fn run<T>(
        &mut self,
        mut observations: UnboundedReceiver<Observation>,
        end: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let mut end = pin!(end);
        let mut frames = interval(SLOT);
        loop {
            tokio::select! {
                ended = &mut end => return ended,
                Some(observation) = observations.recv() => self.record(observation),
                _ = frames.tick() => {
                    let now = self.recorder.snapshot();
                    self.record_first_success();
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
        let at = self.fault.inject(topology).map_err(|error| format!("cannot inject the fault: {error}"))?;
        let at = self.recorder.time_of(at);
        self.moments.fault = Some(at);
        self.view.event(at, &format!("{} ({})", self.fault.event(), self.master));
        Ok(())
    }

    fn record(&mut self, observation: Observation) {
        let at = self.recorder.time_of(observation.at);
        match observation.what {
            ObservedEvent::Promoted { server, still_replica } => {
                self.master = server.to_string();
                self.moments.replica_is_master = Some(at);
                // The old master of a planned failover may still reply while the replica is promoted.
                let planned = self.fault == Fault::Planned;
                self.promoted_at = Some(if planned { at } else { self.recorder.time_of(still_replica) });
                self.view.event(at, &format!("a replica is master: {server}"));
                self.record_first_success();
            }
            ObservedEvent::Switched { master } => {
                self.view.event(at, &format!("the client follows {master}"));
                self.master = master;
                // Nothing that the old master answers reaches a caller after this.
                (self.promoted_at, self.moments.replica_is_master) = (Some(at), Some(at));
                self.record_first_success();
            }
            ObservedEvent::Published { sentinel, channel } => {
                if channel == "+switch-master" && self.moments.sentinels_announce.is_none() {
                    self.moments.sentinels_announce = Some(at);
                }
                self.view.event(at, &format!("Sentinel {}: {channel}", sentinel.port()));
            }
        }
    }

    fn record_first_success(&mut self) {
        let (Some(promoted_at), None) = (self.promoted_at, self.moments.first_success) else { return };
        let Some(success) = self.recorder.first_write_after(promoted_at) else { return };
        self.moments.first_success = Some(success);
        // A write on the new master sets the promotion time, too, if the client was faster than the observer.
        self.moments.replica_is_master =
            self.moments.replica_is_master.map(|promoted_at| promoted_at.min(success));
        self.view.event(success, "the first write succeeds on the new master");
    }
}
