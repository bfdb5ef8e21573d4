//! Determines whether a command may run again when it is unknown whether it ran.
//!
//! The second run may come a minute after the first, with writes of others in between, and on another server after a
//! failover. So a command counts as safe only if state and reply are then those of one run, whenever that was:
//!
//! - Commands that overwrite are safe (`SET`, `HMSET`, `SUNIONSTORE`), with a time to live too: the last run determines
//!   everything. It overwrites what others have written to the same key meanwhile, as if the call had come later. The
//!   connection must prevent a late copy of the first run from arriving after all this.
//! - Commands that depend on the old data are not safe, unless others cannot change the relevant part: `SET … XX` is
//!   safe. `COPY … REPLACE` is not (the source may be gone, and then the reply is that nothing was copied), nor are
//!   `PFMERGE` (merged elements stay) and `SETRANGE` (its reply counts what others have appended).
//! - Positions from an end mean other elements once others have pushed: `LSET`, `LTRIM`.
//! - A time to live may have expired: `EXPIRE k 1` replies that there is no such key, `GETEX k EX 1` has lost the value.
//!   A time to live of ten minutes or more outlasts all repeats.
//! - "From now on" has moved: `XREAD BLOCK 0 STREAMS s $` would skip entries in between.
//! - State of one server's process does not exist in another's: a configuration, a pause. The cursor of a scan is such
//!   state too; `SCAN` counts as a read, and the caller ensures that its steps stay with one process.

use redis::{Cmd, Pipeline};

use self::Safety::{ReadOnly, Repeatable, Unsafe};
use super::options::ReadStart;
use super::{Args, arguments, options, upper};

/// What happens if a command runs twice, from the safest to the least safe.
///
/// "Twice" means: with any time and any writes of others between the two runs. The state is the data and the server's
/// configuration; statistics, access times and keyspace notifications do not count. A time to live that starts anew
/// counts as the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Safety {
    /// The command changes nothing, however often it runs.
    ///
    /// This does not mean that a replica serves it: the server flags `SORT`, `GETEX`, `BITFIELD` and `GEORADIUS` as
    /// writes whatever their options, and a replica refuses them.
    ReadOnly,
    /// Running the command twice gives the state and the reply of one run: a plain `SET`.
    Repeatable,
    /// Running the command twice gives another state (`INCR`) or another reply (`DEL`, `SET … NX`), or the command is
    /// unknown.
    Unsafe,
}

/// Returns what happens if `cmd` runs twice.
///
/// An unknown command, of a module or of a newer server, is [`Unsafe`](Safety::Unsafe).
///
/// ```
/// use ha_redis_core::command::{Safety, safety};
///
/// assert_eq!(safety(redis::cmd("GET").arg("key")), Safety::ReadOnly);
/// assert_eq!(safety(redis::cmd("SET").arg("key").arg(1)), Safety::Repeatable);
/// assert_eq!(safety(redis::cmd("SET").arg("key").arg(1).arg("NX")), Safety::Unsafe);
/// ```
pub fn safety(cmd: &Cmd) -> Safety {
    let mut args = arguments(cmd);
    let Some(name) = args.next() else { return Unsafe };
    let name = upper(name);
    if reads(&name) { ReadOnly } else { by_options(&name, args) }
}

/// Returns true if `cmd` changes nothing, although a second run may give another reply.
pub(crate) fn is_read(cmd: &Cmd) -> bool {
    safety(cmd) == ReadOnly || reads_from_now_on(cmd)
}

/// Returns true if `cmd` waits for entries that are added after it starts: a later run may miss some.
pub(crate) fn reads_from_now_on(cmd: &Cmd) -> bool {
    let mut args = arguments(cmd);
    let start = match &*upper(args.next().unwrap_or_default()) {
        b"XREAD" => options::xread(args),
        b"TS.READ" => options::ts_read(args),
        _ => return false,
    };
    start == ReadStart::FromNowOn
}

