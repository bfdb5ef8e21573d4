//! Peers that mean harm: a Sentinel that lies, servers that say what no Redis says, and addresses where an attacker
//! listens. Two of three Sentinels are honest and can be reached, so nothing of it may concern a caller.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

use super::fault::Fault;
use super::history::Attempt;
use super::host::{Host, SENTINELS, SERVERS};
use super::network::ConnectionId;
use super::reply;
use super::session::Said;
use super::world::{Event, World};

/// What the servers of data are told, and nobody else may be.
pub(super) const PASSWORD: &str = "S3CRET-of-the-servers";
/// One seed of so many has hostile peers: of those in a row, the one at this place.
const SHARE: u64 = 5;
const PLACE: u64 = 2;
/// Separates this from what else is drawn from the seed.
const SALT: u64 = 0x5ca1_ab1e_0dd5_eed5;

/// A way to do harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// Nothing but an attacker's address that nobody names: what is found wrong here is the simulation's fault.
    None,
    /// The lying Sentinel names the attacker as master, in a huge epoch.
    HugeEpoch,
    /// It names an address where nobody answers, in a huge epoch, and falls silent for good.
    DeadMaster,
    /// It lists the attacker as a replica, and publishes that the attacker is promoted.
    ForgedPromotion,
    /// It names one server after the other, and publishes that the master has changed, again and again.
    Flapping,
    /// It lists a great many replicas, or other Sentinels.
    ManyReplicas,
    ManySentinels,
    /// It counts more other Sentinels than there can be.
    Companions,
    /// It gives the ids of the others as its own, names the attacker as master, and publishes that the attacker is promoted.
    FalseId,
    /// What it says is full of control characters, and of addresses that are none.
    ControlCharacters,
    /// It speaks no protocol.
    Sentinel(Manner),
    /// One of the servers, a replica, speaks no protocol.
    Replica(Manner),
    /// Some connections to servers turn so on their way, until the faults stop.
    Connection(Manner),
}

/// How a peer speaks that breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Garbage,
    /// Pushes without end.
    Pushes,
    /// A byte of a reply now and then.
    Trickle,
    /// An array without end.
    Endless,
    /// Each reply twice.
    Unasked,
    /// Errors that quote all that was said.
    Echo,
    /// Nothing.
    Silence,
    /// The end of the connection.
    Closing,
    /// What a master says. This is for the attacker.
    Impostor,
}

const MANNERS: [Manner; 9] = [
    Manner::Garbage,
    Manner::Pushes,
    Manner::Trickle,
    Manner::Endless,
    Manner::Unasked,
    Manner::Echo,
    Manner::Silence,
    Manner::Closing,
    Manner::Impostor,
];

/// Every way.
const HARMS: [Harm; 32] = [
    Harm::None,
    Harm::HugeEpoch,
    Harm::DeadMaster,
    Harm::ForgedPromotion,
    Harm::Flapping,
    Harm::ManyReplicas,
    Harm::ManySentinels,
    Harm::Companions,
    Harm::FalseId,
    Harm::ControlCharacters,
    Harm::Sentinel(Manner::Garbage),
    Harm::Sentinel(Manner::Pushes),
    Harm::Sentinel(Manner::Trickle),
    Harm::Sentinel(Manner::Endless),
    Harm::Sentinel(Manner::Unasked),
    Harm::Sentinel(Manner::Echo),
    Harm::Sentinel(Manner::Silence),
    Harm::Sentinel(Manner::Closing),
    Harm::Replica(Manner::Garbage),
    Harm::Replica(Manner::Pushes),
    Harm::Replica(Manner::Trickle),
    Harm::Replica(Manner::Endless),
    Harm::Replica(Manner::Unasked),
    Harm::Replica(Manner::Echo),
    Harm::Replica(Manner::Silence),
    Harm::Replica(Manner::Closing),
    Harm::Connection(Manner::Garbage),
    Harm::Connection(Manner::Pushes),
    Harm::Connection(Manner::Trickle),
    Harm::Connection(Manner::Endless),
    Harm::Connection(Manner::Silence),
    Harm::Connection(Manner::Closing),
];

