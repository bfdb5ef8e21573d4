//! Turns nodes that do not know each other into a cluster, by the commands that operators use.
//!
//! To write the `nodes.conf` of each node in advance would not be faster: a master serves nothing in its first two
//! seconds, and the nodes need half of that to meet. The format of the file is the server's own and changes with its
//! versions. Besides, nodes that know each other before all of them run may take a slow one for dead.

use std::ops::Range;
use std::time::Duration;

use super::builder::HOST;
use super::view::{SLOTS, View};
use super::{BOUND, Cluster, check};
use crate::error::{Error, wait_for};
use crate::server::Server;

/// The node timeout while the cluster forms. Nodes exchange news within half of it, and give a handshake up after it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Makes the nodes a cluster, in which every node knows all others, their roles and their slots.
pub(super) fn form(cluster: &Cluster) -> Result<(), Error> {
    let nodes = &cluster.nodes;
    let (masters, replicas) = nodes.split_at(cluster.settings.masters);
    let paces = nodes.iter().map(Pace::set).collect::<Result<Vec<_>, _>>()?;
    // The first messages between two nodes already contain what they have before they meet.
    for (number, master) in masters.iter().enumerate() {
        add_slots(master, share(number, masters.len()))?;
        // Masters with the same epoch would have to agree on others first.
        master.query(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()])?;
    }
    let pairs = || replicas.iter().zip(masters.iter().cycle());
    pairs().try_for_each(|(replica, master)| meet(replica, master))?;
    for (replica, master) in pairs() {
        wait_for(BOUND, || {
            replicate(replica, master).or_else(|error| meet(replica, master).and(Err(error)))
        })?;
    }
    wait_for(BOUND, || {
        nodes.iter().try_for_each(|node| meet_unknown(node, nodes))?;
        check::agreement(nodes)
    })?;
    nodes.iter().zip(&paces).try_for_each(|(node, pace)| pace.restore(node))
}

/// Settings that make nodes meet fast, whatever their node timeout is, and without a failover.
struct Pace {
    /// The settings to restore, with their values.
    before: Vec<(&'static str, String)>,
}

impl Pace {
    const SETTINGS: [&str; 2] = ["cluster-node-timeout", "cluster-replica-no-failover"];

    fn set(node: &Server) -> Result<Self, Error> {
        let mut before = Vec::new();
        for setting in Self::SETTINGS {
            let reply = node.query(&["CONFIG", "GET", setting])?;
            before.extend(reply.field(setting).map(|value| (setting, value.to_owned())));
        }
        let values = [TIMEOUT.as_millis().to_string(), "yes".to_owned()];
        Self { before: Self::SETTINGS.into_iter().zip(values).collect() }.restore(node)?;
        Ok(Self { before })
    }

    fn restore(&self, node: &Server) -> Result<(), Error> {
        let set =
            |(setting, value): &(&str, String)| node.query(&["CONFIG", "SET", setting, value]).map(drop);
        self.before.iter().try_for_each(set)
    }
}

/// Returns the slots of one of several masters, which are those that redis-cli gives it.
fn share(number: usize, masters: usize) -> Range<usize> {
    let start = |number| (2 * number * usize::from(SLOTS) + masters) / (2 * masters);
    start(number)..start(number + 1)
}

fn add_slots(master: &Server, slots: Range<usize>) -> Result<(), Error> {
    let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
    let command: Vec<&str> =
        ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
    master.query(&command).map(drop)
}

/// Makes a node meet those of `others` that it does not know. Repeating this does no harm during a handshake, and
/// starts another one after a handshake that took too long.
pub(super) fn meet_unknown<'a>(
    node: &Server,
    others: impl IntoIterator<Item = &'a Server>,
) -> Result<(), Error> {
    let view = View::of(node)?;
    let mut unknown = others.into_iter().filter(|other| view.on_port(other.port()).is_none());
    unknown.try_for_each(|other| meet(node, other))
}

fn meet(node: &Server, other: &Server) -> Result<(), Error> {
    // The other's port of the bus is where the node expects it.
    node.query(&["CLUSTER", "MEET", &HOST.to_string(), &other.port().to_string()]).map(drop)
}

/// Makes a node a replica of a master that it may not know yet.
pub(super) fn replicate(replica: &Server, master: &Server) -> Result<(), Error> {
    let id = master.query(&["CLUSTER", "MYID"])?;
    replica.query(&["CLUSTER", "REPLICATE", id.text().unwrap_or_default()]).map(drop)
}
