//! Hostile peers: a Sentinel that sends false replies, servers that violate the protocol, and addresses where an
//! attacker listens. Two of three Sentinels are honest and reachable, so callers must not be affected.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

use super::fault::Fault;
use super::history::Attempt;
use super::host::{Host, SENTINELS, SERVERS};
use super::network::ConnectionId;
use super::reply;
use super::session::Response;
use super::world::{Event, World};

/// The password of the data servers, which no other host may receive.
pub(super) const PASSWORD: &str = "S3CRET-of-the-servers";
/// One of this many consecutive seeds has hostile peers: the one with this remainder.
const SHARE: u64 = 5;
const PLACE: u64 = 2;
/// Separates these random choices from the others of the same seed.
const SALT: u64 = 0x5ca1_ab1e_0dd5_eed5;

/// A kind of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// Only an attacker's address that no host names. A violation here is a bug of the simulation.
    None,
    /// The lying Sentinel names the attacker as master, with a huge epoch.
    HugeEpoch,
    /// The lying Sentinel names an unresponsive address, with a huge epoch, and then goes silent for good.
    DeadMaster,
    /// The lying Sentinel lists the attacker as a replica, and publishes the attacker's promotion.
    ForgedPromotion,
    /// The lying Sentinel names one server after another, and publishes switches of the master again and again.
    Flapping,
    /// The lying Sentinel lists a great many replicas or Sentinels.
    ManyReplicas,
    ManySentinels,
    /// The lying Sentinel reports an impossible number of other Sentinels.
    InflatedPeerCount,
    /// The lying Sentinel claims the ids of the others, names the attacker as master, and publishes the attacker's
    /// promotion.
    FalseId,
    /// The lying Sentinel sends control characters and invalid addresses.
    ControlCharacters,
    /// The Sentinel violates the protocol.
    Sentinel(Misbehavior),
    /// One of the replicas violates the protocol.
    Replica(Misbehavior),
    /// Some connections to servers violate the protocol after a while, until the faults end.
    Connection(Misbehavior),
}

/// How a peer violates the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misbehavior {
    Garbage,
    /// Endless pushes.
    Pushes,
    /// Single bytes of a reply with pauses.
    Trickle,
    /// An endless array.
    Endless,
    /// Each reply twice.
    Unasked,
    /// Errors that quote everything received.
    Echo,
    /// No reply.
    Silence,
    /// Closes the connection.
    Closing,
    /// Replies as a master. Only the attacker does this.
    Impostor,
}

const MISBEHAVIORS: [Misbehavior; 9] = [
    Misbehavior::Garbage,
    Misbehavior::Pushes,
    Misbehavior::Trickle,
    Misbehavior::Endless,
    Misbehavior::Unasked,
    Misbehavior::Echo,
    Misbehavior::Silence,
    Misbehavior::Closing,
    Misbehavior::Impostor,
];

/// Every kind of attack.
const HARMS: [Harm; 32] = [
    Harm::None,
    Harm::HugeEpoch,
    Harm::DeadMaster,
    Harm::ForgedPromotion,
    Harm::Flapping,
    Harm::ManyReplicas,
    Harm::ManySentinels,
    Harm::InflatedPeerCount,
    Harm::FalseId,
    Harm::ControlCharacters,
    Harm::Sentinel(Misbehavior::Garbage),
    Harm::Sentinel(Misbehavior::Pushes),
    Harm::Sentinel(Misbehavior::Trickle),
    Harm::Sentinel(Misbehavior::Endless),
    Harm::Sentinel(Misbehavior::Unasked),
    Harm::Sentinel(Misbehavior::Echo),
    Harm::Sentinel(Misbehavior::Silence),
    Harm::Sentinel(Misbehavior::Closing),
    Harm::Replica(Misbehavior::Garbage),
    Harm::Replica(Misbehavior::Pushes),
    Harm::Replica(Misbehavior::Trickle),
    Harm::Replica(Misbehavior::Endless),
    Harm::Replica(Misbehavior::Unasked),
    Harm::Replica(Misbehavior::Echo),
    Harm::Replica(Misbehavior::Silence),
    Harm::Replica(Misbehavior::Closing),
    Harm::Connection(Misbehavior::Garbage),
    Harm::Connection(Misbehavior::Pushes),
    Harm::Connection(Misbehavior::Trickle),
    Harm::Connection(Misbehavior::Endless),
    Harm::Connection(Misbehavior::Silence),
    Harm::Connection(Misbehavior::Closing),
];

