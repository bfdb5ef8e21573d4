//! What Sentinels publish: about a failover, and about the instances that they watch.

use std::fmt;

use redis::{PushKind, Value};

use crate::address::Address;
use crate::proto::Secrets;

/// The channels that a client needs to hear: what each tells is in [`read`].
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
    // Another master, another configuration.
    "+switch-master",
    "+config-update-from",
    "+monitor",
    "-monitor",
    "+set",
    // An instance is well or not.
    "+sdown",
    "-sdown",
    "+odown",
    "-odown",
    "+reboot",
    // Replicas and Sentinels come and go.
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

/// An event about the master that we follow, its replicas, or its Sentinels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SentinelEvent {
    /// The leader has chosen this replica, or has told it to become master, in place of this master.
    Selected { replica: Address, master: Address },
    /// The failover under way was given up.
    Aborted,
    /// The publishing Sentinel names this master from now on.
    Switched(Address),
    /// An instance does not answer the publishing Sentinel any more.
    Down(Subject),
    /// It answers again.
    Up(Subject),
    /// The publishing Sentinel has learned of a replica or another Sentinel.
    Appeared(Subject),
    /// An instance was started anew.
    Restarted(Subject),
    /// The publishing Sentinel does nothing but watch, since its clock or its host stood still; or it acts again.
    Tilt(bool),
    /// Something else has changed, or is about to: the Sentinels know more.
    News,
}

/// What an event is about.
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
    /// Whether one of its addresses repeats a password.
    pub(crate) fn repeats(&self, secrets: &Secrets) -> bool {
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
            Self::Aborted => f.write_str("the failover was given up"),
            Self::Switched(master) => write!(f, "{master} is the master"),
            Self::Down(instance) => write!(f, "{instance} does not answer"),
            Self::Up(instance) => write!(f, "{instance} answers again"),
            Self::Appeared(instance) => write!(f, "there is {instance}"),
            Self::Restarted(instance) => write!(f, "{instance} was started anew"),
            Self::Tilt(true) => f.write_str("it is in TILT mode"),
            Self::Tilt(false) => f.write_str("it has left TILT mode"),
            Self::News => f.write_str("something has changed"),
        }
    }
}

/// Reads a message that a subscription delivered; `None` for anything that is no event of `master_name`.
pub(crate) fn event_of(message: &Value, master_name: &str) -> Option<SentinelEvent> {
    let (channel, payload) = match message {
        Value::Push { kind: PushKind::Message, data } => (data.first()?, data.get(1)?),
        Value::Array(parts) if parts.first() == Some(&Value::BulkString(b"message".to_vec())) => {
            (parts.get(1)?, parts.get(2)?)
        }
        _ => return None,
    };
    read(text(channel)?, text(payload)?, master_name)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

pub(crate) fn read(channel: &str, payload: &str, master_name: &str) -> Option<SentinelEvent> {
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

/// `<type> <name> <ip> <port>`, and for all but masters ` @ <master name> <ip> <port>`; more may follow.
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

    fn heard(channel: &str, payload: &str) -> Option<SentinelEvent> {
        event_of(&push(channel, payload), "mymaster")
    }

    #[test]
    fn a_selected_replica_is_named() {
        let replica = "slave 127.0.0.1:7002 127.0.0.1 7002 @ mymaster 127.0.0.1 7000";
        for channel in ["+selected-slave", "+failover-state-send-slaveof-noone", "+promoted-slave"] {
            let [selected, master] = [7002, 7000].map(|port| Address::tcp("127.0.0.1", port));
            assert_eq!(heard(channel, replica), Some(SentinelEvent::Selected { replica: selected, master }));
        }
    }

    #[test]
    fn other_masters_are_not_ours() {
        assert_eq!(heard("+switch-master", "other 127.0.0.1 1 127.0.0.1 2"), None);
        assert_eq!(heard("+selected-slave", "slave x 127.0.0.1 2 @ other 127.0.0.1 1"), None);
        assert_eq!(heard("+odown", "master other 127.0.0.1 1 #quorum 2/2"), None);
    }

    #[test]
    fn every_event_names_what_it_is_about() {
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
            assert_eq!(heard(channel, payload), Some(event), "{channel} {payload}");
        }
    }

    #[test]
    fn resp2_messages_are_read_and_nonsense_is_not() {
        let words = ["message", "+switch-master", "mymaster 127.0.0.1 1 127.0.0.1 2"];
        let array = Value::Array(words.map(|word| Value::BulkString(word.into())).to_vec());
        assert_eq!(event_of(&array, "mymaster"), Some(SentinelEvent::Switched(Address::tcp("127.0.0.1", 2))));
        let payloads = [
            "",
            "slave",
            "slave a b c",
            "slave x 127.0.0.1 notaport @ mymaster 1 2",
            "slave x  0 @ mymaster",
        ];
        for payload in payloads.into_iter().chain(["master mymaster 127.0.0.1 7000"]) {
            assert_eq!(heard("+selected-slave", payload), None, "{payload}");
        }
        assert_eq!(heard("+switch-master", "mymaster 127.0.0.1"), None);
    }
}
