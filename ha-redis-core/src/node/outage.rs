//! The account of a time without a master: when it began, when it ended, and what became of calls meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::error::Outcome;
use crate::events::{Event, FailoverReport};
use crate::node::core::Core;
use crate::sync::{Mutex, lock};
use crate::time::sleep;

/// The calls that waited for a connection have been served after this.
const SERVED: Duration = Duration::from_secs(1);

/// The first sign of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutageCause {
    /// A connection to the master has ended.
    Lost,
    /// A failover has begun.
    #[cfg(feature = "sentinel")]
    Announced,
}

/// Something that a call did while there was no master.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CallEvent {
    /// It waited for a connection.
    Held,
    /// One of its attempts was repeated.
    Retried,
    Succeeded,
    Failed(Outcome),
}

/// The outage under way, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    /// Whether calls are to be counted, so that nobody takes the lock while all is well.
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
    /// What is counted.
    report: FailoverReport,
}

impl Outages {
    /// What comes later in the same outage changes nothing.
    pub(crate) fn begin(&self, sign: OutageCause, master: &Address, now: Instant) {
        let mut current = lock(&self.current);
        let outage = current.get_or_insert_with(|| Outage {
            noticed_at: now,
            from: master.clone(),
            lost: false,
            reconnected: None,
            first_success: None,
            report: FailoverReport::empty(master),
        });
        outage.lost |= sign == OutageCause::Lost;
        // It was not over yet.
        outage.reconnected = None;
        self.counting.store(true, Ordering::Relaxed);
    }

    /// The switch that was announced will not come.
    #[cfg(feature = "sentinel")]
    pub(crate) fn call_off(&self) {
        let mut current = lock(&self.current);
        if current.take_if(|outage| !outage.lost).is_some() {
            self.counting.store(false, Ordering::Relaxed);
        }
    }

    /// There is a connection again. True when that ends an outage, which is to be reported soon.
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

    pub(crate) fn record(&self, record: CallEvent, now: Instant) {
        let mut current = lock(&self.current);
        let Some(outage) = current.as_mut() else { return };
        match record {
            CallEvent::Held => outage.report.calls_held += 1,
            CallEvent::Retried => outage.report.retried += 1,
            CallEvent::Failed(outcome) => outage.report.count(outcome),
            CallEvent::Succeeded if outage.reconnected.is_some() => {
                _ = outage.first_success.get_or_insert(now)
            }
            CallEvent::Succeeded => {}
        }
    }

    /// The report, when the outage is over.
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

/// Tells how an outage went, once the calls that waited have been served.
pub(crate) async fn report(core: &Core) {
    sleep(&*core.runtime, SERVED).await;
    if let Some(report) = core.outages.report() {
        tracing::info!(%report, "the master is back");
        core.events.tell(Event::Failover(report));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_from_its_first_sign_on() {
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
    fn a_second_loss_before_the_report_makes_it_longer() {
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
