//! Determines which nodes of a cluster a command is for, and how their replies become one.
//!
//! Policies come from the command tips `request_policy` and `response_policy` of `COMMAND INFO`. The table of
//! [`spec`](super::spec) has them, with what *special* means for each, and with these additions:
//!
//! - `JSON.MGET` is split like `MGET`: the tips of modules are missing.
//! - `HIMPORT PREPARE` and its siblings reply the same on all shards, so the first error counts.
//! - `PUBSUB` asks all nodes, since each knows only its own subscribers.
//! - `SLOWLOG GET` and `COMMANDLOG GET` keep the replies of the nodes apart: an entry does not name its node.
//! - Commands about one server or one connection are special: `CLIENT LIST`, `CLUSTER SETSLOT`, `BGSAVE`. Some have a
//!   slot as an argument: `CLUSTER COUNTKEYSINSLOT`.
//!
//! Splitting gives up that `MSET` and `MSETEX` run as a whole, as the tips intend. `MSETEX … NX` is not split, since the
//! condition is about all keys, nor is `MSETNX`.

use redis::Cmd;

use super::keys::{CommandKeys, keys};
use super::spec::spec;
use super::{arguments, is_read, upper};

/// Which nodes of a cluster run a command, and how their replies become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoutingPolicy {
    /// Which nodes run the command.
    pub request: RequestPolicy,
    /// How their replies become one.
    pub response: ResponsePolicy,
}

/// Which nodes of a cluster run a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestPolicy {
    /// The shard that owns the slot of its keys.
    Slot,
    /// The shard that owns the slot given as the command's first argument: `CLUSTER COUNTKEYSINSLOT`.
    SlotArgument,
    /// Any node: the command has no keys, is about no server in particular, and changes nothing.
    AnyNode,
    /// Any master: the command has no keys, is about no server in particular, and may change something.
    AnyMaster,
    /// All nodes, replicas included.
    AllNodes,
    /// The master of each shard.
    AllShards,
    /// The shards that own the slots of its keys: each gets the command with its own keys.
    MultiShard,
    /// A node that does not follow from the command: that of the step before it, as for `SCAN`, or one that the caller
    /// chooses, as for `CLIENT KILL`, `CLUSTER SETSLOT` and other commands about one server or one connection.
    Special,
}

/// How the replies of several nodes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponsePolicy {
    /// There is one reply.
    Single,
    /// The first reply, or the first error if there is one.
    AllSucceeded,
    /// The first reply that is no error.
    OneSucceeded,
    /// 1 if every reply is non-zero, else 0; for arrays, element by element.
    LogicalAnd,
    /// 1 if some reply is non-zero, else 0; for arrays, element by element.
    LogicalOr,
    /// The smallest number; for arrays, element by element.
    Min,
    /// The largest number; for arrays, element by element.
    Max,
    /// The sum; for arrays, element by element. Elements that are no numbers must be equal, such as the channels of
    /// `PUBSUB NUMSUB`.
    Sum,
    /// The elements of all replies, each where its key is among the keys of the command: `MGET`. Only
    /// [`Split::join`](crate::routing::Split::join) can do that.
    KeyOrder,
    /// The elements of all replies, in any order: `KEYS`. An element that several nodes have comes several times, as
    /// for `PUBSUB CHANNELS`. The order and the limit of `CLUSTER SLOT-STATS ORDERBY` hold for the reply of each shard,
    /// not for the whole.
    Concatenated,
    /// A map from the address of each node to its reply: `INFO`.
    PerNode,
    /// The first reply that is not nil: `RANDOMKEY`. The caller asks the nodes in random order.
    AnyKey,
}

/// Returns which nodes of a cluster run `cmd`, or `None` if the command is unknown.
///
/// ```
/// use ha_redis_core::command::{RequestPolicy, ResponsePolicy, policy};
/// use ha_redis_core::redis::cmd;
///
/// let of_dbsize = policy(&cmd("DBSIZE")).unwrap();
/// assert_eq!(of_dbsize.request, RequestPolicy::AllShards);
/// assert_eq!(of_dbsize.response, ResponsePolicy::Sum);
/// assert_eq!(policy(cmd("GET").arg("key")).unwrap().request, RequestPolicy::Slot);
/// assert_eq!(policy(&cmd("TIME")).unwrap().request, RequestPolicy::AnyNode);
/// ```
pub fn policy(cmd: &Cmd) -> Option<RoutingPolicy> {
    let tips = spec(cmd)?.policy;
    let has_slot = !matches!(keys(cmd), CommandKeys::Keyless);
    Some(match tips {
        Some((RequestPolicy::MultiShard, response)) if has_slot && !is_conditional(cmd) => {
            RoutingPolicy { request: RequestPolicy::MultiShard, response }
        }
        Some((request, response)) if request != RequestPolicy::MultiShard => {
            RoutingPolicy { request, response }
        }
        _ => {
            let request = match has_slot {
                true => RequestPolicy::Slot,
                false if is_read(cmd) => RequestPolicy::AnyNode,
                false => RequestPolicy::AnyMaster,
            };
            RoutingPolicy { request, response: ResponsePolicy::Single }
        }
    })
}

