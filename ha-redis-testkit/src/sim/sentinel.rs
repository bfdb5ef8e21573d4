//! Simulated Sentinels. Each has its own view, gossips, and may lead a failover, at the pace of real Sentinels.

use std::time::Duration;

use super::host::{Host, SENTINELS, SERVERS};
use super::network::ConnectionId;
use super::redis::Role;
use super::reply;
use super::trace::Line;
use super::world::{Event, World};

pub(super) const MASTER_NAME: &str = "mymaster";
const QUORUM: usize = 2;
/// How long a Sentinel takes to learn the replicas of a new master.
const NEW_MASTER_INFO_DELAY: Duration = Duration::from_secs(1);
/// How long a master must be unreachable to count as down.
const DOWN_AFTER: Duration = Duration::from_millis(500);

pub(super) struct Sentinel {
    pub(super) epoch: u64,
    pub(super) master: usize,
    /// Whether a master of the name is configured.
    pub(super) monitors: bool,
    /// Whether the machine is lost for good.
    pub(super) removed: bool,
    /// Since when the Sentinel has not reached the master.
    missing_since: Option<Duration>,
    /// Whether it has published that a quorum finds the master down.
    odown: bool,
    /// When it knows the replicas and the other Sentinels again, and which of the others.
    replicas_from: Duration,
    peers_from: Duration,
    peers: [bool; SENTINELS],
}

impl Sentinel {
    pub(super) fn new() -> Self {
        Self {
            epoch: 0,
            master: 0,
            monitors: true,
            removed: false,
            missing_since: None,
            odown: false,
            replicas_from: Duration::ZERO,
            peers_from: Duration::ZERO,
            peers: [true; SENTINELS],
        }
    }

    /// Hides the replicas and the other Sentinels from this Sentinel until these times.
    pub(super) fn clear_known(
        &mut self,
        replicas_from: Duration,
        peers_from: Duration,
        peers: [bool; SENTINELS],
    ) {
        (self.missing_since, self.odown) = (None, false);
        (self.replicas_from, self.peers_from, self.peers) = (replicas_from, peers_from, peers);
    }

    pub(super) fn knows_peer(&self, peer: usize, now: Duration) -> bool {
        self.peers[peer] && self.peers_from <= now
    }
}

/// Replies.
impl World {
    pub(super) fn sentinel_command(
        &mut self,
        sentinel: usize,
        number: ConnectionId,
        command: &[String],
    ) -> Vec<u8> {
        let args = command.iter().map(|arg| arg.to_ascii_uppercase()).collect::<Vec<_>>();
        let args = args.iter().map(String::as_str).collect::<Vec<_>>();
        if let Some(refusal) = self.refusal_of_user(Host::Sentinel(sentinel), &args) {
            return refusal;
        }
        if let Some(false_reply) = self.false_reply(sentinel, &args) {
            return false_reply;
        }
        let has_no_master = !self.sentinels[sentinel].monitors;
        match args[..] {
            ["HELLO", ..] => {
                let args = command.iter().map(String::as_str).skip(1).collect::<Vec<_>>();
                self.hello(number, &args)
            }
            ["PING"] if self.speaks_resp3() || !self.is_subscribed(number) => reply::status("PONG"),
            ["PING"] => reply::bulks(&["pong", ""]),
            ["SUBSCRIBE", ..] => self.subscribe(number, &command[1..]),
            ["INFO", ..] => reply::bulk("# Sentinel\r\nsentinel_tilt:0\r\n"),
            ["SENTINEL", "MYID"] => reply::bulk(&id_of(sentinel)),
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _] if has_no_master => b"*-1\r\n".to_vec(),
            ["SENTINEL", "MASTER" | "REPLICAS" | "SENTINELS", _] if has_no_master => {
                reply::error("ERR No such master with that name")
            }
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _] => {
                let master = Host::Redis(self.sentinels[sentinel].master);
                reply::bulks(&[&master.to_string(), &master.port().to_string()])
            }
            ["SENTINEL", "MASTER", _] => self.describe_master(sentinel),
            ["SENTINEL", "REPLICAS", _] => {
                let master = self.sentinels[sentinel].master;
                let known = self.sentinels[sentinel].replicas_from <= self.now();
                let replicas = (0..SERVERS).filter(|server| known && *server != master);
                let replicas = replicas.map(|server| {
                    let up = self.sees(Host::Sentinel(sentinel), Host::Redis(server));
                    instance(
                        Host::Redis(server),
                        &[
                            ("flags", if up { "slave" } else { "s_down,slave" }),
                            ("master-link-status", if up { "ok" } else { "err" }),
                        ],
                    )
                });
                reply::array(&replicas.collect::<Vec<_>>())
            }
            ["SENTINEL", "SENTINELS", _] => {
                let others = self
                    .peers(sentinel)
                    .into_iter()
                    .map(|other| instance(Host::Sentinel(other), &[("runid", &id_of(other))]));
                reply::array(&others.collect::<Vec<_>>())
            }
            _ => reply::error(&format!("ERR unknown command '{}'", args.join(" "))),
        }
    }

    fn is_subscribed(&self, number: ConnectionId) -> bool {
        self.sessions.get(&number).is_some_and(|session| session.subscribed)
    }

    fn subscribe(&mut self, number: ConnectionId, channels: &[String]) -> Vec<u8> {
        if let Some(session) = self.sessions.get_mut(&number) {
            session.subscribed = true;
        }
        let confirmed = channels.iter().zip(1..).flat_map(|(channel, count)| {
            self.message(&[reply::bulk("subscribe"), reply::bulk(channel), reply::integer(count)])
        });
        confirmed.collect()
    }

    fn message(&self, items: &[Vec<u8>]) -> Vec<u8> {
        if self.speaks_resp3() { reply::push(items) } else { reply::array(items) }
    }

    fn describe_master(&self, sentinel: usize) -> Vec<u8> {
        let view = &self.sentinels[sentinel];
        let (epoch, quorum) = (view.epoch.to_string(), QUORUM.to_string());
        let others = self.peers(sentinel).len();
        instance(
            Host::Redis(view.master),
            &[
                ("flags", if view.missing_since.is_some() { "s_down,master" } else { "master" }),
                ("config-epoch", &epoch),
                ("quorum", &quorum),
                ("num-other-sentinels", &others.to_string()),
            ],
        )
    }

    /// Returns the other Sentinels that this one knows.
    fn peers(&self, sentinel: usize) -> Vec<usize> {
        let knows =
            |other: &usize| *other != sentinel && self.sentinels[sentinel].knows_peer(*other, self.now());
        (0..SENTINELS).filter(knows).collect()
    }

    pub(super) fn publish(&mut self, sentinel: usize, channel: &'static str, payload: &str) {
        self.note(Line::Published { sentinel: Host::Sentinel(sentinel), channel });
        if self.behavior.publish {
            self.publish_to_all(sentinel, channel, payload);
        }
    }

    pub(super) fn publish_to_all(&mut self, sentinel: usize, channel: &str, payload: &str) {
        for number in self.connections_of(Host::Sentinel(sentinel)) {
            if self.is_subscribed(number) {
                let message = [reply::bulk("message"), reply::bulk(channel), reply::bulk(payload)];
                self.reply(number, self.message(&message));
            }
        }
    }
}

