//! What one node knows of a cluster: the reply to `CLUSTER NODES`.

use std::ops::RangeInclusive;

use crate::error::Error;
use crate::ports::BUS_OFFSET;
use crate::server::Server;

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// All nodes that a node knows, itself included.
#[derive(Debug)]
pub(super) struct View {
    /// Sorted by port.
    members: Vec<Member>,
}

/// What a node knows of another node, or of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: String,
    /// The port for clients.
    pub(super) port: u16,
    flags: Vec<String>,
    /// The id of its master, if it is a replica.
    pub(super) master: Option<String>,
    pub(super) config_epoch: u64,
    connected: bool,
    pub(super) slots: Vec<RangeInclusive<u16>>,
}

impl View {
    /// Asks a node for its view.
    pub(super) fn of(node: &Server) -> Result<Self, Error> {
        let reply = node.query(&["CLUSTER", "NODES"])?;
        let view = reply.text().and_then(Self::parse);
        view.ok_or_else(|| Error::NotReady(format!("node {} reports {reply:?}", node.port())))
    }

    fn parse(lines: &str) -> Option<Self> {
        let mut members = lines.lines().map(Member::parse).collect::<Option<Vec<_>>>()?;
        members.sort_by_key(|member| member.port);
        members.iter().any(Member::is_myself).then_some(Self { members })
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns the node that reported this view.
    pub(super) fn myself(&self) -> &Member {
        self.members.iter().find(|member| member.is_myself()).expect("checked by `parse`")
    }

    /// Returns the node on this port, unless it is still in the handshake, where it has no id of its own.
    pub(super) fn on_port(&self, port: u16) -> Option<&Member> {
        self.members.iter().find(|member| member.port == port && !member.has("handshake"))
    }

    /// Returns the port of the master of the node that reported this view, if it is a replica.
    pub(super) fn my_master(&self) -> Option<u16> {
        let master = self.myself().master.as_ref()?;
        self.members.iter().find(|member| member.id == *master).map(|member| member.port)
    }

    /// Returns true if both views have the same nodes, with the same masters and slots.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        let equal = |(one, other): (&Member, &Member)| {
            (&one.id, &one.master, &one.slots) == (&other.id, &other.master, &other.slots)
        };
        self.members.len() == other.members.len() && self.members.iter().zip(&other.members).all(equal)
    }

    /// Returns how many slots have an owner.
    pub(super) fn covered(&self) -> usize {
        self.members.iter().flat_map(|member| &member.slots).map(|slots| slots.clone().count()).sum()
    }
}

impl Member {
    /// Parses `id host:port@bus[,name] flags master ping-sent pong-received epoch link slots…`.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let mut next = || fields.next();
        let id = next()?.to_owned();
        let bus = next()?.split(',').next()?.rsplit_once('@')?.1.parse::<u16>().ok()?;
        let flags = next()?.split(',').map(str::to_owned).collect();
        let master = next().filter(|master| *master != "-").map(str::to_owned);
        let (_ping_sent, _pong_received) = (next()?, next()?);
        let config_epoch = next()?.parse().ok()?;
        let connected = next()? == "connected";
        // Slots in brackets are being migrated. Their owner lists them among the others as well.
        let slots = fields.filter(|slots| !slots.starts_with('[')).map(parse_slots).collect::<Option<_>>()?;
        // A node with TLS reports port 0 over its Unix socket, but always the same port of the bus.
        let port = bus.saturating_sub(BUS_OFFSET);
        Some(Self { id, port, flags, master, config_epoch, connected, slots })
    }

    pub(super) fn is_myself(&self) -> bool {
        self.has("myself")
    }

    pub(super) fn is_master(&self) -> bool {
        self.has("master")
    }

    /// Returns true if the node that reports this has a connection to it and believes that it is well.
    pub(super) fn is_healthy(&self) -> bool {
        self.connected && !["handshake", "noaddr", "fail", "fail?"].iter().any(|flag| self.has(flag))
    }

    pub(super) fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|slots| slots.contains(&slot))
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|other| other == flag)
    }
}

/// Parses `7` or `0-5460`.
fn parse_slots(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn view_parsed() {
        let lines = "a1 127.0.0.1:15001@25001,name myself,master - 0 0 3 connected 0-99 200 [200->-b2]\n\
                     b2 127.0.0.1:0@25002 slave,fail? a1 7 9 3 disconnected\n\
                     c3 127.0.0.1:15003@25003 handshake - 1 0 0 disconnected\n";
        let view = View::parse(lines).unwrap();
        let [a, b, c] = view.members() else { panic!("three members") };
        assert_eq!(view.myself(), a);
        assert_eq!((a.port, a.config_epoch, a.is_master(), a.is_healthy()), (15_001, 3, true, true));
        assert_eq!((a.owns(99), a.owns(100), a.owns(200)), (true, false, true));
        assert_eq!(
            (b.port, b.master.as_deref(), b.is_master(), b.is_healthy()),
            (15_002, Some("a1"), false, false)
        );
        assert!(!c.is_healthy());
        assert_eq!((view.on_port(15_002), view.on_port(15_003)), (Some(b), None));
        assert_eq!((view.my_master(), view.covered()), (None, 101));
    }

    #[test]
    fn views_agree_on_owners_and_masters() {
        let view = |lines: &str| View::parse(lines).unwrap();
        let a =
            view("a1 h:1@25001 myself,master - 0 0 1 connected 0-9\nb2 h:2@25002 slave a1 0 5 1 connected\n");
        let b =
            view("b2 h:2@25002 myself,slave a1 0 0 1 connected\na1 h:1@25001 master - 0 7 1 connected 0-9\n");
        assert!(a.agrees_with(&b));
        for other in [
            "b2 h:2@25002 myself,slave a1 0 0 1 connected\na1 h:1@25001 master - 0 7 1 connected 0-8\n",
            "b2 h:2@25002 myself,master - 0 0 2 connected\na1 h:1@25001 master - 0 7 1 connected 0-9\n",
            "b2 h:2@25002 myself,slave a1 0 0 1 connected\n",
        ] {
            assert!(!a.agrees_with(&view(other)), "{other}");
        }
    }

    #[test]
    fn truncated_view_not_parsed() {
        for lines in ["", "a1", "a1 127.0.0.1:15001@25001 master - 0 0 3 connected 0-99"] {
            assert!(View::parse(lines).is_none(), "{lines}");
        }
    }
}
