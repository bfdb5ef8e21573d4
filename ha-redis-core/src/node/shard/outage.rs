//! The report of a time without a master: when it began and ended, and how calls fared.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Shard;
use crate::address::Address;
use crate::error::{Error, Outcome};
use crate::events::{Event, FailoverReport};
use crate::generation::Generation;
use crate::sync::{Mutex, lock};
use crate::topology::{CurrentMaster, Input, MonitorEvent};

/// The first sign of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutageCause {
    /// A connection to the master was lost.
    Lost,
    /// A failover began.
    Announced,
}

/// How an outage affected a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CallEvent {
    /// The call waited for a connection.
    Held,
    /// One of its attempts was retried.
    Retried,
    Succeeded,
    Failed(Outcome),
}

/// The current outage, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    /// Whether calls are to be counted, so that the lock is not taken while all is well.
    counting: AtomicBool,
    current: Mutex<Option<Outage>>,
}

#[derive(Debug)]
struct Outage {
    noticed_at: Instant,
    from: Address,
    lost: bool,
    reconnected: Option<(Instant, Address)>,
    first_success: Option<Instant>,
    /// The report so far.
    report: FailoverReport,
}

impl Outages {
    /// Begins an outage. Later signs of the same outage change nothing.
    pub(crate) fn begin(&self, cause: OutageCause, master: &Address, now: Instant) {
        let mut current = lock(&self.current);
        let outage = current.get_or_insert_with(|| Outage {
            noticed_at: now,
            from: master.clone(),
            lost: false,
            reconnected: None,
            first_success: None,
            report: FailoverReport::empty(master),
        });
        outage.lost |= cause == OutageCause::Lost;
        // The outage was not over yet.
        outage.reconnected = None;
        self.counting.store(true, Ordering::Relaxed);
    }

    /// Ends an announced outage without a report: the switch does not happen.
    pub(crate) fn call_off(&self) {
        let mut current = lock(&self.current);
        if current.take_if(|outage| !outage.lost).is_some() {
            self.counting.store(false, Ordering::Relaxed);
        }
    }

    /// Records a new connection. Returns true if that ends an outage, so that a report is due.
    pub(crate) fn resolve(&self, master: &Address, now: Instant) -> bool {
        let mut current = lock(&self.current);
        let Some(outage) = current.as_mut().filter(|outage| outage.reconnected.is_none()) else {
            return false;
        };
        outage.reconnected = Some((now, master.clone()));
        true
    }

    pub(crate) fn are_counting(&self) -> bool {
        self.counting.load(Ordering::Relaxed)
    }

    pub(crate) fn record(&self, event: CallEvent, now: Instant) {
        let mut current = lock(&self.current);
        let Some(outage) = current.as_mut() else { return };
        match event {
            CallEvent::Held => outage.report.calls_held += 1,
            CallEvent::Retried => outage.report.retried += 1,
            CallEvent::Failed(outcome) => outage.report.count(outcome),
            CallEvent::Succeeded if outage.reconnected.is_some() => {
                _ = outage.first_success.get_or_insert(now)
            }
            CallEvent::Succeeded => {}
        }
    }

    /// Returns the report when the outage is over.
    pub(crate) fn report(&self) -> Option<FailoverReport> {
        let mut current = lock(&self.current);
        let over = current.take_if(|outage| outage.reconnected.is_some())?;
        self.counting.store(false, Ordering::Relaxed);
        let (connected_at, to) = over.reconnected?;
        Some(FailoverReport {
            from: over.from,
            to,
            time_to_connect: connected_at - over.noticed_at,
            first_success: over.first_success.map(|at| at - over.noticed_at),
            ..over.report
        })
    }
}

impl Shard {
    // For the tasks of connections.

    /// Records a connection to the master. Returns true if that ends an outage, so that a report is due.
    pub(crate) fn on_connected(&self, master: &CurrentMaster, now: Instant) -> bool {
        self.notify_monitor(master.generation, Input::Connected);
        self.events.send(Event::Connected { address: master.address.clone() });
        self.outages.resolve(&master.address, now)
    }

