//! Reads the reply to CLUSTER NODES: a line of text for each node.
//!
//! ```text
//! <id> <ip:port@cport[,host name]> <flags> <master> <ping sent> <pong received> <epoch> <link> <slot> …
//! ```

use std::collections::BTreeMap;

use redis::Value;

use crate::peer_text::printable;
use crate::topology::cluster::view::{
    Host, MAX_NODES, NodeHealth, NodeRole, ViewedNode, bytes_of, unexpected,
};
use crate::topology::cluster::{NodeId, SlotRange};

/// The maximum length of a line. A node with every other slot, the worst case, takes 50 KB.
const MAX_LINE: usize = 64 << 10;

/// A node as CLUSTER NODES lists it.
#[derive(Debug)]
pub(super) struct ListedNode {
    pub(super) is_myself: bool,
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) host_name: Option<String>,
    /// What needs no joining; without the address.
    pub(super) viewed: ViewedNode,
}

pub(super) fn read_nodes(reply: &Value) -> Result<BTreeMap<NodeId, ListedNode>, String> {
    let text = bytes_of(reply).ok_or_else(|| unexpected("CLUSTER NODES", reply))?;
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    let (mut nodes, mut myself) = (BTreeMap::new(), None);
    for (index, line) in lines.enumerate() {
        if index == MAX_NODES {
            return Err(format!("CLUSTER NODES lists more than {MAX_NODES} nodes"));
        }
        let invalid = |what: &str| format!("line {} of CLUSTER NODES {what}", index + 1);
        if line.len() > MAX_LINE {
            return Err(invalid(&format!("has {} bytes", line.len())));
        }
        let line = std::str::from_utf8(line).map_err(|_| invalid("is not UTF-8"))?;
        let Some((id, node)) = read_line(line).map_err(|what| invalid(&what))? else { continue };
        if node.is_myself && myself.replace(id).is_some() {
            return Err(invalid("is the second that is marked `myself`"));
        }
        if nodes.insert(id, node).is_some() {
            return Err(invalid("repeats a node"));
        }
    }
    match nodes.is_empty() {
        true => Err("CLUSTER NODES lists no node".to_owned()),
        false => Ok(nodes),
    }
}

/// Reads a line. `None` for a node in a handshake.
fn read_line(line: &str) -> Result<Option<(NodeId, ListedNode)>, String> {
    let mut fields = line.split(' ');
    let mut field = |name: &str| fields.next().ok_or_else(|| format!("has no {name}"));
    let (id, address, flags) = (field("ID")?, field("address")?, field("flags")?);
    let (master, _ping, _pong) = (field("master")?, field("ping time")?, field("pong time")?);
    let (epoch, link) = (field("epoch")?, field("link state")?);
    let flag = |name: &str| flags.split(',').any(|flag| flag == name);
    if flag("handshake") {
        return Ok(None);
    }
    let id = NodeId::parse(id.as_bytes()).ok_or_else(|| format!("has no node ID: `{}`", printable(id)))?;
    let (host, port, host_name) = read_address(address, flag("noaddr"))?;
    let epoch = epoch.parse().map_err(|_| format!("has an invalid epoch: `{}`", printable(epoch)))?;
    let role = match () {
        () if flag("master") => NodeRole::Master,
        () if flag("slave") || flag("replica") => NodeRole::Replica(NodeId::parse(master.as_bytes())),
        () => NodeRole::Unknown,
    };
    let health = match () {
        () if flag("fail") => NodeHealth::Failed,
        () if flag("fail?") => NodeHealth::Suspected,
        () => NodeHealth::Well,
    };
    let (mut slots, mut migrating) = (Vec::new(), Vec::new());
    for text in fields.filter(|text| !text.is_empty()) {
        match text.strip_prefix('[') {
            Some(open) => migrating.push(read_open_slot(open).ok_or_else(|| invalid_slots(text))?),
            None => slots.push(read_range(text).ok_or_else(|| invalid_slots(text))?),
        }
    }
    if role != NodeRole::Master {
        slots.clear();
    }
    let (link_up, is_barred) = (link == "connected", flag("nofailover"));
    let viewed =
        ViewedNode { address: None, role, health, is_barred, epoch: Some(epoch), link_up, slots, migrating };
    Ok(Some((id, ListedNode { is_myself: flag("myself"), host, port, host_name, viewed })))
}

/// Reads `ip:port@cport,host name,field=value…`. Servers before Redis 4 write no `@cport`, those before Redis 7 no host
/// name.
fn read_address(text: &str, is_without_address: bool) -> Result<(Host, u16, Option<String>), String> {
    let invalid = || format!("has an invalid address: `{}`", printable(text));
    let (endpoint, names) = text.split_once(',').unwrap_or((text, ""));
    let endpoint = endpoint.split_once('@').map_or(endpoint, |(endpoint, _)| endpoint);
    let (ip, port) = endpoint.rsplit_once(':').ok_or_else(invalid)?;
    let port: u16 = port.parse().map_err(|_| invalid())?;
    let host = match ip {
        _ if is_without_address || port == 0 => Host::Unknown,
        "" => Host::Asked,
        ip => Host::Named(ip.trim_start_matches('[').trim_end_matches(']').to_owned()),
    };
    let host_name = names.split(',').next().filter(|name| !name.is_empty() && !name.contains('='));
    Ok((host, port, host_name.map(str::to_owned)))
}

fn invalid_slots(text: &str) -> String {
    format!("has invalid slots: `{}`", printable(text))
}

/// Reads `5` or `0-5460`.
fn read_range(text: &str) -> Option<SlotRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    SlotRange::new(first.parse().ok()?, last.parse().ok()?)
}

/// Reads the slot of `[93->-id]` or `[93-<-id]`, of which the bracket has been read.
fn read_open_slot(text: &str) -> Option<u16> {
    let (slot, node) = text.strip_suffix(']')?.split_once('-')?;
    let node = node.strip_prefix(">-").or_else(|| node.strip_prefix("<-"))?;
    NodeId::parse(node.as_bytes())?;
    let slot = slot.parse().ok()?;
    SlotRange::new(slot, slot).map(|range| range.first)
}
