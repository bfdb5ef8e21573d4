//! What one Sentinel reports.

use std::collections::BTreeSet;

use redis::{Cmd, Value, cmd};

use crate::address::Address;
use crate::error::printable_error;
use crate::peer_text::{is_printable, printable, text_of};
use crate::proto::{Secrets, TOO_LARGE};
use crate::topology::MAX_REPLICAS;

/// The maximum size of a Sentinel's INFO that is read, with room to spare; the TILT field comes first.
const MAX_INFO: usize = 64 << 10;

/// Reported when an answer has a password in place of a host.
const REPEATED: &str = "not a server address: the host contains a password";

/// The maximum number of other Sentinels that are read from one Sentinel's list.
pub(crate) const MAX_REPORTED_SENTINELS: usize = 64;

/// One Sentinel's report about a master.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SentinelReport {
    /// The Sentinel's own id, which identifies a Sentinel that has two addresses.
    pub(crate) id: Option<String>,
    /// `None` when it monitors no master of that name.
    pub(crate) master: Option<ReportedMaster>,
    /// The error that it replied instead of an answer, unless the name is unknown to it.
    pub(crate) refusal: Option<String>,
    pub(crate) replicas: Vec<ReportedReplica>,
    /// The other Sentinels that it lists.
    pub(crate) sentinels: Vec<ReportedSentinel>,
    /// Whether it is in TILT mode, because its clock or its host stood still: it then takes no part in a failover.
    pub(crate) tilt: bool,
    /// What was left out of its answer, and why.
    pub(crate) left_out: Option<String>,
}

impl SentinelReport {
    /// Leaves out the addresses that contain a password.
    pub(crate) fn without_secrets(mut self, secrets: &Secrets) -> Self {
        let is_secret = |address: &Address| secrets.are_in(address);
        let listed = self.replicas.len() + self.sentinels.len();
        self.replicas.retain(|replica| !is_secret(&replica.address));
        self.sentinels.retain(|other| !is_secret(&other.address));
        if self.master.as_ref().is_some_and(|master| is_secret(&master.address)) {
            self.master = None;
            self.refusal = Some(format!("it names no usable master: {REPEATED}"));
        }
        if self.replicas.len() + self.sentinels.len() < listed || self.refusal.is_some() {
            self.left_out.get_or_insert_with(|| REPEATED.to_owned());
        }
        self
    }

