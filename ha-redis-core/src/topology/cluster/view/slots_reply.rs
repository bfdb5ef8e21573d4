//! Reads the reply to CLUSTER SLOTS: ranges of slots, each with the endpoints of its master and its replicas.

use redis::Value;

use crate::peer_text::describe;
use crate::topology::cluster::slot_map::SLOTS;
use crate::topology::cluster::view::{Host, MAX_NODES, bytes_of, unexpected};
use crate::topology::cluster::{NodeId, SlotRange};

/// A range of slots and who serves it, the master first.
#[derive(Debug)]
pub(super) struct ServedRange {
    pub(super) slots: SlotRange,
    pub(super) nodes: Vec<ServingNode>,
}

#[derive(Debug)]
pub(super) struct ServingNode {
    pub(super) id: NodeId,
    pub(super) host: Host,
    pub(super) port: u16,
}

pub(super) fn read_slots(reply: &Value) -> Result<Vec<ServedRange>, String> {
    let Value::Array(ranges) = reply else { return Err(unexpected("CLUSTER SLOTS", reply)) };
    if ranges.len() > SLOTS {
        return Err(format!("CLUSTER SLOTS lists {} ranges", ranges.len()));
    }
    ranges.iter().map(read_range).collect()
}

fn read_range(range: &Value) -> Result<ServedRange, String> {
    let invalid = || format!("CLUSTER SLOTS lists an invalid range: {}", describe(range));
    let Value::Array(parts) = range else { return Err(invalid()) };
    let [first, last, nodes @ ..] = parts.as_slice() else { return Err(invalid()) };
    let slots = SlotRange::new(number(first).ok_or_else(invalid)?, number(last).ok_or_else(invalid)?);
    if nodes.is_empty() || nodes.len() > MAX_NODES {
        return Err(invalid());
    }
    let nodes = nodes.iter().map(read_node).collect::<Result<_, _>>()?;
    Ok(ServedRange { slots: slots.ok_or_else(invalid)?, nodes })
}

/// Reads `[host, port, id, …]`. What follows are other endpoints of the node.
fn read_node(node: &Value) -> Result<ServingNode, String> {
    let invalid = || format!("CLUSTER SLOTS lists an invalid node: {}", describe(node));
    let Value::Array(parts) = node else { return Err(invalid()) };
    let [host, port, id, ..] = parts.as_slice() else { return Err(invalid()) };
    let host = match host {
        Value::Nil => Host::Asked,
        host => match std::str::from_utf8(bytes_of(host).ok_or_else(invalid)?).map_err(|_| invalid())? {
            "" => Host::Asked,
            "?" => Host::Unknown,
            name => Host::Named(name.to_owned()),
        },
    };
    let id = bytes_of(id).and_then(NodeId::parse).ok_or_else(invalid)?;
    Ok(ServingNode { id, host, port: number(port).ok_or_else(invalid)? })
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        text => std::str::from_utf8(bytes_of(text)?).ok()?.parse().ok(),
    }
}
