//! The events that Sentinels publish about failovers and about the instances that they monitor.

use std::fmt;

use redis::{PushKind, Value};

use crate::address::Address;
use crate::proto::Secrets;

/// The channels to subscribe to; [`parse`] reads their messages.
pub(crate) const CHANNELS: [&str; 30] = [
    // The steps of a failover.
    "+try-failover",
    "+elected-leader",
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "+promoted-slave",
    "+failover-end",
    "+failover-end-for-timeout",
    "-failover-abort-not-elected",
    "-failover-abort-no-good-slave",
    "-failover-abort-slave-timeout",
    // Another master, or another configuration.
    "+switch-master",
    "+config-update-from",
    "+monitor",
    "-monitor",
    "+set",
    // The health of an instance.
    "+sdown",
    "-sdown",
    "+odown",
    "-odown",
    "+reboot",
    // Replicas and Sentinels that come and go.
    "+slave",
    "+slave-reconf-done",
    "+convert-to-slave",
    "+sentinel",
    "-dup-sentinel",
    "+sentinel-address-switch",
    "+sentinel-invalid-addr",
    "+reset-master",
    // The Sentinel itself.
    "+tilt",
    "-tilt",
];

/// An event about the current master, its replicas, or its Sentinels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SentinelEvent {
    /// The leader selected this replica, or sent it the promotion, in place of this master.
    Selected { replica: Address, master: Address },
    /// The failover was aborted.
    Aborted,
    /// The publishing Sentinel names this master from now on.
    Switched(Address),
    /// An instance does not answer the publishing Sentinel any more.
    Down(Subject),
    /// An instance answers again.
    Up(Subject),
    /// The publishing Sentinel discovered a replica or another Sentinel.
    Appeared(Subject),
    /// An instance restarted.
    Restarted(Subject),
    /// The publishing Sentinel entered TILT mode (its clock or its host stood still), or left it.
    Tilt(bool),
    /// Something else changed or is about to; the Sentinels' answers show what.
    News,
}

/// The instance that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Master(Address),
    Replica(Address),
    Sentinel(Address),
}

impl Subject {
    fn address(&self) -> &Address {
        match self {
            Self::Master(address) | Self::Replica(address) | Self::Sentinel(address) => address,
        }
    }
}

impl SentinelEvent {
    /// Returns true if one of its addresses contains a password.
    pub(crate) fn contains_secret(&self, secrets: &Secrets) -> bool {
        match self {
            Self::Selected { replica, master } => secrets.are_in(replica) || secrets.are_in(master),
            Self::Switched(master) => secrets.are_in(master),
            Self::Down(subject) | Self::Up(subject) | Self::Appeared(subject) | Self::Restarted(subject) => {
                secrets.are_in(subject.address())
            }
            Self::Aborted | Self::Tilt(_) | Self::News => false,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master(address) => write!(f, "the master {address}"),
            Self::Replica(address) => write!(f, "the replica {address}"),
            Self::Sentinel(address) => write!(f, "the Sentinel {address}"),
        }
    }
}

impl fmt::Display for SentinelEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selected { replica, master } => {
                write!(f, "{replica} is to become master in place of {master}")
            }
            Self::Aborted => f.write_str("the failover was aborted"),
            Self::Switched(master) => write!(f, "{master} is the master"),
            Self::Down(instance) => write!(f, "{instance} does not answer"),
            Self::Up(instance) => write!(f, "{instance} answers again"),
            Self::Appeared(instance) => write!(f, "{instance} was discovered"),
            Self::Restarted(instance) => write!(f, "{instance} restarted"),
            Self::Tilt(true) => f.write_str("the Sentinel entered TILT mode"),
            Self::Tilt(false) => f.write_str("the Sentinel left TILT mode"),
            Self::News => f.write_str("the state changed"),
        }
    }
}

