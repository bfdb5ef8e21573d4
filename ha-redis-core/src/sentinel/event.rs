//! What Sentinels publish while a failover goes on.

use redis::{PushKind, Value};

use crate::address::Address;

/// The channels that a client needs to hear.
pub(crate) const CHANNELS: [&str; 11] = [
    "+odown",
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "+promoted-slave",
    "+switch-master",
    "+config-update-from",
    "+failover-end",
    "+reboot",
    "-failover-abort-not-elected",
    "-failover-abort-no-good-slave",
    "-failover-abort-slave-timeout",
];

/// An event about the master that we follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The leader has chosen this replica, or has told it to become master.
    Selected(Address),
    /// The failover under way was given up.
    Aborted,
    /// The configuration has changed, or is about to: the Sentinels know more.
    News,
}

/// Reads a message that a subscription delivered; `None` for anything that is no event of `master_name`.
pub(crate) fn event_of(message: &Value, master_name: &str) -> Option<Event> {
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

fn read(channel: &str, payload: &str, master_name: &str) -> Option<Event> {
    let words: Vec<_> = payload.split(' ').collect();
    if channel == "+switch-master" {
        return (words.first() == Some(&master_name)).then_some(Event::News);
    }
    // `<type> <name> <ip> <port>`, and for all but masters ` @ <master name> <ip> <port>`.
    let [kind, name, ip, port, rest @ ..] = words.as_slice() else { return None };
    let about = if *kind == "master" { name } else { rest.get(1)? };
    if *about != master_name {
        return None;
    }
    match channel {
        "+selected-slave" | "+failover-state-send-slaveof-noone" | "+promoted-slave" => {
            Some(Event::Selected(Address::tcp(*ip, port.parse().ok()?)))
        }
        _ if channel.starts_with("-failover-abort") => Some(Event::Aborted),
        _ => Some(Event::News),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(channel: &str, payload: &str) -> Value {
        let data = [channel, payload].map(|text| Value::BulkString(text.as_bytes().to_vec()));
        Value::Push { kind: PushKind::Message, data: data.to_vec() }
    }

    fn heard(channel: &str, payload: &str) -> Option<Event> {
        event_of(&push(channel, payload), "mymaster")
    }

    #[test]
    fn a_selected_replica_is_named() {
        let replica = "slave 127.0.0.1:7002 127.0.0.1 7002 @ mymaster 127.0.0.1 7000";
        for channel in ["+selected-slave", "+failover-state-send-slaveof-noone", "+promoted-slave"] {
            assert_eq!(heard(channel, replica), Some(Event::Selected(Address::tcp("127.0.0.1", 7002))));
        }
    }

    #[test]
    fn other_masters_are_not_ours() {
        assert_eq!(heard("+switch-master", "other 127.0.0.1 1 127.0.0.1 2"), None);
        assert_eq!(heard("+selected-slave", "slave x 127.0.0.1 2 @ other 127.0.0.1 1"), None);
        assert_eq!(heard("+odown", "master other 127.0.0.1 1 #quorum 2/2"), None);
    }

    #[test]
    fn the_rest_is_news_or_an_abort() {
        let master = "master mymaster 127.0.0.1 7000";
        assert_eq!(heard("+odown", &format!("{master} #quorum 2/2")), Some(Event::News));
        assert_eq!(heard("-failover-abort-slave-timeout", master), Some(Event::Aborted));
        assert_eq!(heard("+switch-master", "mymaster 127.0.0.1 1 127.0.0.1 2"), Some(Event::News));
    }

    #[test]
    fn resp2_messages_are_read_and_nonsense_is_not() {
        let words = ["message", "+switch-master", "mymaster 127.0.0.1 1 127.0.0.1 2"];
        let array = Value::Array(words.map(|word| Value::BulkString(word.into())).to_vec());
        assert_eq!(event_of(&array, "mymaster"), Some(Event::News));
        for payload in ["", "slave", "slave a b c", "slave x 127.0.0.1 notaport @ mymaster 1 2"] {
            assert_eq!(heard("+selected-slave", payload), None);
        }
    }
}