/// What is hostile in a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hostility {
    pub(super) harm: Harm,
    /// The Sentinel that lies, if one does.
    pub(super) liar: usize,
    /// The server that is hostile, if one is.
    pub(super) server: usize,
    /// How the attacker's servers speak.
    pub(super) attacker: Manner,
    /// Whether nothing else goes wrong.
    pub(super) alone: bool,
    /// From when on harm is done.
    pub(super) from: Duration,
    seed: u64,
}

impl Hostility {
    /// Drawn from the seed by itself: seeds without it stay what they are. If a harm is asked for by its name, every
    /// seed has it, and has any of them if the name is "any".
    pub(super) fn of(seed: u64, asked: Option<&str>) -> Option<Self> {
        let mut rng = Rng::with_seed(seed ^ SALT);
        if seed % SHARE != PLACE && asked.is_none() {
            return None;
        }
        let by_name = |harm: &Harm| asked.is_some_and(|asked| format!("{harm:?}").starts_with(asked));
        let named = HARMS.into_iter().filter(by_name).collect::<Vec<_>>();
        let harms = if named.is_empty() { HARMS.to_vec() } else { named };
        let harm = harms[rng.usize(..harms.len())];
        Some(Self {
            harm,
            liar: rng.usize(..SENTINELS),
            // The first is master at the beginning, and others may become it where there are failovers.
            server: rng.usize(1..SERVERS),
            attacker: MANNERS[rng.usize(..MANNERS.len())],
            alone: rng.u8(..3) > 0 || matches!(harm, Harm::Replica(_)),
            from: Duration::from_millis(if rng.bool() { 0 } else { rng.u64(..3_000) }),
            seed: rng.u64(..),
        })
    }

    /// Whether no call fails at all.
    pub(super) fn is_calm(&self) -> bool {
        self.alone && !matches!(self.harm, Harm::Connection(_))
    }

    /// Whether a fault leaves two honest Sentinels within reach.
    pub(super) fn adopt(&self, fault: &Fault) -> bool {
        let is_server = |host: &Host| matches!(host, Host::Redis(_));
        match fault {
            Fault::Heal => true,
            _ if self.alone => false,
            Fault::Failover
            | Fault::CrashMaster { .. }
            | Fault::HangMaster { .. }
            | Fault::Stall { .. }
            | Fault::Busy { .. } => true,
            Fault::Crash { host, .. }
            | Fault::Hang { host, .. }
            | Fault::Cut { host }
            | Fault::LoseReplies { host, .. }
            | Fault::Refuse { host, .. }
            | Fault::Slow { host, .. } => is_server(host),
            Fault::Silence { from, to, .. } => {
                [from, to].into_iter().all(|host| !matches!(host, Host::Sentinel(_)))
            }
            Fault::Strand { .. } | Fault::Act(_) => false,
        }
    }
}

/// Something that a hostile peer does by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Attack {
    /// More on a connection.
    GoOn(ConnectionId),
    /// The lying Sentinel publishes something.
    Publish,
}

/// What there is of it in the world.
pub(super) struct Hostile {
    pub(super) is: Hostility,
    pub(super) rng: Rng,
    /// How often the lying Sentinel has changed its mind.
    pub(super) turns: u64,
    /// Whether it says no more to clients.
    pub(super) is_silent: bool,
    /// The connections that have turned bad and that the client still has, and since when.
    bad: BTreeMap<ConnectionId, Duration>,
    told: bool,
}

impl Hostile {
    pub(super) fn new(hostility: Hostility) -> Self {
        Self {
            is: hostility,
            rng: Rng::with_seed(hostility.seed),
            turns: 0,
            is_silent: false,
            bad: BTreeMap::new(),
            told: false,
        }
    }

