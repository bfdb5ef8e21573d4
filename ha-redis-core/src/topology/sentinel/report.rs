//! What one Sentinel knows.

use std::collections::BTreeSet;

use redis::{Cmd, Value, cmd};

use crate::address::Address;
use crate::error::said;
use crate::peer_text::{is_printable, printable, text_of};
use crate::proto::{Secrets, TOO_LARGE};
use crate::topology::MAX_REPLICAS;

/// What a Sentinel's INFO takes at the most, with room to spare; it says of TILT before all else.
const MAX_INFO: usize = 64 << 10;

/// What is left out of an answer that has a password in place of a host.
const REPEATED: &str = "what is no address of a server: a host with a password in its name";

/// The most other Sentinels that are read of one's list.
pub(crate) const MAX_REPORTED_SENTINELS: usize = 64;

/// One Sentinel's account of a master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SentinelReport {
    /// The Sentinel's own id, by which one that has two addresses is counted once.
    pub(crate) id: Option<String>,
    /// `None` when it does not know a master of that name.
    pub(crate) master: Option<ReportedMaster>,
    /// What it said in place of an answer, unless it was that it does not know the name.
    pub(crate) refusal: Option<String>,
    pub(crate) replicas: Vec<ReportedReplica>,
    /// The other Sentinels that it knows.
    pub(crate) sentinels: Vec<ReportedSentinel>,
    /// Whether it does nothing but watch, since its clock or its host stood still: it has no part in a failover.
    pub(crate) tilt: bool,
    /// What of its answer was left out, and why.
    pub(crate) left_out: Option<String>,
}

impl SentinelReport {
    /// Leaves out the addresses that repeat a password.
    pub(crate) fn without(mut self, secrets: &Secrets) -> Self {
        let is_secret = |address: &Address| secrets.are_in(address);
        let listed = self.replicas.len() + self.sentinels.len();
        self.replicas.retain(|replica| !is_secret(&replica.address));
        self.sentinels.retain(|other| !is_secret(&other.address));
        if self.master.as_ref().is_some_and(|master| is_secret(&master.address)) {
            self.master = None;
            self.refusal = Some(format!("it names {REPEATED}"));
        }
        if self.replicas.len() + self.sentinels.len() < listed || self.refusal.is_some() {
            self.left_out.get_or_insert_with(|| REPEATED.to_owned());
        }
        self
    }

    /// The servers that it knows, each once.
    pub(crate) fn servers(&self) -> BTreeSet<&Address> {
        let master = self.master.as_ref().map(|master| &master.address);
        self.replicas.iter().map(|replica| &replica.address).chain(master).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportedMaster {
    /// Where clients are to go: during a failover this is the new master before the rest of the view says so.
    pub(crate) address: Address,
    /// Grows with every failover.
    pub(crate) epoch: u64,
    /// `s_down`, `o_down`, `failover_in_progress`, …
    pub(crate) flags: String,
    pub(crate) quorum: usize,
}

/// Another Sentinel, as one describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReportedSentinel {
    pub(crate) address: Address,
    pub(crate) id: String,
}

/// A replica, as a Sentinel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportedReplica {
    pub(crate) address: Address,
    pub(crate) flags: String,
    pub(crate) master_link_up: bool,
}

impl ReportedReplica {
    pub(crate) fn is_up(&self) -> bool {
        is_up(&self.flags)
    }
}

/// Whether a Sentinel that gives a server these flags takes it for well.
pub(crate) fn is_up(flags: &str) -> bool {
    !flags.split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected" | "master_down"))
}

/// What to ask, all at once.
///
/// The Sentinel may change its mind between two answers. The epoch is asked for before the address: an old epoch
/// with a new address is taken for old, but a new epoch with an old address would be believed.
pub(crate) fn questions(master_name: &str) -> Vec<Cmd> {
    let ask = |what: &str| cmd("SENTINEL").arg(what).arg(master_name).take();
    vec![
        cmd("SENTINEL").arg("MYID").take(),
        ask("MASTER"),
        ask("GET-MASTER-ADDR-BY-NAME"),
        ask("REPLICAS"),
        ask("SENTINELS"),
        cmd("INFO").arg("sentinel").take(),
    ]
}