/// Returns what happens if the whole of `pipeline` runs twice.
///
/// That is the safety of its least safe command, with two exceptions. An atomic pipeline is always
/// [`Unsafe`](Safety::Unsafe). So is a pipeline in which a command depends on the data before a later command writes:
/// each of `GET key` and `SET key value` may run twice, but in a second run of both, `GET` returns the new value.
pub fn pipeline_safety(pipeline: &Pipeline) -> Safety {
    if pipeline.is_transaction() {
        return Unsafe;
    }
    let mut least_safe = ReadOnly;
    let mut depends_on_data = false;
    for cmd in pipeline.cmd_iter() {
        let safety = safety(cmd);
        if safety != ReadOnly && depends_on_data {
            return Unsafe;
        }
        depends_on_data |= !overwrites(cmd);
        least_safe = least_safe.max(safety);
    }
    least_safe
}

/// Returns true if `cmd` sets its keys without regard to their old values.
fn overwrites(cmd: &Cmd) -> bool {
    let mut args = arguments(cmd);
    match &*upper(args.next().unwrap_or_default()) {
        b"MSET" | b"SETEX" | b"PSETEX" => true,
        b"SET" => !args.skip(2).any(|option| matches!(&*upper(option), b"XX" | b"KEEPTTL")),
        _ => false,
    }
}

/// Returns true for commands that change nothing, whatever their options.
fn reads(name: &[u8]) -> bool {
    match name {
        // Strings and bitmaps
        b"GET" | b"MGET" | b"GETRANGE" | b"SUBSTR" | b"STRLEN" | b"LCS" | b"DIGEST" => true,
        b"GETBIT" | b"BITCOUNT" | b"BITPOS" | b"BITFIELD_RO" => true,
        // Keys
        b"EXISTS" | b"TYPE" | b"TTL" | b"PTTL" | b"EXPIRETIME" | b"PEXPIRETIME" | b"TOUCH" | b"DUMP" => true,
        b"KEYS" | b"SCAN" | b"CLUSTERSCAN" | b"RANDOMKEY" | b"DBSIZE" | b"SORT_RO" => true,
        // Hashes
        b"HGET" | b"HMGET" | b"HGETALL" | b"HKEYS" | b"HVALS" | b"HLEN" | b"HSTRLEN" | b"HEXISTS" => true,
        b"HSCAN" | b"HRANDFIELD" | b"HTTL" | b"HPTTL" | b"HEXPIRETIME" | b"HPEXPIRETIME" => true,
        // Lists
        b"LRANGE" | b"LINDEX" | b"LLEN" | b"LPOS" => true,
        // Sets
        b"SMEMBERS" | b"SISMEMBER" | b"SMISMEMBER" | b"SCARD" | b"SRANDMEMBER" | b"SSCAN" => true,
        b"SDIFF" | b"SDIFFCARD" | b"SINTER" | b"SINTERCARD" | b"SUNION" | b"SUNIONCARD" => true,
        // Sorted sets
        b"ZRANGE" | b"ZRANGEBYSCORE" | b"ZRANGEBYLEX" => true,
        b"ZREVRANGE" | b"ZREVRANGEBYSCORE" | b"ZREVRANGEBYLEX" => true,
        b"ZSCORE" | b"ZMSCORE" | b"ZRANK" | b"ZREVRANK" | b"ZCARD" | b"ZCOUNT" | b"ZLEXCOUNT" => true,
        b"ZSCAN" | b"ZRANDMEMBER" | b"ZDIFF" | b"ZINTER" | b"ZINTERCARD" | b"ZUNION" => true,
        // Geospatial. The old commands without _RO may store; `by_options` checks them.
        b"GEODIST" | b"GEOHASH" | b"GEOPOS" | b"GEOSEARCH" => true,
        b"GEORADIUS_RO" => true,
        b"GEORADIUSBYMEMBER_RO" => true,
        // Arrays
        b"ARGET" | b"ARMGET" | b"ARGETRANGE" | b"ARSCAN" | b"ARGREP" | b"ARLASTITEMS" => true,
        b"ARLEN" | b"ARCOUNT" | b"ARNEXT" | b"ARINFO" | b"AROP" => true,
        // Streams, HyperLogLogs (PFCOUNT only renews a cached count), vector sets
        b"XRANGE" | b"XREVRANGE" | b"XLEN" | b"XPENDING" => true,
        b"PFCOUNT" => true,
        b"VSIM" | b"VCARD" | b"VDIM" | b"VEMB" | b"VINFO" | b"VISMEMBER" | b"VLINKS" | b"VGETATTR" => true,
        b"VRANDMEMBER" | b"VRANGE" => true,
        // Scripts that the server does not allow to write
        b"EVAL_RO" | b"EVALSHA_RO" | b"FCALL_RO" => true,
        // The server
        b"PING" | b"ECHO" | b"TIME" | b"ROLE" | b"INFO" | b"LASTSAVE" | b"LOLWUT" => true,
        _ => false,
    }
}

