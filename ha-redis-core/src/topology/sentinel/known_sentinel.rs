//! What is known of one Sentinel.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::topology::sentinel::rate_limit::RateLimit;
use crate::topology::sentinel::report::ReportedMaster;
use crate::topology::sentinel::{QueryError, SentinelReport};

/// One that has named no master for so long is gone for good, as far as the others can tell, and takes no part: as long
/// as Sentinels wait, unless they are told otherwise, before they find somebody down.
const ABSENCE: Duration = Duration::from_secs(30);
/// The same while there is no connection to a master: then there is less to lose, and callers wait.
const ABSENCE_WITHOUT_MASTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct KnownSentinel {
    /// Whether the configuration names it. Others were met.
    pub(super) configured: bool,
    /// Whether it has a vote, whatever it answers.
    pub(super) votes: bool,
    /// The id that it gives itself: it may be anything.
    pub(super) id: Option<String>,
    /// The id under which a majority lists its address, or listed it last.
    pub(super) listed_id: Option<String>,
    /// What it answered last. It stands, as far as it is of use, while the Sentinel is silent.
    view: Option<SentinelReport>,
    /// Why it did not answer when it was asked last.
    failure: Option<String>,
    /// How often it may be late yet before it has answered, and is waited for nevertheless.
    tries: u32,
    /// When it was asked for that.
    asked_at: Option<Instant>,
    /// Whether it has answered since it was asked last. A failure stands until there is an answer: Sentinels that fail
    /// after different times would never count together.
    pub(super) current: bool,
    /// When it was asked for the last answer that named a master; `None` if that is too long ago.
    last_named_at: Option<Instant>,
    /// Whether others have taken its place, so that it is not counted before it answers again.
    pub(super) replaced_by_others: bool,
    selections: Selections,
}

/// How many of the replicas that it selects are asked for their role.
#[derive(Debug)]
struct Selections(RateLimit);

impl Default for Selections {
    fn default() -> Self {
        Self(RateLimit::new(3, Duration::from_secs(1)))
    }
}

impl KnownSentinel {
    /// One of the configuration. It is waited for until it has been late so many times: whoever answers first is not to
    /// decide alone because the others are slow.
    pub(super) fn configured(tries: u32) -> Self {
        Self { configured: true, votes: true, tries, ..Self::default() }
    }

    pub(super) fn added(id: &str) -> Self {
        Self { listed_id: Some(id.to_owned()), ..Self::default() }
    }

    /// Books what it answered to the question that was `asked_at` then, or why it did not.
    pub(super) fn record(&mut self, asked_at: Instant, answer: Result<SentinelReport, QueryError>) {
        (self.asked_at, self.current) = (Some(asked_at), true);
        match answer {
            Ok(view) => {
                (self.failure, self.replaced_by_others) = (None, false);
                self.id = view.id.clone().or(self.id.take());
                self.last_named_at = view.master.as_ref().map(|_| asked_at).or(self.last_named_at);
                self.view = Some(view);
            }
            Err(QueryError::Late(failure)) => {
                self.failure = Some(failure);
                self.tries = self.tries.saturating_sub(1);
            }
            Err(QueryError::Refused(failure)) => {
                self.failure = Some(failure);
                self.tries = 0;
            }
        }
    }

    /// It has selected another replica; whether that one is asked for its role.
    pub(super) fn may_select(&mut self, now: Instant) -> bool {
        self.selections.0.take(now)
    }

    /// It is asked again.
    pub(super) fn ask(&mut self) {
        self.current = self.failure.is_some();
    }

    /// Time has passed; whether there is a connection to a master now.
    pub(super) fn age(&mut self, now: Instant, connected: bool) {
        let absence = if connected { ABSENCE } else { ABSENCE_WITHOUT_MASTER };
        if self.master().is_none() {
            self.last_named_at.take_if(|last_named_at| *last_named_at + absence <= now);
        }
    }

    /// What it says now: nothing while it does not answer.
    pub(super) fn view(&self) -> Option<&SentinelReport> {
        self.view.as_ref().filter(|_| self.failure.is_none())
    }

    pub(super) fn view_mut(&mut self) -> Option<&mut SentinelReport> {
        self.view.as_mut()
    }

    /// What it said last, if that is not too long ago.
    pub(super) fn last_view(&self) -> Option<&SentinelReport> {
        self.view.as_ref().filter(|_| self.is_present())
    }

    /// Whether it lists a Sentinel at that address, or did when it was heard last.
    pub(super) fn lists(&self, other: &Address) -> bool {
        self.last_view().is_some_and(|view| view.sentinels.iter().any(|listed| listed.address == *other))
    }

    /// Whether it is another one than the Sentinel at that address, by what it lists: none lists itself. One that lists nobody
    /// was reset, and knows none of them yet.
    pub(super) fn is_other_than(&self, address: &Address) -> bool {
        let lists_nobody = self.last_view().is_some_and(|view| view.sentinels.is_empty());
        lists_nobody || self.lists(address)
    }

    /// Whether it answers now, and names a master.
    pub(super) fn answers(&self) -> bool {
        self.master().is_some()
    }

    /// The master that it names now.
    pub(super) fn master(&self) -> Option<&ReportedMaster> {
        self.view()?.master.as_ref()
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether it has neither answered yet nor failed to so often that nobody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.view.is_none() && (self.failure.is_none() || self.tries > 0)
    }

    /// Whether it names a master, or did a while ago.
    pub(super) fn is_present(&self) -> bool {
        self.last_named_at.is_some()
    }

    /// Whether it could take part in a failover, as far as anybody can tell. One that never answered is known by what
    /// others say of it.
    pub(super) fn is_known(&self) -> bool {
        self.is_counted() || (self.is_heard_of() && !self.replaced_by_others)
    }

    /// Whether it may be one at all: not an address of the configuration at which nobody ever answered.
    pub(super) fn is_heard_of(&self) -> bool {
        self.is_awaited() || self.view.is_some() || self.listed_id.is_some()
    }

    /// Whether it counts for the majority: it is there, or may be.
    pub(super) fn is_counted(&self) -> bool {
        self.is_awaited() || self.is_present()
    }

    /// Whether it was asked for its answer `since` then. A failure stands here, too.
    pub(super) fn is_since(&self, since: Instant) -> bool {
        self.failure.is_some() || self.asked_at.is_some_and(|asked_at| since <= asked_at)
    }
}