    /// Returns the servers that it lists, each once.
    pub(crate) fn servers(&self) -> BTreeSet<&Address> {
        let master = self.master.as_ref().map(|master| &master.address);
        self.replicas.iter().map(|replica| &replica.address).chain(master).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportedMaster {
    /// Where clients should connect: during a failover this is already the new master while the rest of the report is
    /// not.
    pub(crate) address: Address,
    /// Grows with every failover.
    pub(crate) epoch: u64,
    /// `s_down`, `o_down`, `failover_in_progress`, …
    pub(crate) flags: String,
    pub(crate) quorum: usize,
}

/// Another Sentinel, as a Sentinel lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReportedSentinel {
    pub(crate) address: Address,
    pub(crate) id: String,
}

/// A replica, as a Sentinel lists it.
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

/// Returns true if a Sentinel that reports these flags considers the server up.
pub(crate) fn is_up(flags: &str) -> bool {
    !flags.split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected" | "master_down"))
}

/// Returns the queries to send, all in one pipeline.
///
/// The Sentinel's state may change between two answers. The epoch is queried before the address: an old epoch with a
/// new address is treated as old, but a new epoch with an old address would be trusted.
pub(crate) fn queries(master_name: &str) -> Vec<Cmd> {
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

/// Reads the replies to [`queries`]. What cannot be read counts as unknown.
pub(crate) fn read_report(replies: &[Value]) -> SentinelReport {
    let [id, master, address, replicas, sentinels, info] = replies else { return SentinelReport::default() };
    let mut left_out = LeftOut::default();
    let reported_master = read_master(address, master, &mut left_out);
    let unusable = left_out.0.as_ref().filter(|_| reported_master.is_none());
    let unusable = unusable.map(|cause| format!("it names no usable master: {cause}"));
    SentinelReport {
        id: text(id).and_then(read_id),
        master: reported_master,
        refusal: refusal(address).or(unusable),
        replicas: left_out
            .read_list("replicas", replicas, read_replica, MAX_REPLICAS, |replica| &replica.address),
        sentinels: left_out.read_list(
            "Sentinels",
            sentinels,
            read_sentinel,
            MAX_REPORTED_SENTINELS,
            |other| &other.address,
        ),
        tilt: text_of(info, MAX_INFO)
            .is_some_and(|info| info.lines().any(|line| line.trim_end() == "sentinel_tilt:1")),
        left_out: left_out.0,
    }
}

/// The first part of an answer that was left out, and why.
#[derive(Default)]
struct LeftOut(Option<String>);

impl LeftOut {
    fn note(&mut self, what: impl FnOnce() -> String) {
        self.0.get_or_insert_with(what);
    }

    /// Reads an address, or notes why it is not usable.
    fn address(&mut self, host: &str, port: &str) -> Option<Address> {
        let address = Address::announced(host, port);
        if address.is_none() {
            let (host, port) = (printable(host), printable(port));
            self.note(|| format!("not a server address: host `{host}`, port `{port}`"));
        }
        address
    }

    /// Reads a list, each address once.
    fn read_list<T>(
        &mut self,
        what: &str,
        list: &Value,
        read: fn(&Record<'_>, &mut Self) -> Option<T>,
        max: usize,
        address: fn(&T) -> &Address,
    ) -> Vec<T> {
        let records = match list {
            Value::Array(items) => items.as_slice(),
            Value::ServerError(error) if error.code() == TOO_LARGE => {
                self.note(|| format!("its {what}: {}", printable_error(error)));
                &[]
            }
            _ => &[],
        };
        let read = records.iter().filter_map(|record| read(&Record(record), self));
        let mut listed: Vec<_> = read.collect();
        listed.sort_by(|one, other| address(one).cmp(address(other)));
        listed.dedup_by(|one, other| address(one) == address(other));
        if listed.len() > max {
            self.note(|| format!("all but {max} of {} {what}", listed.len()));
            listed.truncate(max);
        }
        listed
    }
}

/// Reads the master. Either of the two answers is enough, since a user may lack the permission for one of them.
/// Without the record, the epoch counts as the lowest.
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

/// Returns the error that stands in place of the master's address, unless the name is unknown.
fn refusal(address: &Value) -> Option<String> {
    let Value::ServerError(error) = address else { return None };
    let remedy = match error.code() {
        "NOPERM" => "; allow it (ACL SETUSER <user> +sentinel|get-master-addr-by-name)",
        _ => "",
    };
    let is_other_error = !error.details().unwrap_or_default().starts_with("No such master");
    is_other_error.then(|| format!("{}{remedy}", printable_error(error)))
}

fn read_replica(record: &Record<'_>, left_out: &mut LeftOut) -> Option<ReportedReplica> {
    Some(ReportedReplica {
        address: record.address(left_out)?,
        flags: record.field("flags").unwrap_or_default(),
        master_link_up: record.field("master-link-status").as_deref() == Some("ok"),
    })
}

/// A Sentinel whose id is not known yet is left out.
fn read_sentinel(record: &Record<'_>, left_out: &mut LeftOut) -> Option<ReportedSentinel> {
    let id = record.field("runid").and_then(read_id)?;
    Some(ReportedSentinel { address: record.address(left_out)?, id })
}

/// Reads an id, which only tells Sentinels apart.
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
    use proptest::prelude::*;

    use super::*;
    use crate::proto::written::{args, hostile_text, written};

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
    fn both_protocols_give_the_same_report() {
        let report = read_report(&replies(map));
        assert_eq!(report, read_report(&replies(flat)));
        let master = report.master.unwrap();
        assert_eq!((master.epoch, master.quorum), (7, 2));
        assert_eq!(master.address, Address::tcp("10.0.0.1", 6379));
        assert_eq!(report.replicas[0].address, Address::tcp("10.0.0.2", 6380));
        assert!(report.replicas[0].master_link_up);
        let other = ReportedSentinel { address: Address::tcp("10.0.0.9", 26379), id: "def".to_owned() };
        assert_eq!(report.sentinels, [other]);
        assert!(report.tilt);
    }

    #[test]
    fn epoch_queried_before_address() {
        let asked = queries("mymaster").iter().map(Cmd::get_packed_command).collect::<Vec<_>>();
        let place = |word: &[u8]| {
            asked.iter().position(|question| question.windows(word.len()).any(|part| part == word))
        };
        assert!(place(b"\r\nMASTER\r\n") < place(b"GET-MASTER-ADDR-BY-NAME"));
    }

    #[test]
    fn unknown_master_name_gives_no_master() {
        let refused = redis::parse_redis_value(b"-ERR No such master with that name\r\n").unwrap();
        let report =
            read_report(&[bulk("abc"), refused.clone(), Value::Nil, refused.clone(), refused, Value::Nil]);
        assert_eq!(report, SentinelReport { id: Some("abc".to_owned()), ..SentinelReport::default() });
    }

    #[test]
    fn refusal_of_other_servers_is_kept() {
        let refused = redis::parse_redis_value(b"-ERR unknown command 'SENTINEL'\r\n").unwrap();
        let report = read_report(&vec![refused; 6]);
        assert_eq!(report.refusal.as_deref(), Some("ERR unknown command 'SENTINEL'"));
    }

    #[test]
    fn one_of_two_answers_naming_the_master_is_enough() {
        let refused = redis::parse_redis_value(b"-NOPERM this user has no permissions\r\n").unwrap();
        let mut without_record = replies(map);
        without_record[1] = refused.clone();
        let report = read_report(&without_record);
        assert_eq!(
            report.master.map(|master| (master.address, master.epoch)),
            Some((Address::tcp("10.0.0.1", 6379), 0))
        );
        let mut without_address = replies(map);
        without_address[2] = refused.clone();
        let report = read_report(&without_address);
        assert_eq!(
            report.master.map(|master| (master.address, master.epoch)),
            Some((Address::tcp("10.0.0.1", 6379), 7))
        );
        let report = read_report(&vec![refused; 6]);
        assert!(report.refusal.unwrap().contains("+sentinel|get-master-addr-by-name"));
    }

    fn reports_of(addresses: &[(&str, &str)]) -> SentinelReport {
        let shape = |(ip, port): &(&str, &str)| flat(&[("ip", ip), ("port", port), ("runid", "def")]);
        let list = Value::Array(addresses.iter().map(shape).collect());
        let (ip, port) = addresses[0];
        let address = Value::Array(vec![bulk(ip), bulk(port)]);
        read_report(&[bulk("abc"), flat(&[]), address, list.clone(), list, Value::Nil])
    }

    #[test]
    fn invalid_addresses_are_left_out_with_cause() {
        for odd in [
            ("0.0.0.0", "6379"),
            ("::", "6379"),
            ("", "6379"),
            ("10.0.0.1", "0"),
            ("10.0.0.1\n2026 \u{1b}[2J forged", "6379"),
            ("\u{202e}m", "6379"),
        ] {
            let report = reports_of(&[odd]);
            assert_eq!(
                (report.master, report.replicas, report.sentinels),
                (None, Vec::new(), Vec::new()),
                "{odd:?}"
            );
            let left_out = report.left_out.unwrap();
            assert!(is_printable(&left_out), "{left_out}");
            assert_eq!(report.refusal, Some(format!("it names no usable master: {left_out}")));
        }
        assert_eq!(reports_of(&[("10.0.0.1", "6379")]).left_out, None);
    }

    #[test]
    fn lists_truncated_independent_of_order() {
        let ports: Vec<_> = (1..=3000).map(|port: u16| port.to_string()).collect();
        let mut addresses: Vec<_> = ports.iter().map(|port| ("10.0.0.1", port.as_str())).collect();
        addresses.push(addresses[0]);
        let report = reports_of(&addresses);
        addresses.reverse();
        assert_eq!(report.replicas, reports_of(&addresses).replicas);
        assert_eq!((report.replicas.len(), report.sentinels.len()), (MAX_REPLICAS, MAX_REPORTED_SENTINELS));
        assert_eq!(report.left_out.as_deref(), Some("all but 64 of 3000 replicas"));
    }

    #[test]
    fn invalid_replies_are_unknown() {
        assert_eq!(read_report(&[]), SentinelReport::default());
        assert_eq!(read_report(&vec![Value::Int(1); 6]).master, None);
        assert_eq!(read_report(&vec![Value::Array(vec![Value::Nil]); 6]), SentinelReport::default());
    }

    proptest! {
        #[test]
        fn any_master_name_stays_in_its_argument(name in hostile_text()) {
            let about = |what: &str| args(["SENTINEL", what, &name]);
            let expected = [
                args(["SENTINEL", "MYID"]),
                about("MASTER"),
                about("GET-MASTER-ADDR-BY-NAME"),
                about("REPLICAS"),
                about("SENTINELS"),
                args(["INFO", "sentinel"]),
            ];
            prop_assert_eq!(written(&queries(&name)), expected);
        }
    }
}
