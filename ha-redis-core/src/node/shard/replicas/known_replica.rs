//! What is known about one replica.

use std::sync::Arc;
use std::time::Duration;

use crate::conn::link::Link;
use crate::proto::{Position, Replication, Role};

/// How many answers an unlisted replica may send before it follows the master: after a switch that takes a while. It
/// is asked four times a second.
const MAX_UNLISTED_ANSWERS: u32 = 80;

#[derive(Debug, Default)]
pub(super) struct KnownReplica {
    pub(super) listed_status: ListedStatus,
    /// Whether a task keeps a connection to it.
    pub(super) has_task: bool,
    pub(super) link: Option<Arc<Link>>,
    status: ReplicationStatus,
    /// How many answers it has sent since it was last listed, or last followed the master.
    unlisted_answers: u32,
    /// Its smoothed latency.
    pub(super) latency: Option<Duration>,
}

/// How the source lists it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ListedStatus {
    #[default]
    Well,
    Down,
    /// The source does not list it, which alone does not disqualify it: Sentinels that are reset, for example, list
    /// no replicas for ten seconds.
    Unlisted,
    /// It is no longer a replica of this master.
    Gone,
}

/// What the replica reports about itself.
#[derive(Debug, Default)]
enum ReplicationStatus {
    #[default]
    NotAsked,
    /// It follows a master.
    Follows { history: String, lag_bytes: Option<u64> },
    /// Why it may not be read from.
    Ineligible(String),
}

/// Whether it may be read from.
pub(super) enum Eligibility<'a> {
    Eligible {
        lag_bytes: u64,
        latency: Duration,
        link: &'a Arc<Link>,
    },
    /// Some of it is not known yet.
    Unknown,
    Ineligible(String),
}