/// Returns the safety of commands that may run twice with all or some of their options. Commands that are missing
/// here are unsafe, for the reasons in the module's documentation and these:
///
/// - The reply counts what was changed (`DEL`, `HSET`, `SADD`, `ZADD`, `XACK`, `PERSIST`, `PFADD`) or returns the old
///   value (`GETSET`, `SETBIT`): the second reply differs.
/// - The second run fails: `XADD` with an ID of its own, `RENAME`, `XGROUP CREATE`.
/// - The deadline is a point in time: one that has passed deletes the key, and the reply shows that the key existed:
///   `EXPIREAT`.
/// - The command is a script that may write, or `PUBLISH`, whose message would be delivered twice.
/// - The command would also remove what others have done since: `FLUSHALL`, `FLUSHDB`, `XGROUP SETID` and similar ones.
/// - The command changes the connection (`SELECT`, `CLIENT SETNAME`) or depends on its writes (`WAIT`): the second run
///   may be on another connection.
fn by_options<'a>(name: &[u8], mut args: impl Args<'a>) -> Safety {
    use options::{MILLISECONDS, SECONDS};
    match name {
        // Strings and bitmaps
        b"SETEX" | b"PSETEX" | b"MSET" => Repeatable,
        b"SET" => repeatable_if(options::set(args)),
        b"MSETEX" => repeatable_if(options::msetex(args)),
        b"GETEX" => options::getex(args),
        b"BITFIELD" => options::bitfield(args),
        b"BITOP" => repeatable_if(options::bitop(args)),
        // Keys
        b"EXPIRE" => repeatable_if(options::expire(args, SECONDS)),
        b"PEXPIRE" => repeatable_if(options::expire(args, MILLISECONDS)),
        b"RESTORE" => repeatable_if(options::restore(args)),
        b"SORT" => options::sort(args),
        // Hashes
        b"HMSET" => Repeatable,
        b"HSETEX" => repeatable_if(options::hsetex(args)),
        b"HGETEX" => options::hgetex(args),
        b"HEXPIRE" => repeatable_if(options::hexpire(args, SECONDS)),
        b"HPEXPIRE" => repeatable_if(options::hexpire(args, MILLISECONDS)),
        // Sets, sorted sets and geospatial, where the destination may be one of the sources
        b"SDIFFSTORE" | b"SINTERSTORE" | b"SUNIONSTORE" => {
            repeatable_if(options::destination_is_no_source(args))
        }
        b"ZDIFFSTORE" | b"ZINTERSTORE" | b"ZUNIONSTORE" => repeatable_if(options::zset_store(args)),
        b"ZRANGESTORE" => repeatable_if(options::zrangestore(args)),
        b"GEOSEARCHSTORE" => repeatable_if(options::geosearchstore(args)),
        b"GEORADIUS" => options::georadius(args, 2),
        b"GEORADIUSBYMEMBER" => options::georadius(args, 1),
        // Streams
        b"XREAD" => read_only_if(options::xread(args) == ReadStart::AtPosition),
        // Containers
        b"ACL" | b"BACKUP" | b"CLIENT" | b"CLUSTER" | b"COMMAND" | b"COMMANDLOG" | b"CONFIG"
        | b"FUNCTION" | b"HOTKEYS" | b"LATENCY" | b"MEMORY" | b"MODULE" | b"OBJECT" | b"PUBSUB"
        | b"SCRIPT" | b"SENTINEL" | b"SLOWLOG" | b"XGROUP" | b"XINFO" | b"FT.CONFIG" | b"JSON.DEBUG" => {
            match args.next() {
                Some(subcommand) => in_container(name, &upper(subcommand), args),
                None if name == b"COMMAND" => ReadOnly,
                None => Unsafe,
            }
        }
        _ => of_a_module(name, args),
    }
}

