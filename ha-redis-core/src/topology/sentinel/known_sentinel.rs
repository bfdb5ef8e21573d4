//! What the client knows about one Sentinel.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::rate_limit::RateLimit;
use crate::topology::sentinel::report::ReportedMaster;
use crate::topology::sentinel::{QueryError, SentinelReport};

/// A Sentinel that has named no master for this long no longer counts. It equals the default time after which
/// Sentinels consider an instance down.
const ABSENCE: Duration = Duration::from_secs(30);
/// The same without a connection to a master: less can go wrong, and callers are waiting.
const ABSENCE_WITHOUT_MASTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct KnownSentinel {
    /// Whether the configuration lists it. Others were discovered.
    pub(super) configured: bool,
    /// Whether it has a vote, whatever it answers.
    pub(super) votes: bool,
    /// The id that it gives itself; not trusted.
    pub(super) id: Option<String>,
    /// The id under which a majority lists its address, or last did.
    pub(super) listed_id: Option<String>,
    /// Its last report. Parts of it stay in use while the Sentinel does not answer.
    report: Option<SentinelReport>,
    /// Why it did not answer the last query.
    failure: Option<String>,
    /// How often it may still be late before its first answer without counting as gone.
    attempts_left: u32,
    /// When the query for that report was sent.
    asked_at: Option<Instant>,
    /// Whether it has answered since the last query. A failure stays valid until there is an answer: otherwise
    /// Sentinels that fail after different times would never count together.
    pub(super) replied: bool,
    /// When the query for the last answer that named a master was sent; `None` if that is too long ago.
    last_named_at: Option<Instant>,
    /// Whether others have replaced it, so that it does not count until it answers again.
    pub(super) replaced_by_others: bool,
    selections: Selections,
}

/// Limits how many of its selected replicas are asked for their role.
#[derive(Debug)]
struct Selections(RateLimit);

impl Default for Selections {
    fn default() -> Self {
        Self(RateLimit::new(3, Duration::from_secs(1)))
    }
}

impl KnownSentinel {
    /// A configured Sentinel. It is awaited until it has been late `attempts` times: otherwise the first one to
    /// answer would decide alone because the others are slow.
    pub(super) fn configured(attempts_left: u32) -> Self {
        Self { configured: true, votes: true, attempts_left, ..Self::default() }
    }

    pub(super) fn added(id: &str) -> Self {
        Self { listed_id: Some(id.to_owned()), ..Self::default() }
    }

    /// Records the answer to the query sent at `asked_at`, or why there was none.
    pub(super) fn record(&mut self, asked_at: Instant, answer: Result<SentinelReport, QueryError>) {
        (self.asked_at, self.replied) = (Some(asked_at), true);
        match answer {
            Ok(report) => {
                (self.failure, self.replaced_by_others) = (None, false);
                self.id = report.id.clone().or(self.id.take());
                self.last_named_at = report.master.as_ref().map(|_| asked_at).or(self.last_named_at);
                self.report = Some(report);
            }
            Err(QueryError::Late(failure)) => {
                self.failure = Some(failure);
                self.attempts_left = self.attempts_left.saturating_sub(1);
            }
            Err(QueryError::Refused(failure)) => {
                self.failure = Some(failure);
                self.attempts_left = 0;
            }
        }
    }

    /// Returns true if the replica that it selected may be asked for its role.
    pub(super) fn try_select(&mut self, now: Instant) -> bool {
        self.selections.0.try_acquire(now)
    }

    /// Records that it is being queried again.
    pub(super) fn mark_queried(&mut self) {
        self.replied = self.failure.is_some();
    }

    /// Expires what is too old. `connected` is whether there is a connection to a master now.
    pub(super) fn expire(&mut self, now: Instant, connected: bool) {
        let absence = if connected { ABSENCE } else { ABSENCE_WITHOUT_MASTER };
        if self.master().is_none() {
            self.last_named_at.take_if(|last_named_at| *last_named_at + absence <= now);
        }
    }

    /// Its report, or `None` while it does not answer.
    pub(super) fn report(&self) -> Option<&SentinelReport> {
        self.report.as_ref().filter(|_| self.failure.is_none())
    }

    pub(super) fn report_mut(&mut self) -> Option<&mut SentinelReport> {
        self.report.as_mut()
    }

    /// Its last report, if that is not too old.
    pub(super) fn last_report(&self) -> Option<&SentinelReport> {
        self.report.as_ref().filter(|_| self.is_present())
    }

    /// Returns true if its last report lists a Sentinel at that address.
    pub(super) fn lists(&self, other: &Address) -> bool {
        self.last_report()
            .is_some_and(|report| report.sentinels.iter().any(|listed| listed.address == *other))
    }

    /// Returns true if its report shows that it is not the Sentinel at that address: no Sentinel lists itself. A
    /// Sentinel that lists no others has been reset and knows none of them yet.
    pub(super) fn is_other_than(&self, address: &Address) -> bool {
        let lists_nobody = self.last_report().is_some_and(|report| report.sentinels.is_empty());
        lists_nobody || self.lists(address)
    }

    /// Returns true if it answers now and names a master.
    pub(super) fn answers(&self) -> bool {
        self.master().is_some()
    }

    /// The master that it names now.
    pub(super) fn master(&self) -> Option<&ReportedMaster> {
        self.report()?.master.as_ref()
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Returns true if it has not answered yet and may still do so.
    pub(super) fn is_awaited(&self) -> bool {
        self.report.is_none() && (self.failure.is_none() || self.attempts_left > 0)
    }

    /// Returns true if it names a master, or recently did.
    pub(super) fn is_present(&self) -> bool {
        self.last_named_at.is_some()
    }

    /// Returns true if it could take part in a failover. One that never answered is known through the lists of
    /// others.
    pub(super) fn is_known(&self) -> bool {
        self.is_counted() || (self.may_exist() && !self.replaced_by_others)
    }

    /// Returns true if there may be a Sentinel here: false for a configured address at which none ever answered.
    pub(super) fn may_exist(&self) -> bool {
        self.is_awaited() || self.report.is_some() || self.listed_id.is_some()
    }

    /// Returns true if it counts towards the majority: it is present, or may still answer.
    pub(super) fn is_counted(&self) -> bool {
        self.is_awaited() || self.is_present()
    }

    /// Returns true if its report answers a query sent at or after `since`. A failure counts as well.
    pub(super) fn asked_since(&self, since: Instant) -> bool {
        self.failure.is_some() || self.asked_at.is_some_and(|asked_at| since <= asked_at)
    }
}