    /// How `host` speaks, if it does not speak as it should.
    fn manner(&self, host: Host) -> Option<Manner> {
        match (self.is.harm, host) {
            (_, Host::Attacker) => Some(self.is.attacker),
            (Harm::DeadMaster, Host::Sentinel(number)) if number == self.is.liar && self.is_silent => {
                Some(Manner::Silence)
            }
            (Harm::Sentinel(manner), Host::Sentinel(number)) if number == self.is.liar => Some(manner),
            (Harm::Replica(manner), Host::Redis(number)) if number == self.is.server => Some(manner),
            _ => None,
        }
    }
}

impl World {
    pub(super) fn begin_hostility(&mut self, hostility: Hostility) {
        self.say(format!("{hostility:?}"));
        self.hostile = Some(Hostile::new(hostility));
        let publishes = [Harm::ForgedPromotion, Harm::Flapping, Harm::FalseId, Harm::ControlCharacters];
        if publishes.contains(&hostility.harm) {
            self.schedule(hostility.from, Event::Attack(Attack::Publish));
        }
    }

    /// Harm is done from now on.
    pub(super) fn is_hostile(&self) -> bool {
        self.hostile.as_ref().is_some_and(|hostile| hostile.is.from <= self.now())
    }

    /// How a host speaks now on a connection, if it does not speak as it should.
    pub(super) fn manner_of(&self, number: ConnectionId, host: Host) -> Option<Manner> {
        let hostile = self.hostile.as_ref()?;
        if let Harm::Connection(manner) = hostile.is.harm {
            let turned = self.sessions.get(&number).is_some_and(|session| session.good_for == Some(0));
            return turned.then_some(manner);
        }
        let manner = hostile.manner(host)?;
        (host == Host::Attacker || self.is_hostile()).then_some(manner)
    }

    /// After how many commands a new connection turns bad, if it does.
    pub(super) fn good_for(&mut self, host: Host) -> Option<u32> {
        let is_server = self.is_hostile() && matches!(host, Host::Redis(_));
        let hostile = self.hostile.as_mut().filter(|_| is_server)?;
        let turns = matches!(hostile.is.harm, Harm::Connection(_)) && hostile.rng.u8(..3) == 0;
        turns.then(|| hostile.rng.u32(4..30))
    }

    /// A command has come on a connection that may be one of those that turn bad.
    pub(super) fn count_command(&mut self, number: ConnectionId) {
        let (now, is_held) = (self.now(), self.network.holds(number));
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let Some(good_for) = &mut session.good_for else { return };
        *good_for = good_for.saturating_sub(1);
        if let (0, Some(hostile)) = (*good_for, &mut self.hostile)
            && let Harm::Connection(_) = hostile.is.harm
            && is_held
        {
            hostile.bad.entry(number).or_insert(now);
        }
    }

    /// The client has let go of a connection.
    pub(super) fn note_let_go(&mut self, number: ConnectionId) {
        let now = self.now();
        let Some(since) = self.hostile.as_mut().and_then(|hostile| hostile.bad.remove(&number)) else {
            return;
        };
        self.history.kept_bad = self.history.kept_bad.max(now - since);
    }

    /// The network is sane again: what has turned bad is cut, and nothing else turns bad.
    pub(super) fn end_bad_connections(&mut self) {
        let Some(hostile) = &mut self.hostile else { return };
        if let Harm::Connection(_) = hostile.is.harm {
            hostile.is.harm = Harm::None;
            let bad = std::mem::take(&mut hostile.bad);
            for (number, since) in bad {
                self.history.kept_bad = self.history.kept_bad.max(self.now() - since);
                self.cut(number);
            }
        }
    }

    /// Looks at what the client sends to whom.
    pub(super) fn watch_bytes(&mut self, number: ConnectionId, bytes: &[u8]) {
        let Some(host) = self.sessions.get(&number).map(|session| session.host) else { return };
        let Some(hostile) = &mut self.hostile else { return };
        let leaks = !hostile.told
            && !matches!(host, Host::Redis(_))
            && bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
        if leaks {
            hostile.told = true;
            self.history.violation(format!("the password of the servers came to {host}"));
        }
    }

    /// The client tries to connect somewhere.
    pub(super) fn note_attempt(&mut self, to: Option<Host>) {
        let at = self.now();
        self.history.attempts.push(Attempt { at, to });
    }