pub(super) fn id_of(sentinel: usize) -> String {
    format!("id-{sentinel}")
}

fn instance(host: Host, more: &[(&str, &str)]) -> Vec<u8> {
    let (name, port) = (host.to_string(), host.port().to_string());
    let mut fields = vec!["ip", &name, "port", &port];
    fields.extend(more.iter().flat_map(|(key, value)| [*key, *value]));
    reply::bulks(&fields)
}

/// Periodic checks.
impl World {
    pub(super) fn schedule_tick(&mut self, sentinel: usize) {
        let wait = self.between(80, 120);
        self.after(wait, Event::Tick(sentinel));
    }

    pub(super) fn on_tick(&mut self, number: usize) {
        self.schedule_tick(number);
        if self.is_up(Host::Sentinel(number)) && self.sentinels[number].monitors {
            self.gossip(number);
            self.check_master(number);
            self.reconfigure_replicas(number);
        }
    }

    /// Adopts the configuration of a Sentinel that knows a later failover.
    fn gossip(&mut self, number: usize) {
        let mine = self.sentinels[number].epoch;
        let newer = (0..SENTINELS)
            .find(|other| self.receives_view_of(number, *other) && self.sentinels[*other].epoch > mine);
        let Some(newer) = newer.filter(|_| self.rng.bool()) else { return };
        let (epoch, master) = (self.sentinels[newer].epoch, self.sentinels[newer].master);
        let old = self.sentinels[number].master;
        self.set_master(number, epoch, master);
        self.publish(number, "+config-update-from", &about_master(old));
        self.publish(number, "+switch-master", &switched(old, master));
    }

    /// Sets the master of a Sentinel, with this epoch, and schedules the query for the master's replicas.
    pub(super) fn set_master(&mut self, number: usize, epoch: u64, master: usize) {
        let replicas_from = self.now() + NEW_MASTER_INFO_DELAY;
        let sentinel = &mut self.sentinels[number];
        (sentinel.epoch, sentinel.master) = (epoch, master);
        (sentinel.missing_since, sentinel.odown) = (None, false);
        sentinel.replicas_from = sentinel.replicas_from.min(replicas_from);
    }

    /// Returns true if a Sentinel receives another's view of the master.
    fn receives_view_of(&self, number: usize, other: usize) -> bool {
        let knows = other == number || self.sentinels[number].knows_peer(other, self.now());
        knows && self.sentinels[other].monitors && self.sees(Host::Sentinel(number), Host::Sentinel(other))
    }