    /// Records the end of a connection to the master.
    pub(crate) fn on_lost(&self, master: &CurrentMaster, why: Error, now: Instant) {
        if self.source.confirms_master() {
            self.mark_unconfirmed(master.generation);
        }
        self.notify_monitor(master.generation, Input::Lost);
        if self.check_open().is_ok() {
            self.outages.begin(OutageCause::Lost, &master.address, now);
        }
        self.events.send(Event::Lost { address: master.address.clone(), why });
    }

    /// Records that the server of this generation replied that it is not the master.
    pub(crate) fn on_not_master(&self, generation: Generation, now: Instant) {
        let is_due = self.source.names_master() || lock(&self.lookups).is_due(now);
        if is_due && self.drain_demoted(generation) {
            self.on_wrong_role(generation);
        }
    }

    /// Records that a new connection found a server with another role than master.
    pub(crate) fn on_wrong_role(&self, generation: Generation) {
        self.notify_monitor(generation, Input::NotMaster);
    }

    fn notify_monitor(&self, generation: Generation, input: Input) {
        if self.source.names_master() {
            self.monitor.send(MonitorEvent::Shard { shard: self.id, generation, input: Box::new(input) });
        }
    }

    // For callers.

    /// Counts a call that an outage affected.
    pub(crate) fn on_call(&self, event: CallEvent, now: impl FnOnce() -> Instant) {
        if self.outages.are_counting() {
            self.outages.record(event, now());
        }
    }

    // For the topology source.

    /// Records that a failover of this master began.
    pub(crate) fn on_failover_begun(&self, now: Instant) {
        if let Some(master) = self.master() {
            self.outages.begin(OutageCause::Announced, &master, now);
        }
    }

    /// Records that the failover was aborted.
    pub(crate) fn on_failover_abandoned(&self) {
        self.outages.call_off();
    }

    /// Returns the report of an outage that is over.
    pub(crate) fn outage_report(&self) -> Option<FailoverReport> {
        self.outages.report()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn outage_begins_at_its_first_sign() {
        let outages = Outages::default();
        let (old, new) = (Address::tcp("old", 1), Address::tcp("new", 1));
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        outages.record(CallEvent::Held, start);
        assert!(!outages.resolve(&old, start), "all was well");
        outages.begin(OutageCause::Lost, &old, start);
        outages.record(CallEvent::Held, at(10));
        outages.begin(OutageCause::Lost, &old, at(20));
        outages.record(CallEvent::Failed(Outcome::MaybeApplied), at(30));
        outages.record(CallEvent::Succeeded, at(30));
        assert_eq!(outages.report(), None, "it is not over");
        assert!(outages.resolve(&new, at(100)));
        assert!(!outages.resolve(&new, at(110)), "it is reported once");
        outages.record(CallEvent::Retried, at(110));
        outages.record(CallEvent::Succeeded, at(120));
        outages.record(CallEvent::Succeeded, at(130));
        let report = outages.report().unwrap();
        assert_eq!((report.from.clone(), report.to.clone()), (old, new));
        assert_eq!(report.time_to_connect, Duration::from_millis(100));
        assert_eq!(report.first_success, Some(Duration::from_millis(120)));
        assert_eq!((report.calls_held, report.retried, report.maybe_applied, report.failed()), (1, 1, 1, 1));
        assert_eq!(outages.report(), None);
    }

    #[test]
    fn second_loss_before_the_report_extends_the_outage() {
        let outages = Outages::default();
        let master = Address::tcp("master", 1);
        let start = Instant::now();
        outages.begin(OutageCause::Lost, &master, start);
        assert!(outages.resolve(&master, start + Duration::from_millis(1)));
        outages.begin(OutageCause::Lost, &master, start + Duration::from_millis(2));
        assert_eq!(outages.report(), None);
        assert!(outages.resolve(&master, start + Duration::from_millis(3)));
        assert_eq!(outages.report().unwrap().time_to_connect, Duration::from_millis(3));
    }
}