/// The hostile peers of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hostility {
    pub(super) harm: Harm,
    /// The Sentinel that lies, if one does.
    pub(super) liar: usize,
    /// The server that is hostile, if one is.
    pub(super) server: usize,
    /// How the attacker's servers respond.
    pub(super) attacker: Misbehavior,
    /// Whether there are no other faults.
    pub(super) alone: bool,
    /// When the attack begins.
    pub(super) from: Duration,
    seed: u64,
}

impl Hostility {
    /// Chooses the hostile peers from the seed, independently of other choices, so that other seeds do not change.
    /// If a kind of attack is requested by name, every seed has it. The name "any" allows all kinds.
    pub(super) fn of(seed: u64, requested: Option<&str>) -> Option<Self> {
        let mut rng = Rng::with_seed(seed ^ SALT);
        if seed % SHARE != PLACE && requested.is_none() {
            return None;
        }
        let by_name =
            |harm: &Harm| requested.is_some_and(|requested| format!("{harm:?}").starts_with(requested));
        let named = HARMS.into_iter().filter(by_name).collect::<Vec<_>>();
        let harms = if named.is_empty() { HARMS.to_vec() } else { named };
        let harm = harms[rng.usize(..harms.len())];
        Some(Self {
            harm,
            liar: rng.usize(..SENTINELS),
            // The first server is the initial master, and others may become master where there are failovers.
            server: rng.usize(1..SERVERS),
            attacker: MISBEHAVIORS[rng.usize(..MISBEHAVIORS.len())],
            alone: rng.u8(..3) > 0 || matches!(harm, Harm::Replica(_)),
            from: Duration::from_millis(if rng.bool() { 0 } else { rng.u64(..3_000) }),
            seed: rng.u64(..),
        })
    }

    /// Returns true if no call may fail at all.
    pub(super) fn is_calm(&self) -> bool {
        self.alone && !matches!(self.harm, Harm::Connection(_))
    }

    /// Returns true if the fault leaves two honest Sentinels reachable.
    pub(super) fn permits(&self, fault: &Fault) -> bool {
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
            Fault::Isolate { .. } | Fault::OperatorAction(_) => false,
        }
    }
}

/// Something that a hostile peer does on its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Attack {
    /// Sends more on a connection.
    SendMore(ConnectionId),
    /// The lying Sentinel publishes an event.
    Publish,
}

/// The state of the hostile peers.
pub(super) struct Hostile {
    pub(super) hostility: Hostility,
    pub(super) rng: Rng,
    /// How often the lying Sentinel has changed its replies.
    pub(super) turns: u64,
    /// Whether the lying Sentinel has stopped replying to clients.
    pub(super) is_silent: bool,
    /// The connections that have turned bad and that the client still holds, and since when.
    bad: BTreeMap<ConnectionId, Duration>,
    leak_reported: bool,
}

impl Hostile {
    pub(super) fn new(hostility: Hostility) -> Self {
        Self {
            hostility,
            rng: Rng::with_seed(hostility.seed),
            turns: 0,
            is_silent: false,
            bad: BTreeMap::new(),
            leak_reported: false,
        }
    }

    /// Returns how `host` violates the protocol, if it does.
    fn misbehavior(&self, host: Host) -> Option<Misbehavior> {
        match (self.hostility.harm, host) {
            (_, Host::Attacker) => Some(self.hostility.attacker),
            (Harm::DeadMaster, Host::Sentinel(number)) if number == self.hostility.liar && self.is_silent => {
                Some(Misbehavior::Silence)
            }
            (Harm::Sentinel(misbehavior), Host::Sentinel(number)) if number == self.hostility.liar => {
                Some(misbehavior)
            }
            (Harm::Replica(misbehavior), Host::Redis(number)) if number == self.hostility.server => {
                Some(misbehavior)
            }
            _ => None,
        }
    }
}