/// Returns true for `MSETEX numkeys key value … NX|XX …`, which sets all keys or none.
fn is_conditional(cmd: &Cmd) -> bool {
    let mut args = arguments(cmd);
    if &*upper(args.next().unwrap_or_default()) != b"MSETEX" {
        return false;
    }
    let Some(last_key) = keys(cmd).slot_arguments().and_then(|keys| keys.positions().last()) else {
        return false;
    };
    // Behind the last value.
    args.skip(last_key + 1).any(|option| matches!(&*upper(option), b"NX" | b"XX"))
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::RequestPolicy::*;
    use super::ResponsePolicy::*;
    use super::*;

    #[test]
    fn policy_of_commands() {
        for (text, request, response) in [
            ("GET k", Slot, Single),
            ("SET k v", Slot, Single),
            ("SPUBLISH c m", Slot, Single),
            ("EVAL s 1 k", Slot, Single),
            ("PUBLISH c m", AnyMaster, Single),
            ("EVAL s 0", AnyMaster, Single),
            ("EVAL_RO s 0", AnyNode, Single),
            ("TIME", AnyNode, Single),
            ("FT.SEARCH i q", AnyNode, Single),
            ("FT.CREATE i SCHEMA f TEXT", AnyMaster, Single),
            ("MGET a b", MultiShard, KeyOrder),
            ("MGET", AnyNode, Single),
            ("JSON.MGET a b $", MultiShard, KeyOrder),
            ("MSET a 1", MultiShard, AllSucceeded),
            ("MSETNX a 1", Slot, Single),
            ("MSETEX 1 a NX EX 5", MultiShard, AllSucceeded),
            ("MSETEX 1 a 1 EX 5 nx", Slot, Single),
            ("MSETEX 1 a 1 XX", Slot, Single),
            ("MSETEX x a 1 XX", AnyMaster, Single),
            ("DEL a b", MultiShard, Sum),
            ("SINTER a b", Slot, Single),
            ("DBSIZE", AllShards, Sum),
            ("KEYS *", AllShards, Concatenated),
            ("RANDOMKEY", AllShards, AnyKey),
            ("INFO", AllShards, PerNode),
            ("PING", AllShards, AllSucceeded),
            ("WAIT 1 0", AllShards, Min),
            ("FLUSHALL", AllShards, AllSucceeded),
            ("SCRIPT LOAD s", AllNodes, AllSucceeded),
            ("SCRIPT EXISTS a b", AllShards, LogicalAnd),
            ("SCRIPT KILL", AllShards, OneSucceeded),
            ("FUNCTION STATS", AllShards, PerNode),
            ("config set a b", AllNodes, AllSucceeded),
            ("CONFIG GET a", AnyNode, Single),
            ("SLOWLOG GET", AllNodes, PerNode),
            ("COMMANDLOG GET 5 slow", AllNodes, PerNode),
            ("COMMANDLOG LEN slow", AllNodes, Sum),
            ("HIMPORT PREPARE s f", AllShards, AllSucceeded),
            ("SCAN 0", Special, Single),
            ("CLUSTER COUNTKEYSINSLOT 5", SlotArgument, Single),
            ("CLUSTER GETKEYSINSLOT 5 10", SlotArgument, Single),
            ("CLUSTER FLUSHSLOT 5", SlotArgument, Single),
            ("CLUSTER ADDSLOTS 5", Special, Single),
            ("CLUSTER ADDSLOTSRANGE 5 6", Special, Single),
            ("CLUSTER DELSLOTS 5", Special, Single),
            ("CLUSTER DELSLOTSRANGE 5 6", Special, Single),
            ("CLUSTER SETSLOT 5 STABLE", Special, Single),
            ("CLUSTER MYID", Special, Single),
            ("CLUSTER KEYSLOT k", AnyNode, Single),
            ("CLUSTER SHARDS", AnyNode, Single),
            ("SFLUSH 0 5", Special, Single),
            ("TRIMSLOTS RANGES 1 0 5", Special, Single),
            ("CLIENT KILL ID 5", Special, Single),
            ("CLIENT UNBLOCK 5", Special, Single),
            ("CLIENT LIST", Special, Single),
            ("BGSAVE", Special, Single),
            ("PUBSUB CHANNELS", AllNodes, Concatenated),
            ("PUBSUB SHARDCHANNELS", AllNodes, Concatenated),
            ("PUBSUB NUMPAT", AllNodes, Sum),
            ("PUBSUB NUMSUB c", AllNodes, Sum),
            ("PUBSUB SHARDNUMSUB c", AllNodes, Sum),
        ] {
            assert_eq!(policy(&command(text)), Some(RoutingPolicy { request, response }), "{text}");
        }
        assert_eq!(policy(&command("NEWCOMMAND k")), None);
    }
}
