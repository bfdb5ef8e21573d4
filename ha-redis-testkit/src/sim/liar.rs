//! A Sentinel that lies. It cooperates with the other Sentinels, but sends clients false replies.

use std::time::Duration;

use super::host::{Host, SENTINELS, SERVERS};
use super::hostile::{Attack, Harm};
use super::reply;
use super::sentinel::{MASTER_NAME, id_of};
use super::world::{Event, World};

/// One of the attacker's addresses, which are all in `10.66`.
const ATTACKER: (&str, &str) = ("10.66.0.1", "6379");
/// An address that does not respond.
const SILENT: (&str, &str) = ("10.98.0.1", "6379");

/// The length of the long lists.
const LIST_LENGTH: u32 = 300;

/// Invalid addresses, some with text that could harm a terminal or forge log lines.
const ODD_ADDRESSES: [(&str, &str); 7] = [
    ("10.66.0.1\r\n2026-01-01 ERROR forged", "6379"),
    ("\u{1b}[2J\u{7}", "6379"),
    ("0.0.0.0", "6379"),
    ("", ""),
    ("10.66.0.1", "0"),
    ("10.66.0.1", "99999999999999999999"),
    ("10.66.0.1\0", "-1"),
];

impl World {
    /// Returns the lying Sentinel's reply, if it is false.
    pub(super) fn false_reply(&mut self, sentinel: usize, args: &[&str]) -> Option<Vec<u8>> {
        if !self.is_hostile() {
            return None;
        }
        let hostile = self.hostile.as_mut().filter(|hostile| hostile.hostility.liar == sentinel)?;
        let harm = hostile.hostility.harm;
        if let (Harm::FalseId, ["SENTINEL", "MYID"]) = (harm, args) {
            let other = (sentinel + hostile.rng.usize(1..SENTINELS)) % SENTINELS;
            return Some(reply::bulk(&id_of(other)));
        }
        let (host, port) = match harm {
            Harm::HugeEpoch | Harm::FalseId => ATTACKER,
            Harm::DeadMaster => SILENT,
            Harm::ControlCharacters => ODD_ADDRESSES[hostile.rng.usize(..ODD_ADDRESSES.len())],
            Harm::Flapping => {
                hostile.turns += 1;
                [ATTACKER, ("redis0", "6379"), ("redis1", "6379"), ("redis2", "6379")][hostile.rng.usize(..4)]
            }
            _ => return self.false_list(harm, sentinel, args),
        };
        let epoch = match harm {
            Harm::Flapping => hostile.turns.to_string(),
            _ => [1_000_000, u64::MAX / 2, u64::MAX][hostile.rng.usize(..3)].to_string(),
        };
        let more = ["flags", "master", "config-epoch", &epoch, "quorum", "2", "num-other-sentinels", "2"];
        let named = match args {
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", _] => reply::bulks(&[host, port]),
            ["SENTINEL", "MASTER", _] => reply::bulks(&[&["ip", host, "port", port][..], &more].concat()),
            ["SENTINEL", "REPLICAS", _] => reply::array(&[listed((host, port), &[("flags", "slave")])]),
            _ => return None,
        };
        // The Sentinel may go silent after some replies.
        hostile.is_silent |= hostile.rng.u8(..4) == 0;
        Some(named)
    }