impl World {
    pub(super) fn begin_hostility(&mut self, hostility: Hostility) {
        self.log_note(format!("{hostility:?}"));
        self.hostile = Some(Hostile::new(hostility));
        let publishes = [Harm::ForgedPromotion, Harm::Flapping, Harm::FalseId, Harm::ControlCharacters];
        if publishes.contains(&hostility.harm) {
            self.schedule(hostility.from, Event::Attack(Attack::Publish));
        }
    }

    /// Returns true if the attack has begun.
    pub(super) fn is_hostile(&self) -> bool {
        self.hostile.as_ref().is_some_and(|hostile| hostile.hostility.from <= self.now())
    }

    /// Returns how a host violates the protocol on a connection, if it does.
    pub(super) fn misbehavior_on(&self, number: ConnectionId, host: Host) -> Option<Misbehavior> {
        let hostile = self.hostile.as_ref()?;
        if let Harm::Connection(misbehavior) = hostile.hostility.harm {
            let turned =
                self.sessions.get(&number).is_some_and(|session| session.commands_until_bad == Some(0));
            return turned.then_some(misbehavior);
        }
        let misbehavior = hostile.misbehavior(host)?;
        (host == Host::Attacker || self.is_hostile()).then_some(misbehavior)
    }

    /// Returns after how many commands a new connection turns bad, if it does.
    pub(super) fn commands_until_bad(&mut self, host: Host) -> Option<u32> {
        let is_server = self.is_hostile() && matches!(host, Host::Redis(_));
        let hostile = self.hostile.as_mut().filter(|_| is_server)?;
        let turns = matches!(hostile.hostility.harm, Harm::Connection(_)) && hostile.rng.u8(..3) == 0;
        turns.then(|| hostile.rng.u32(4..30))
    }

    /// Counts a command on a connection that may turn bad.
    pub(super) fn count_command(&mut self, number: ConnectionId) {
        let (now, is_held) = (self.now(), self.network.holds(number));
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let Some(commands_until_bad) = &mut session.commands_until_bad else { return };
        *commands_until_bad = commands_until_bad.saturating_sub(1);
        if let (0, Some(hostile)) = (*commands_until_bad, &mut self.hostile)
            && let Harm::Connection(_) = hostile.hostility.harm
            && is_held
        {
            hostile.bad.entry(number).or_insert(now);
        }
    }

    /// Records that the client has released a connection.
    pub(super) fn on_release(&mut self, number: ConnectionId) {
        let now = self.now();
        let Some(since) = self.hostile.as_mut().and_then(|hostile| hostile.bad.remove(&number)) else {
            return;
        };
        self.history.longest_bad_connection = self.history.longest_bad_connection.max(now - since);
    }

    /// Ends the faults of connections: those that have turned bad are cut, and no others turn bad.
    pub(super) fn end_bad_connections(&mut self) {
        let Some(hostile) = &mut self.hostile else { return };
        if let Harm::Connection(_) = hostile.hostility.harm {
            hostile.hostility.harm = Harm::None;
            let bad = std::mem::take(&mut hostile.bad);
            for (number, since) in bad {
                self.history.longest_bad_connection =
                    self.history.longest_bad_connection.max(self.now() - since);
                self.cut(number);
            }
        }
    }

    /// Checks what the client sends to which host.
    pub(super) fn watch_bytes(&mut self, number: ConnectionId, bytes: &[u8]) {
        let Some(host) = self.sessions.get(&number).map(|session| session.host) else { return };
        let Some(hostile) = &mut self.hostile else { return };
        let leaks = !hostile.leak_reported
            && !matches!(host, Host::Redis(_))
            && bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
        if leaks {
            hostile.leak_reported = true;
            self.history.violation(format!("the password of the servers was sent to {host}"));
        }
    }

    /// Records an attempt of the client to connect.
    pub(super) fn record_attempt(&mut self, to: Option<Host>) {
        let at = self.now();
        self.history.attempts.push(Attempt { at, to });
    }

