//! What the follower is told, and what it has done.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::error::Error;
use crate::topology::sentinel::{Event, SentinelReport};

/// What the configuration has to say.
#[derive(Clone, Debug)]
pub(crate) struct FailoverConfig {
    pub(crate) master_name: String,
    /// Whether a selected replica is followed as soon as it is master.
    pub(crate) early_promotion: bool,
    /// Commands are held back for no longer than this while a replica is being promoted.
    pub(crate) promotion_hold: Duration,
    /// Whether writes need a majority of the Sentinels.
    pub(crate) require_majority: bool,
    /// How often a Sentinel of the configuration may be late before it counts as gone, if it has never answered.
    pub(crate) initial_attempts: u32,
}

/// Why a Sentinel did not answer.
#[derive(Clone, Debug)]
pub(crate) enum QueryError {
    /// Nobody is there, or it does not talk to this client.
    Refused(String),
    /// It may be slow.
    Late(String),
}

impl From<&Error> for QueryError {
    fn from(error: &Error) -> Self {
        let why = error.message().to_owned();
        if error.is_timeout() { Self::Late(why) } else { Self::Refused(why) }
    }
}

/// Something that was heard.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// What a Sentinel answered to the question that was `asked` then, or why it did not.
    Answer { sentinel: Address, asked: Instant, answer: Result<SentinelReport, QueryError> },
    /// What a Sentinel published.
    Heard { sentinel: Address, event: Event },
    /// The subscription to a Sentinel's events has begun, maybe after a gap.
    Subscribed,
    /// There is a connection to the master.
    Connected,
    /// The connection to the master was lost.
    Lost,
    /// The server that is followed says that it is no master.
    NotMaster,
    /// A watched replica says that it is master.
    Promoted(Address),
    /// Time has passed.
    Tick,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask every Sentinel.
    Ask,
    /// Listen to these Sentinels too.
    AddSentinels(Vec<Address>),
    /// Listen to this one no more.
    RemoveSentinel(Address),
    /// Connect to this master, and to no other any more. Ends a hold.
    Follow(Address),
    /// The Sentinels still name the master whose connection was lost: it may be connected to again.
    Confirm,
    /// Send nothing more to the master for now.
    Hold,
    /// Go on sending.
    Release,
    /// Ask this replica for its role, again and again, until it is master. One that was master `before` may not know
    /// yet that it is none: its word counts only once it was seen as a replica.
    Watch { replica: Address, before: bool },
    /// Stop asking.
    Unwatch,
    /// Let no more writes through, for this reason.
    Close(String),
    /// Let writes through again.
    Open,
    /// Tell whoever reads the logs.
    Warn(String),
    /// Tell those who wait why there is no master.
    Fail(String),
}

/// What the Sentinels say of the master that is followed, to be told in errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Naming {
    #[default]
    Named,
    /// It is being made the master, as one of them says.
    Selected,
    /// They answer, and none of them names it.
    Unnamed,
    /// None of them answers.
    NamedLast,
}