    fn false_list(&mut self, harm: Harm, sentinel: usize, args: &[&str]) -> Option<Vec<u8>> {
        let up = [("flags", "slave"), ("master-link-status", "ok")];
        match (harm, args) {
            (Harm::ForgedPromotion, ["SENTINEL", "REPLICAS", _]) => {
                let honest = (0..SERVERS).filter(|server| *server != self.sentinels[sentinel].master);
                let honest = honest.map(|server| listed_host(Host::Redis(server), &up));
                Some(reply::array(&honest.chain([listed(ATTACKER, &up)]).collect::<Vec<_>>()))
            }
            (Harm::ManyReplicas, ["SENTINEL", "REPLICAS", _]) => {
                Some(reply::array(&long_list(|ip| listed((ip, "6379"), &up))))
            }
            (Harm::ManySentinels, ["SENTINEL", "SENTINELS", _]) => {
                let honest = (0..SENTINELS).filter(|other| *other != sentinel);
                let honest = honest.map(|other| {
                    listed_host(Host::Sentinel(other), &[("flags", "sentinel"), ("runid", &id_of(other))])
                });
                let invented = long_list(|ip| listed((ip, "26379"), &[("flags", "sentinel"), ("runid", ip)]));
                Some(reply::array(&honest.chain(invented).collect::<Vec<_>>()))
            }
            (Harm::InflatedPeerCount, ["SENTINEL", "MASTER", _]) => {
                let master = Host::Redis(self.sentinels[sentinel].master);
                let (epoch, others) = (self.sentinels[sentinel].epoch.to_string(), u64::MAX.to_string());
                let count = if self.rng.bool() { "1000000" } else { &others };
                let more = [("flags", "master"), ("config-epoch", &epoch), ("quorum", "2")];
                Some(listed_host(master, &[&more[..], &[("num-other-sentinels", count)]].concat()))
            }
            _ => None,
        }
    }

    /// Publishes false events.
    pub(super) fn publish_false_events(&mut self) {
        let Some(hostile) = &mut self.hostile else { return };
        let (liar, harm) = (hostile.hostility.liar, hostile.hostility.harm);
        let (odd, odd_port) = ODD_ADDRESSES[hostile.rng.usize(..ODD_ADDRESSES.len())];
        let wait = match harm {
            Harm::Flapping => hostile.rng.u64(1_000..20_000),
            _ => hostile.rng.u64(100_000..1_000_000),
        };
        let (ip, port) = ATTACKER;
        let master = Host::Redis(self.sentinels[liar].master);
        let (of, of_port) = (master.to_string(), master.port());
        let about = format!("master {MASTER_NAME} {of} {of_port}");
        let replica = format!("slave {ip}:{port} {ip} {port} @ {MASTER_NAME} {of} {of_port}");
        let switched = format!("{MASTER_NAME} {of} {of_port} {ip} {port}");
        match harm {
            Harm::Flapping => {
                self.publish_to_all(liar, "+switch-master", &switched);
                self.publish_to_all(
                    liar,
                    "+switch-master",
                    &format!("{MASTER_NAME} {ip} {port} {of} {of_port}"),
                );
            }
            Harm::ControlCharacters => {
                let odd = format!("{MASTER_NAME} {of} {of_port} {odd} {odd_port}");
                self.publish_to_all(liar, "+switch-master", &odd);
            }
            _ => {
                self.publish_to_all(liar, "+odown", &format!("{about} #quorum 2/2"));
                self.publish_to_all(liar, "+selected-slave", &replica);
                self.publish_to_all(liar, "+failover-state-send-slaveof-noone", &replica);
                self.publish_to_all(liar, "+promoted-slave", &replica);
                self.publish_to_all(liar, "+switch-master", &switched);
            }
        }
        self.after(Duration::from_micros(wait), Event::Attack(Attack::Publish));
    }
}

fn listed((ip, port): (&str, &str), more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = vec!["ip", ip, "port", port];
    fields.extend(more.iter().flat_map(|(key, value)| [*key, *value]));
    reply::bulks(&fields)
}

fn listed_host(host: Host, more: &[(&str, &str)]) -> Vec<u8> {
    listed((&host.to_string(), &host.port().to_string()), more)
}

/// Returns the entries of a long list: addresses of the attacker, addresses that do not respond, and addresses that
/// refuse connections.
fn long_list(entry: impl Fn(&str) -> Vec<u8>) -> Vec<Vec<u8>> {
    let network = |number: u32| [66, 98, 99][(number % 3) as usize];
    (0..LIST_LENGTH).map(|number| entry(&format!("10.{}.1.{}", network(number), number / 3))).collect()
}