    /// Returns a hostile peer's response to a command.
    pub(super) fn hostile_command(
        &mut self,
        misbehavior: Misbehavior,
        number: ConnectionId,
        command: &[String],
    ) -> Response {
        let response = self.impostor_reply(number, command);
        let Some(hostile) = &mut self.hostile else { return Vec::new().into() };
        let rng = &mut hostile.rng;
        match misbehavior {
            Misbehavior::Impostor => response,
            Misbehavior::Garbage => {
                // On a connection that worked before, random bytes could form a valid reply.
                let whole = matches!(hostile.hostility.harm, Harm::Connection(_));
                let length = rng.usize(1..200);
                let garbage = (0..length).map(|_| b"*$+-:%~_,#!=(>\r\n019a"[rng.usize(..20)]);
                if whole { b"HTTP/1.1 400 Bad Request\r\n".to_vec() } else { garbage.collect::<Vec<_>>() }
            }
            Misbehavior::Unasked => [response.clone(), response].concat(),
            Misbehavior::Echo => reply::error(&format!("ERR {}", command.join(" "))),
            Misbehavior::Silence => Vec::new(),
            Misbehavior::Closing => {
                self.finish(number);
                Vec::new()
            }
            Misbehavior::Endless | Misbehavior::Pushes | Misbehavior::Trickle => {
                let is_first = self
                    .sessions
                    .get_mut(&number)
                    .is_some_and(|session| !std::mem::replace(&mut session.attacked, true));
                if is_first {
                    self.after(Duration::from_millis(1), Event::Attack(Attack::SendMore(number)));
                }
                match misbehavior {
                    Misbehavior::Endless if is_first => b"*?\r\n".to_vec(),
                    Misbehavior::Trickle if is_first => b"$1000\r\n".to_vec(),
                    _ => Vec::new(),
                }
            }
        }
        .into()
    }

    /// Replies as a master would. The client must not send it any command of a caller.
    fn impostor_reply(&mut self, number: ConnectionId, command: &[String]) -> Vec<u8> {
        let args = command.iter().map(|arg| arg.to_ascii_uppercase()).collect::<Vec<_>>();
        let args = args.iter().map(String::as_str).collect::<Vec<_>>();
        let is_attacker = self.sessions.get(&number).is_some_and(|session| session.host == Host::Attacker);
        match args[..] {
            ["HELLO", ..] => {
                let args = command.iter().map(String::as_str).skip(1).collect::<Vec<_>>();
                self.hello(number, &args)
            }
            ["PING", ..] => reply::status("PONG"),
            ["ROLE"] => reply::array(&[reply::bulk("master"), reply::integer(0), reply::array(&[])]),
            ["INFO", ..] => {
                reply::bulk("role:master\r\nconnected_slaves:0\r\nmaster_repl_offset:1000000000\r\n")
            }
            ["AUTH" | "SELECT" | "CLIENT" | "SENTINEL" | "SUBSCRIBE", ..] => reply::status("OK"),
            _ => {
                if is_attacker {
                    self.history.violation(format!("{} was sent to the attacker", args.join(" ")));
                }
                reply::integer(0)
            }
        }
    }

    pub(super) fn on_attack(&mut self, attack: Attack) {
        match attack {
            Attack::Publish => self.publish_false_events(),
            Attack::SendMore(number) => self.send_more(number),
        }
    }

    /// Sends more of an endless reply.
    fn send_more(&mut self, number: ConnectionId) {
        let Some(host) = self.sessions.get(&number).map(|session| session.host) else { return };
        let Some(misbehavior) = self.misbehavior_on(number, host) else { return };
        let Some(hostile) = &mut self.hostile else { return };
        let (more, wait) = match misbehavior {
            Misbehavior::Pushes => {
                (b">0\r\n".repeat(hostile.rng.usize(1..1_000)), hostile.rng.u64(500..5_000))
            }
            Misbehavior::Endless => {
                (b"_\r\n".repeat(hostile.rng.usize(1..1_000)), hostile.rng.u64(500..5_000))
            }
            _ => (b"x".to_vec(), hostile.rng.u64(10_000..300_000)),
        };
        self.reply(number, more);
        self.after(Duration::from_micros(wait), Event::Attack(Attack::SendMore(number)));
    }
}