    /// What a hostile peer says to a command.
    pub(super) fn hostile_command(
        &mut self,
        manner: Manner,
        number: ConnectionId,
        command: &[String],
    ) -> Said {
        let said = self.impostor_says(number, command);
        let Some(hostile) = &mut self.hostile else { return Vec::new().into() };
        let rng = &mut hostile.rng;
        match manner {
            Manner::Impostor => said,
            Manner::Garbage => {
                // On a connection that was good before, what looks like a reply would be one.
                let whole = matches!(hostile.is.harm, Harm::Connection(_));
                let length = rng.usize(1..200);
                let garbage = (0..length).map(|_| b"*$+-:%~_,#!=(>\r\n019a"[rng.usize(..20)]);
                if whole { b"HTTP/1.1 400 Bad Request\r\n".to_vec() } else { garbage.collect::<Vec<_>>() }
            }
            Manner::Unasked => [said.clone(), said].concat(),
            Manner::Echo => reply::error(&format!("ERR {}", command.join(" "))),
            Manner::Silence => Vec::new(),
            Manner::Closing => {
                self.finish(number);
                Vec::new()
            }
            Manner::Endless | Manner::Pushes | Manner::Trickle => {
                let is_first = self
                    .sessions
                    .get_mut(&number)
                    .is_some_and(|session| !std::mem::replace(&mut session.attacked, true));
                if is_first {
                    self.after(Duration::from_millis(1), Event::Attack(Attack::GoOn(number)));
                }
                match manner {
                    Manner::Endless if is_first => b"*?\r\n".to_vec(),
                    Manner::Trickle if is_first => b"$1000\r\n".to_vec(),
                    _ => Vec::new(),
                }
            }
        }
        .into()
    }

    /// What a master says, and nothing of a caller's is to be said to.
    fn impostor_says(&mut self, number: ConnectionId, command: &[String]) -> Vec<u8> {
        let words = command.iter().map(|word| word.to_ascii_uppercase()).collect::<Vec<_>>();
        let words = words.iter().map(String::as_str).collect::<Vec<_>>();
        let is_attacker = self.sessions.get(&number).is_some_and(|session| session.host == Host::Attacker);
        match words[..] {
            ["HELLO", ..] => {
                let words = command.iter().map(String::as_str).skip(1).collect::<Vec<_>>();
                self.hello(number, &words)
            }
            ["PING", ..] => reply::status("PONG"),
            ["ROLE"] => reply::array(&[reply::bulk("master"), reply::integer(0), reply::array(&[])]),
            ["INFO", ..] => {
                reply::bulk("role:master\r\nconnected_slaves:0\r\nmaster_repl_offset:1000000000\r\n")
            }
            ["AUTH" | "SELECT" | "CLIENT" | "SENTINEL" | "SUBSCRIBE", ..] => reply::status("OK"),
            _ => {
                if is_attacker {
                    self.history.violation(format!("{} was sent to the attacker", words.join(" ")));
                }
                reply::integer(0)
            }
        }
    }

    pub(super) fn on_attack(&mut self, attack: Attack) {
        match attack {
            Attack::Publish => self.publish_lies(),
            Attack::GoOn(number) => self.go_on(number),
        }
    }

    /// Sends more of what has no end.
    fn go_on(&mut self, number: ConnectionId) {
        let Some(host) = self.sessions.get(&number).map(|session| session.host) else { return };
        let Some(manner) = self.manner_of(number, host) else { return };
        let Some(hostile) = &mut self.hostile else { return };
        let (more, wait) = match manner {
            Manner::Pushes => (b">0\r\n".repeat(hostile.rng.usize(1..1_000)), hostile.rng.u64(500..5_000)),
            Manner::Endless => (b"_\r\n".repeat(hostile.rng.usize(1..1_000)), hostile.rng.u64(500..5_000)),
            _ => (b"x".to_vec(), hostile.rng.u64(10_000..300_000)),
        };
        self.reply(number, more);
        self.after(Duration::from_micros(wait), Event::Attack(Attack::GoOn(number)));
    }
}