fn in_container<'a>(name: &[u8], subcommand: &[u8], mut args: impl Args<'a>) -> Safety {
    match (name, subcommand) {
        (_, b"HELP") => ReadOnly,

        (b"ACL", b"WHOAMI" | b"LIST" | b"USERS" | b"GETUSER" | b"CAT" | b"DRYRUN" | b"GENPASS") => ReadOnly,
        (b"ACL", b"LOG") if args.next().is_none_or(|count| !count.eq_ignore_ascii_case(b"RESET")) => ReadOnly,
        (b"BACKUP", b"LIST" | b"STATUS") => ReadOnly,
        (b"CLIENT", b"GETNAME" | b"ID" | b"INFO" | b"LIST" | b"GETREDIR" | b"TRACKINGINFO") => ReadOnly,

        (b"CLUSTER", b"INFO" | b"NODES" | b"SLOTS" | b"SHARDS" | b"LINKS" | b"MYID" | b"MYSHARDID") => {
            ReadOnly
        }
        (b"CLUSTER", b"KEYSLOT" | b"COUNTKEYSINSLOT" | b"GETKEYSINSLOT" | b"SLOT-STATS") => ReadOnly,
        (b"CLUSTER", b"REPLICAS" | b"SLAVES") => ReadOnly,
        (b"CLUSTER", b"COUNT-FAILURE-REPORTS" | b"GETSLOTMIGRATIONS") => ReadOnly,

        (b"COMMAND", b"COUNT" | b"DOCS" | b"GETKEYS" | b"INFO" | b"LIST") => ReadOnly,
        (b"COMMAND", b"GETKEYSANDFLAGS") => ReadOnly,
        (b"COMMANDLOG", b"GET" | b"LEN") => ReadOnly,
        (b"CONFIG" | b"FT.CONFIG" | b"HOTKEYS", b"GET") => ReadOnly,

        (b"FUNCTION", b"LIST" | b"DUMP" | b"STATS") => ReadOnly,
        (b"FUNCTION", b"LOAD") => repeatable_if(options::function_load(args)),
        (b"SCRIPT", b"EXISTS" | b"SHOW") => ReadOnly,
        // The cache belongs to one server, but callers load a missing script again.
        (b"SCRIPT", b"LOAD") => Repeatable,

        (b"LATENCY", b"DOCTOR" | b"GRAPH" | b"HISTOGRAM" | b"HISTORY" | b"LATEST") => ReadOnly,
        (b"MEMORY", b"USAGE" | b"STATS" | b"DOCTOR" | b"MALLOC-STATS") => ReadOnly,
        (b"JSON.DEBUG", b"MEMORY") => ReadOnly,
        (b"MODULE", b"LIST") => ReadOnly,
        (b"OBJECT", b"ENCODING" | b"FREQ" | b"IDLETIME" | b"REFCOUNT") => ReadOnly,
        (b"PUBSUB", b"CHANNELS" | b"NUMSUB" | b"NUMPAT" | b"SHARDCHANNELS" | b"SHARDNUMSUB") => ReadOnly,
        (b"SLOWLOG", b"GET" | b"LEN") => ReadOnly,

        // Not IS-MASTER-DOWN-BY-ADDR, which also asks a Sentinel for its vote.
        (b"SENTINEL", b"MASTERS" | b"MASTER" | b"REPLICAS" | b"SLAVES" | b"SENTINELS" | b"MYID") => ReadOnly,
        (b"SENTINEL", b"PRIMARIES" | b"PRIMARY") => ReadOnly,
        (b"SENTINEL", b"CKQUORUM" | b"INFO-CACHE" | b"PENDING-SCRIPTS") => ReadOnly,
        (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME" | b"GET-PRIMARY-ADDR-BY-NAME") => ReadOnly,

        (b"XINFO", b"STREAM" | b"GROUPS" | b"CONSUMERS") => ReadOnly,
        _ => Unsafe,
    }
}

/// Returns the safety of the commands of Redis's modules: JSON, search, probabilistic structures, time series.
fn of_a_module<'a>(name: &[u8], args: impl Args<'a>) -> Safety {
    match name {
        b"JSON.GET" | b"JSON.MGET" | b"JSON.TYPE" | b"JSON.STRLEN" | b"JSON.ARRLEN" | b"JSON.ARRINDEX" => {
            ReadOnly
        }
        b"JSON.OBJKEYS" | b"JSON.OBJLEN" | b"JSON.RESP" => ReadOnly,
        b"JSON.SET" => repeatable_if(options::json_set(args)),
        b"FT.AGGREGATE" | b"FT.HYBRID" | b"FT.PROFILE" => options::aggregate(args),
        b"FT.SEARCH" | b"FT.INFO" | b"FT.EXPLAIN" | b"FT.EXPLAINCLI" | b"FT.SPELLCHECK" | b"FT._LIST" => {
            ReadOnly
        }
        b"FT.TAGVALS" | b"FT.DICTDUMP" | b"FT.SYNDUMP" | b"FT.SUGGET" | b"FT.SUGLEN" => ReadOnly,
        b"FT.ALIASLIST" | b"FT.GET" | b"FT.MGET" | b"SEARCH.CLUSTERINFO" => ReadOnly,
        b"BF.EXISTS" | b"BF.MEXISTS" | b"BF.CARD" | b"BF.INFO" | b"BF.SCANDUMP" => ReadOnly,
        b"CF.EXISTS" | b"CF.MEXISTS" | b"CF.COUNT" | b"CF.INFO" | b"CF.SCANDUMP" => ReadOnly,
        b"CMS.QUERY" | b"CMS.INFO" => ReadOnly,
        b"TOPK.QUERY" | b"TOPK.COUNT" | b"TOPK.LIST" | b"TOPK.INFO" => ReadOnly,
        b"TDIGEST.MIN" | b"TDIGEST.MAX" | b"TDIGEST.QUANTILE" | b"TDIGEST.CDF" | b"TDIGEST.INFO" => ReadOnly,
        b"TDIGEST.RANK" | b"TDIGEST.REVRANK" | b"TDIGEST.BYRANK" | b"TDIGEST.BYREVRANK" => ReadOnly,
        b"TDIGEST.TRIMMED_MEAN" => ReadOnly,
        b"TS.GET" | b"TS.MGET" | b"TS.RANGE" | b"TS.REVRANGE" | b"TS.MRANGE" | b"TS.MREVRANGE" => ReadOnly,
        b"TS.NRANGE" | b"TS.NREVRANGE" | b"TS.INFO" | b"TS.QUERYINDEX" | b"TS.QUERYLABELS" => ReadOnly,
        b"TS.READ" => read_only_if(options::ts_read(args) == ReadStart::AtPosition),
        _ => Unsafe,
    }
}

fn read_only_if(read_only: bool) -> Safety {
    if read_only { ReadOnly } else { Unsafe }
}

fn repeatable_if(repeatable: bool) -> Safety {
    if repeatable { Repeatable } else { Unsafe }
}

#[cfg(test)]
#[path = "safety_tests.rs"]
mod tests;