/// Parses a message of a subscription; `None` for anything but an event of `master_name`.
pub(crate) fn parse_event(message: &Value, master_name: &str) -> Option<SentinelEvent> {
    let (channel, payload) = match message {
        Value::Push { kind: PushKind::Message, data } => (data.first()?, data.get(1)?),
        Value::Array(parts) if parts.first() == Some(&Value::BulkString(b"message".to_vec())) => {
            (parts.get(1)?, parts.get(2)?)
        }
        _ => return None,
    };
    parse(text(channel)?, text(payload)?, master_name)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

pub(crate) fn parse(channel: &str, payload: &str, master_name: &str) -> Option<SentinelEvent> {
    let words: Vec<_> = payload.split(' ').collect();
    match (channel, words.as_slice()) {
        ("+tilt" | "-tilt", _) => return Some(SentinelEvent::Tilt(channel == "+tilt")),
        ("+switch-master", [name, _, _, ip, port]) => {
            return (*name == master_name).then_some(SentinelEvent::Switched(Address::announced(ip, port)?));
        }
        ("+switch-master", _) => return None,
        _ => {}
    }
    let subject = subject(&words, master_name)?;
    Some(match (channel, subject) {
        ("+selected-slave" | "+failover-state-send-slaveof-noone" | "+promoted-slave", subject) => {
            let Subject::Replica(replica) = subject else { return None };
            let [_, _, _, _, "@", _, ip, port, ..] = words[..] else { return None };
            SentinelEvent::Selected { replica, master: Address::announced(ip, port)? }
        }
        ("+sdown" | "+odown", subject) => SentinelEvent::Down(subject),
        ("-sdown" | "-odown", subject) => SentinelEvent::Up(subject),
        ("+slave" | "+sentinel", subject) => SentinelEvent::Appeared(subject),
        ("+reboot", subject) => SentinelEvent::Restarted(subject),
        _ if channel.starts_with("-failover-abort") => SentinelEvent::Aborted,
        _ => SentinelEvent::News,
    })
}

/// `<type> <name> <ip> <port>`, followed by ` @ <master name> <ip> <port>` unless it is a master; more may follow.
fn subject(words: &[&str], master_name: &str) -> Option<Subject> {
    match words {
        ["master", name, ip, port, ..] if *name == master_name => {
            Some(Subject::Master(Address::announced(ip, port)?))
        }
        ["slave", _, ip, port, "@", name, ..] if *name == master_name => {
            Some(Subject::Replica(Address::announced(ip, port)?))
        }
        ["sentinel", _, ip, port, "@", name, ..] if *name == master_name => {
            Some(Subject::Sentinel(Address::announced(ip, port)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(channel: &str, payload: &str) -> Value {
        let data = [channel, payload].map(|text| Value::BulkString(text.as_bytes().to_vec()));
        Value::Push { kind: PushKind::Message, data: data.to_vec() }
    }

    fn parsed(channel: &str, payload: &str) -> Option<SentinelEvent> {
        parse_event(&push(channel, payload), "mymaster")
    }

    #[test]
    fn selected_replica_and_master_are_parsed() {
        let replica = "slave 127.0.0.1:7002 127.0.0.1 7002 @ mymaster 127.0.0.1 7000";
        for channel in ["+selected-slave", "+failover-state-send-slaveof-noone", "+promoted-slave"] {
            let [selected, master] = [7002, 7000].map(|port| Address::tcp("127.0.0.1", port));
            assert_eq!(parsed(channel, replica), Some(SentinelEvent::Selected { replica: selected, master }));
        }
    }

    #[test]
    fn events_of_other_masters_are_ignored() {
        assert_eq!(parsed("+switch-master", "other 127.0.0.1 1 127.0.0.1 2"), None);
        assert_eq!(parsed("+selected-slave", "slave x 127.0.0.1 2 @ other 127.0.0.1 1"), None);
        assert_eq!(parsed("+odown", "master other 127.0.0.1 1 #quorum 2/2"), None);
    }

    #[test]
    fn every_event_has_its_subject() {
        let at = |port| Address::tcp("127.0.0.1", port);
        let master = "master mymaster 127.0.0.1 7000";
        let replica = "slave 127.0.0.1:7002 127.0.0.1 7002 @ mymaster 127.0.0.1 7000";
        let sentinel = "sentinel 5f2a 127.0.0.1 7009 @ mymaster 127.0.0.1 7000";
        let events = [
            ("+switch-master", "mymaster 127.0.0.1 1 127.0.0.1 2", SentinelEvent::Switched(at(2))),
            (
                "+odown",
                "master mymaster 127.0.0.1 7000 #quorum 2/2",
                SentinelEvent::Down(Subject::Master(at(7000))),
            ),
            ("-odown", master, SentinelEvent::Up(Subject::Master(at(7000)))),
            ("+sdown", sentinel, SentinelEvent::Down(Subject::Sentinel(at(7009)))),
            ("-sdown", replica, SentinelEvent::Up(Subject::Replica(at(7002)))),
            ("+slave", replica, SentinelEvent::Appeared(Subject::Replica(at(7002)))),
            ("+sentinel", sentinel, SentinelEvent::Appeared(Subject::Sentinel(at(7009)))),
            ("+reboot", master, SentinelEvent::Restarted(Subject::Master(at(7000)))),
            ("+tilt", "#tilt mode entered", SentinelEvent::Tilt(true)),
            ("-tilt", "#tilt mode exited", SentinelEvent::Tilt(false)),
            ("-failover-abort-slave-timeout", master, SentinelEvent::Aborted),
            ("+config-update-from", sentinel, SentinelEvent::News),
        ];
        for (channel, payload, event) in events {
            assert!(CHANNELS.contains(&channel), "{channel}");
            assert_eq!(parsed(channel, payload), Some(event), "{channel} {payload}");
        }
    }

    #[test]
    fn resp2_messages_are_parsed_and_invalid_ones_ignored() {
        let words = ["message", "+switch-master", "mymaster 127.0.0.1 1 127.0.0.1 2"];
        let array = Value::Array(words.map(|word| Value::BulkString(word.into())).to_vec());
        assert_eq!(
            parse_event(&array, "mymaster"),
            Some(SentinelEvent::Switched(Address::tcp("127.0.0.1", 2)))
        );
        let payloads = [
            "",
            "slave",
            "slave a b c",
            "slave x 127.0.0.1 notaport @ mymaster 1 2",
            "slave x  0 @ mymaster",
        ];
        for payload in payloads.into_iter().chain(["master mymaster 127.0.0.1 7000"]) {
            assert_eq!(parsed("+selected-slave", payload), None, "{payload}");
        }
        assert_eq!(parsed("+switch-master", "mymaster 127.0.0.1"), None);
    }
}