/// Reads the replies to [`questions`]. What cannot be read counts as not known.
pub(crate) fn read_report(replies: &[Value]) -> SentinelReport {
    let [id, master, address, replicas, sentinels, info] = replies else { return SentinelReport::default() };
    let mut left_out = LeftOut::default();
    let named = read_master(address, master, &mut left_out);
    let odd = left_out.0.as_ref().filter(|_| named.is_none()).map(|odd| format!("it names {odd}"));
    SentinelReport {
        id: text(id).and_then(read_id),
        master: named,
        refusal: refusal(address).or(odd),
        replicas: left_out.of("replicas", replicas, read_replica, MAX_REPLICAS, |replica| &replica.address),
        sentinels: left_out
            .of("Sentinels", sentinels, read_companion, MAX_REPORTED_SENTINELS, |other| &other.address),
        tilt: text_of(info, MAX_INFO)
            .is_some_and(|info| info.lines().any(|line| line.trim_end() == "sentinel_tilt:1")),
        left_out: left_out.0,
    }
}

/// What is left out of an answer: the first such thing.
#[derive(Default)]
struct LeftOut(Option<String>);

impl LeftOut {
    fn tell(&mut self, what: impl FnOnce() -> String) {
        self.0.get_or_insert_with(what);
    }

    /// The address that it gives, if it is one.
    fn address(&mut self, host: &str, port: &str) -> Option<Address> {
        let address = Address::announced(host, port);
        if address.is_none() {
            let (host, port) = (printable(host), printable(port));
            self.tell(|| format!("what is no address of a server: host `{host}`, port `{port}`"));
        }
        address
    }

    /// A list that it gives, each address once.
    fn of<T>(
        &mut self,
        what: &str,
        list: &Value,
        read: fn(&Record<'_>, &mut Self) -> Option<T>,
        most: usize,
        address: fn(&T) -> &Address,
    ) -> Vec<T> {
        let records = match list {
            Value::Array(items) => items.as_slice(),
            Value::ServerError(error) if error.code() == TOO_LARGE => {
                self.tell(|| format!("of its {what}: {}", said(error)));
                &[]
            }
            _ => &[],
        };
        let read = records.iter().filter_map(|record| read(&Record(record), self));
        let mut listed: Vec<_> = read.collect();
        listed.sort_by(|one, other| address(one).cmp(address(other)));
        listed.dedup_by(|one, other| address(one) == address(other));
        if listed.len() > most {
            self.tell(|| format!("of {} {what} all but {most}", listed.len()));
            listed.truncate(most);
        }
        listed
    }
}

/// Either of the two answers will do, since a user may lack the permission for one of them: without the record, the epoch
/// counts as the lowest.
fn read_master(address: &Value, master: &Value, left_out: &mut LeftOut) -> Option<ReportedMaster> {
    let record = Record(master);
    let address = match address {
        Value::Array(parts) => match parts.as_slice() {
            [host, port] => left_out.address(&text(host)?, &text(port)?),
            _ => None,
        },
        Value::ServerError(_) => record.address(left_out),
        _ => None,
    };
    Some(ReportedMaster {
        address: address?,
        epoch: record.number("config-epoch").unwrap_or(0),
        flags: record.field("flags").unwrap_or_default(),
        quorum: record.number("quorum").and_then(|quorum| usize::try_from(quorum).ok()).unwrap_or(0),
    })
}

/// What stands in place of the master's address, unless that is that there is no such master.
fn refusal(address: &Value) -> Option<String> {
    let Value::ServerError(error) = address else { return None };
    let remedy = match error.code() {
        "NOPERM" => "; allow it (ACL SETUSER <user> +sentinel|get-master-addr-by-name)",
        _ => "",
    };
    let known = !error.details().unwrap_or_default().starts_with("No such master");
    known.then(|| format!("{}{remedy}", said(error)))
}

fn read_replica(record: &Record<'_>, left_out: &mut LeftOut) -> Option<ReportedReplica> {
    Some(ReportedReplica {
        address: record.address(left_out)?,
        flags: record.field("flags").unwrap_or_default(),
        master_link_up: record.field("master-link-status").as_deref() == Some("ok"),
    })
}

/// One that has not told its id yet is not counted yet.
fn read_companion(record: &Record<'_>, left_out: &mut LeftOut) -> Option<ReportedSentinel> {
    let id = record.field("runid").and_then(read_id)?;
    Some(ReportedSentinel { address: record.address(left_out)?, id })
}

/// An id tells Sentinels apart, and nothing else.
fn read_id(text: String) -> Option<String> {
    Some(text).filter(|id| !id.is_empty() && is_printable(id))
}

/// The fields of one instance: a map in RESP3, a flat list in RESP2.
struct Record<'a>(&'a Value);