impl KnownReplica {
    pub(super) fn has(&self, link: &Arc<Link>) -> bool {
        self.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link))
    }

    pub(super) fn set_listed_status(&mut self, listed_status: ListedStatus) {
        self.listed_status = listed_status;
        if listed_status != ListedStatus::Unlisted {
            self.unlisted_answers = 0;
        }
    }

    pub(super) fn answered(&mut self, answer: &Replication, latency: Duration, master: Option<&Position>) {
        // Count a quarter of the difference: one slow answer matters little.
        self.latency = Some(self.latency.map_or(latency, |before| (before * 3 + latency) / 4));
        self.status = match answer {
            Replication { role: Role::Replica, link_up: true, position, .. } => {
                // The master was asked before. Its later writes do not count, so that replicas that are up to date do
                // not seem to lag.
                let master = master.filter(|master| master.history == position.history);
                let lag_bytes = master.map(|master| master.offset.saturating_sub(position.offset));
                ReplicationStatus::Follows { history: position.history.clone(), lag_bytes }
            }
            Replication { role: Role::Replica, .. } => {
                ReplicationStatus::Ineligible("its link to its master is down".into())
            }
            Replication { role, .. } => {
                ReplicationStatus::Ineligible(format!("expected a replica, found a {role}"))
            }
        };
        let follows = |position: &Position| match &self.status {
            ReplicationStatus::Follows { history, .. } => *history == position.history,
            _ => false,
        };
        self.unlisted_answers =
            if master.is_some_and(follows) { 0 } else { self.unlisted_answers.saturating_add(1) };
    }

    pub(super) fn failed(&mut self, why: String) {
        self.unlisted_answers = self.unlisted_answers.saturating_add(1);
        self.status = ReplicationStatus::Ineligible(why);
    }

    /// Returns how far it is behind, if that is known.
    pub(super) fn lag_bytes(&self) -> Option<u64> {
        match &self.status {
            ReplicationStatus::Follows { lag_bytes, .. } => *lag_bytes,
            _ => None,
        }
    }

    /// Returns why no connection to it is wanted. An unlisted replica must follow the master on an existing
    /// connection.
    pub(super) fn unwanted_reason(&self) -> Option<&'static str> {
        match self.listed_status {
            ListedStatus::Well => None,
            ListedStatus::Down => Some("the Sentinels report it as down"),
            ListedStatus::Unlisted if self.link.is_some() && self.unlisted_answers < MAX_UNLISTED_ANSWERS => {
                None
            }
            ListedStatus::Unlisted | ListedStatus::Gone => Some("it is no longer a replica of the master"),
        }
    }

    pub(super) fn eligibility(&self, master: Option<&Position>, max_lag: Option<u64>) -> Eligibility<'_> {
        if let Some(reason) = self.unwanted_reason() {
            return Eligibility::Ineligible(reason.to_owned());
        }
        // A link that is ending takes no new commands.
        let link = self.link.as_ref().filter(|link| link.is_open());
        match (&self.status, master, link, self.latency) {
            (ReplicationStatus::Ineligible(why), ..) => Eligibility::Ineligible(why.clone()),
            (ReplicationStatus::Follows { history, .. }, Some(master), ..) if *history != master.history => {
                Eligibility::Ineligible(
                    "it follows another master, or has not caught up with this one yet".to_owned(),
                )
            }
            (
                ReplicationStatus::Follows { lag_bytes: Some(lag_bytes), .. },
                Some(_),
                Some(link),
                Some(latency),
            ) => match max_lag {
                Some(max) if *lag_bytes > max => Eligibility::Ineligible(format!(
                    "it lags {lag_bytes} bytes behind (replica_max_lag is {max})"
                )),
                _ => Eligibility::Eligible { lag_bytes: *lag_bytes, latency, link },
            },
            _ => Eligibility::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::address::Address;
    use crate::conn::link::Bounds;
    use crate::error::{Error, Kind};
    use crate::generation::Generation;

    fn position(history: &str, offset: u64) -> Position {
        Position { history: history.to_owned(), offset }
    }

    fn says(role: Role, link_up: bool, position: Position) -> Replication {
        Replication { role, position, link_up, master: None, replicas: Vec::new() }
    }

    fn connected() -> KnownReplica {
        let bounds = Bounds { commands: 1, bytes: 1 };
        let link = Link::new(Generation::default(), Address::tcp("r", 1), Instant::now(), bounds);
        KnownReplica { link: Some(Arc::new(link)), ..KnownReplica::default() }
    }

    /// Returns the lag of an eligible replica, or why it is not eligible.
    fn judge(member: &KnownReplica, master: &Position, max_lag: Option<u64>) -> Result<u64, String> {
        match member.eligibility(Some(master), max_lag) {
            Eligibility::Eligible { lag_bytes, .. } => Ok(lag_bytes),
            Eligibility::Unknown => Err("unknown".to_owned()),
            Eligibility::Ineligible(why) => Err(why),
        }
    }

    #[test]
    fn eligibility_depends_on_role_link_history_and_lag() {
        let master = position("a", 100);
        let judged = |answer: &Replication, max_lag| {
            let mut member = connected();
            assert_eq!(judge(&member, &master, max_lag), Err("unknown".to_owned()));
            member.answered(answer, Duration::ZERO, Some(&master));
            judge(&member, &master, max_lag)
        };
        let replica = |link_up, position| says(Role::Replica, link_up, position);
        assert_eq!(judged(&replica(true, position("a", 60)), None), Ok(40));
        assert_eq!(judged(&replica(true, position("a", 130)), Some(0)), Ok(0), "ahead of an older answer");
        assert_eq!(judged(&replica(true, position("a", 60)), Some(40)), Ok(40));
        assert!(judged(&replica(true, position("a", 60)), Some(39)).unwrap_err().contains("lags 40 bytes"));
        assert!(judged(&replica(true, position("b", 100)), None).unwrap_err().contains("another master"));
        assert!(judged(&replica(false, position("a", 100)), None).unwrap_err().contains("link"));
        assert!(judged(&says(Role::Master, false, position("a", 100)), None).unwrap_err().contains("master"));
    }

    #[test]
    fn reports_about_another_master_do_not_count() {
        let mut member = connected();
        member.answered(
            &says(Role::Replica, true, position("b", 9)),
            Duration::ZERO,
            Some(&position("a", 9)),
        );
        assert!(judge(&member, &position("a", 9), None).unwrap_err().contains("another master"));
        // It follows this master, but its lag is not known.
        assert_eq!(judge(&member, &position("b", 9), None), Err("unknown".to_owned()));
    }

    #[test]
    fn unlisted_replica_stays_while_it_follows_the_master() {
        let master = position("a", 9);
        let mut member = connected();
        member.set_listed_status(ListedStatus::Unlisted);
        let mut ask = |history: &str, times| {
            let answer = says(Role::Replica, true, position(history, 9));
            (0..times).for_each(|_| member.answered(&answer, Duration::ZERO, Some(&master)));
            (member.unwanted_reason().is_none(), judge(&member, &master, None).is_ok())
        };
        assert_eq!(ask("a", 2 * MAX_UNLISTED_ANSWERS), (true, true));
        assert_eq!(ask("b", MAX_UNLISTED_ANSWERS - 1), (true, false), "it may follow this one soon");
        assert_eq!(ask("a", 1), (true, true));
        assert_eq!(ask("b", MAX_UNLISTED_ANSWERS), (false, false));
        member.set_listed_status(ListedStatus::Well);
        member.set_listed_status(ListedStatus::Unlisted);
        assert!(member.unwanted_reason().is_none(), "it was listed in between");
        member.link = None;
        assert!(member.unwanted_reason().is_some(), "no connection is made to an unlisted replica");
    }

    #[test]
    fn ending_connection_is_not_eligible() {
        let (mut member, master) = (connected(), position("a", 9));
        member.answered(&says(Role::Replica, true, master.clone()), Duration::ZERO, Some(&master));
        assert_eq!(judge(&member, &master, None), Ok(0));
        member.link.iter().for_each(|link| link.drain(Error::new(Kind::Lost, "gone")));
        assert_eq!(judge(&member, &master, None), Err("unknown".to_owned()));
        member.listed_status = ListedStatus::Down;
        assert!(judge(&member, &master, None).unwrap_err().contains("Sentinels"));
    }
}