    /// Checks whether the master is reachable, and whether a quorum agrees.
    fn check_master(&mut self, number: usize) {
        let now = self.now();
        let master = self.sentinels[number].master;
        if self.answers(number, master) && self.servers[master].is_master() {
            self.sentinels[number].missing_since = None;
            self.sentinels[number].odown = false;
            return;
        }
        self.sentinels[number].missing_since.get_or_insert(now);
        let finds_down = |sentinel: &Sentinel| {
            sentinel.master == master && sentinel.missing_since.is_some_and(|since| since + DOWN_AFTER <= now)
        };
        if !finds_down(&self.sentinels[number]) {
            return;
        }
        let others = (0..SENTINELS).filter(|other| self.receives_view_of(number, *other));
        if others.filter(|other| finds_down(&self.sentinels[*other])).count() < QUORUM {
            return;
        }
        if !std::mem::replace(&mut self.sentinels[number].odown, true) {
            self.publish(number, "+odown", &format!("{} #quorum 2/2", about_master(master)));
        }
        if self.failover.is_none() && self.rng.u8(..3) == 0 {
            self.start_failover(number);
        }
    }

    /// Reconfigures servers that replicate from the wrong master. Only the first Sentinel with the newest epoch
    /// does this.
    fn reconfigure_replicas(&mut self, number: usize) {
        let newest = self.newest_epoch();
        let me = Host::Sentinel(number);
        let mut up_to_date = (0..SENTINELS).filter(|other| {
            let sentinel = &self.sentinels[*other];
            self.is_up(Host::Sentinel(*other)) && sentinel.monitors && sentinel.epoch == newest
        });
        let master = self.sentinels[number].master;
        let master_is_healthy = self.sees(me, Host::Redis(master)) && self.servers[master].is_master();
        if up_to_date.next() != Some(number) || !master_is_healthy || self.failover.is_some() {
            return;
        }
        for server in (0..SERVERS).filter(|server| *server != master) {
            let has_wrong_master = self.servers[server].role != (Role::Replica { of: master });
            if has_wrong_master
                && self.sees(me, Host::Redis(server))
                && self.rng.u8(..self.behavior.reconfigure_delay) == 0
            {
                self.attach(server, master);
            }
        }
    }
}

/// Agreement.
impl World {
    /// Returns the Sentinels that are not lost for good.
    pub(super) fn present_sentinels(&self) -> impl Iterator<Item = (usize, &Sentinel)> {
        self.sentinels.iter().enumerate().filter(|(_, sentinel)| !sentinel.removed)
    }

    pub(super) fn newest_epoch(&self) -> u64 {
        let monitoring = self.present_sentinels().filter(|(_, sentinel)| sentinel.monitors);
        monitoring.map(|(_, sentinel)| sentinel.epoch).max().unwrap_or_default()
    }

    /// Returns the server that was promoted last.
    pub(super) fn newest_master(&self) -> Host {
        let newest = self.present_sentinels().max_by_key(|(_, sentinel)| (sentinel.monitors, sentinel.epoch));
        Host::Redis(newest.map_or(0, |(_, sentinel)| sentinel.master))
    }

    /// Returns the era of the master that all Sentinels agree on, if there is no failover in progress.
    pub(super) fn agreed_era(&self) -> Option<u64> {
        let Host::Redis(master) = self.newest_master() else { return None };
        let epoch = self.newest_epoch();
        let agreed = self.present_sentinels().all(|(number, sentinel)| {
            sentinel.monitors
                && (sentinel.epoch, sentinel.master) == (epoch, master)
                && self.is_up(Host::Sentinel(number))
        });
        let is_stable = self.failover.is_none() && (0..SERVERS).all(|server| self.is_up(Host::Redis(server)));
        match self.servers[master].role {
            Role::Master { era } if agreed && is_stable => Some(era),
            _ => None,
        }
    }

    /// Returns true if the Sentinels agree and all other servers replicate from that master.
    pub(super) fn is_settled(&self) -> bool {
        let Host::Redis(of) = self.newest_master() else { return false };
        let others = self.servers.iter().enumerate().filter(|(server, _)| *server != of);
        let all_replicate = others.map(|(_, server)| server.role).all(|role| role == Role::Replica { of });
        self.agreed_era().is_some() && all_replicate
    }
}

pub(super) fn about_master(master: usize) -> String {
    let master = Host::Redis(master);
    format!("master {MASTER_NAME} {master} {}", master.port())
}

pub(super) fn about_replica(replica: usize, master: usize) -> String {
    let (replica, master) = (Host::Redis(replica), Host::Redis(master));
    let (port, master_port) = (replica.port(), master.port());
    format!("slave {replica}:{port} {replica} {port} @ {MASTER_NAME} {master} {master_port}")
}

pub(super) fn switched(old: usize, new: usize) -> String {
    let (old, new) = (Host::Redis(old), Host::Redis(new));
    format!("{MASTER_NAME} {old} {} {new} {}", old.port(), new.port())
}