impl Record<'_> {
    fn field(&self, name: &str) -> Option<String> {
        let value = match self.0 {
            Value::Map(pairs) => pairs.iter().find(|(key, _)| is(key, name)).map(|(_, value)| value),
            Value::Array(flat) => flat.chunks_exact(2).find(|pair| is(&pair[0], name)).map(|pair| &pair[1]),
            _ => None,
        };
        value.and_then(text)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.field(name)?.parse().ok()
    }

    fn address(&self, left_out: &mut LeftOut) -> Option<Address> {
        left_out.address(&self.field("ip")?, &self.field("port")?)
    }
}

fn is(value: &Value, word: &str) -> bool {
    match value {
        Value::BulkString(bytes) => bytes == word.as_bytes(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text == word,
        _ => false,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn flat(fields: &[(&str, &str)]) -> Value {
        Value::Array(fields.iter().flat_map(|(key, value)| [bulk(key), bulk(value)]).collect())
    }

    fn map(fields: &[(&str, &str)]) -> Value {
        Value::Map(fields.iter().map(|(key, value)| (bulk(key), bulk(value))).collect())
    }

    const MASTER: [(&str, &str); 5] =
        [("ip", "10.0.0.1"), ("port", "6379"), ("flags", "master"), ("config-epoch", "7"), ("quorum", "2")];
    const REPLICA: [(&str, &str); 4] =
        [("ip", "10.0.0.2"), ("port", "6380"), ("flags", "slave"), ("master-link-status", "ok")];

    fn replies(shape: fn(&[(&str, &str)]) -> Value) -> Vec<Value> {
        let sentinel = [("ip", "10.0.0.9"), ("port", "26379"), ("runid", "def")];
        vec![
            bulk("abc"),
            shape(&MASTER),
            Value::Array(vec![bulk("10.0.0.1"), bulk("6379")]),
            Value::Array(vec![shape(&REPLICA)]),
            Value::Array(vec![shape(&sentinel)]),
            bulk("# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:1\r\n"),
        ]
    }

    #[test]
    fn both_protocols_say_the_same() {
        let view = read_report(&replies(map));
        assert_eq!(view, read_report(&replies(flat)));
        let master = view.master.unwrap();
        assert_eq!((master.epoch, master.quorum), (7, 2));
        assert_eq!(master.address, Address::tcp("10.0.0.1", 6379));
        assert_eq!(view.replicas[0].address, Address::tcp("10.0.0.2", 6380));
        assert!(view.replicas[0].master_link_up);
        let other = ReportedSentinel { address: Address::tcp("10.0.0.9", 26379), id: "def".to_owned() };
        assert_eq!(view.sentinels, [other]);
        assert!(view.tilt);
    }

    #[test]
    fn the_epoch_is_asked_for_before_the_address() {
        let asked = questions("mymaster").iter().map(Cmd::get_packed_command).collect::<Vec<_>>();
        let place = |word: &[u8]| {
            asked.iter().position(|question| question.windows(word.len()).any(|part| part == word))
        };
        assert!(place(b"\r\nMASTER\r\n") < place(b"GET-MASTER-ADDR-BY-NAME"));
    }

    #[test]
    fn a_name_that_a_sentinel_does_not_know_gives_no_master() {
        let refused = redis::parse_redis_value(b"-ERR No such master with that name\r\n").unwrap();
        let view =
            read_report(&[bulk("abc"), refused.clone(), Value::Nil, refused.clone(), refused, Value::Nil]);
        assert_eq!(view, SentinelReport { id: Some("abc".to_owned()), ..SentinelReport::default() });
    }

    #[test]
    fn what_is_no_sentinel_says_so() {
        let refused = redis::parse_redis_value(b"-ERR unknown command 'SENTINEL'\r\n").unwrap();
        let view = read_report(&vec![refused; 6]);
        assert_eq!(view.refusal.as_deref(), Some("ERR unknown command 'SENTINEL'"));
    }

    #[test]
    fn of_the_two_answers_that_name_the_master_one_will_do() {
        let refused = redis::parse_redis_value(b"-NOPERM this user has no permissions\r\n").unwrap();
        let mut without_record = replies(map);
        without_record[1] = refused.clone();
        let view = read_report(&without_record);
        assert_eq!(
            view.master.map(|master| (master.address, master.epoch)),
            Some((Address::tcp("10.0.0.1", 6379), 0))
        );
        let mut without_address = replies(map);
        without_address[2] = refused.clone();
        let view = read_report(&without_address);
        assert_eq!(
            view.master.map(|master| (master.address, master.epoch)),
            Some((Address::tcp("10.0.0.1", 6379), 7))
        );
        let view = read_report(&vec![refused; 6]);
        assert!(view.refusal.unwrap().contains("+sentinel|get-master-addr-by-name"));
    }

    fn views_of(addresses: &[(&str, &str)]) -> SentinelReport {
        let shape = |(ip, port): &(&str, &str)| flat(&[("ip", ip), ("port", port), ("runid", "def")]);
        let list = Value::Array(addresses.iter().map(shape).collect());
        let (ip, port) = addresses[0];
        let address = Value::Array(vec![bulk(ip), bulk(port)]);
        read_report(&[bulk("abc"), flat(&[]), address, list.clone(), list, Value::Nil])
    }

    #[test]
    fn what_is_no_address_is_left_out_and_told_in_one_line() {
        for odd in [
            ("0.0.0.0", "6379"),
            ("::", "6379"),
            ("", "6379"),
            ("10.0.0.1", "0"),
            ("10.0.0.1\n2026 \u{1b}[2J forged", "6379"),
            ("\u{202e}m", "6379"),
        ] {
            let view = views_of(&[odd]);
            assert_eq!(
                (view.master, view.replicas, view.sentinels),
                (None, Vec::new(), Vec::new()),
                "{odd:?}"
            );
            let told = view.left_out.unwrap();
            assert!(is_printable(&told), "{told}");
            assert_eq!(view.refusal, Some(format!("it names {told}")));
        }
        assert_eq!(views_of(&[("10.0.0.1", "6379")]).left_out, None);
    }

    #[test]
    fn lists_are_cut_in_the_same_place_whatever_their_order() {
        let ports: Vec<_> = (1..=3000).map(|port: u16| port.to_string()).collect();
        let mut addresses: Vec<_> = ports.iter().map(|port| ("10.0.0.1", port.as_str())).collect();
        addresses.push(addresses[0]);
        let view = views_of(&addresses);
        addresses.reverse();
        assert_eq!(view.replicas, views_of(&addresses).replicas);
        assert_eq!((view.replicas.len(), view.sentinels.len()), (MAX_REPLICAS, MAX_REPORTED_SENTINELS));
        assert_eq!(view.left_out.as_deref(), Some("of 3000 replicas all but 64"));
    }

    #[test]
    fn nonsense_is_not_known() {
        assert_eq!(read_report(&[]), SentinelReport::default());
        assert_eq!(read_report(&vec![Value::Int(1); 6]).master, None);
        assert_eq!(read_report(&vec![Value::Array(vec![Value::Nil]); 6]), SentinelReport::default());
    }
}
