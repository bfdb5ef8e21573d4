//! Whether a command may be run again when nobody knows if it ran.
//!
//! The second run may come a minute after the first, with writes of others in between, and on another server after a
//! failover. So a command counts as safe only if state and reply are then those of one run, whenever that was:
//!
//! - What overwrites is safe (`SET`, `HMSET`, `SUNIONSTORE`), with a time to live too: the last run says all. What
//!   others have written meanwhile to the same key is overwritten, as if the call had come later; that a late copy
//!   of the first run comes after all this is for the connection to prevent.
//! - What looks at what was there is not, unless others can change nothing about that: `SET … XX` is safe, `COPY …
//!   REPLACE` is not (the source may be gone, and the reply would say that nothing was copied), nor `PFMERGE` (what
//!   is merged stays) or `SETRANGE` (its reply counts what others have appended).
//! - Positions from an end mean other elements once others have pushed: `LSET`, `LTRIM`.
//! - A time to live may be over: `EXPIRE k 1` answers that there is no such key, `GETEX k EX 1` has lost the value.
//!   One of ten minutes or more outlasts all repeats.
//! - "From now on" has moved: `XREAD BLOCK 0 STREAMS s $` would skip what came in between.
//! - What belongs to one server's process is none of another's: a configuration, a pause. The cursor of a scan is of
//!   that kind too; `SCAN` counts as a read, and the caller sees to it that its steps stay with one process.

use redis::{Cmd, Pipeline};

use self::Safety::{ReadOnly, Repeatable, Unsafe};
use super::options::Reading;
use super::{Args, arguments, options, upper};

/// What running a command twice does, from the safest to the least safe.
///
/// "Twice" means: with any time and any writes of others between the two runs. The data counts as the state, and so
/// does what the server was configured to; statistics, access times and keyspace notifications do not. A time to live
/// that starts anew counts as the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Safety {
    /// It changes nothing, however often it runs.
    ///
    /// This says nothing about replicas: to the server, `SORT`, `GETEX`, `BITFIELD` and `GEORADIUS` are
    /// writes whatever their options, and a replica refuses them.
    ReadOnly,
    /// Running it twice leaves the state and gives the reply of one run: a plain `SET`.
    Repeatable,
    /// Running it twice leaves another state (`INCR`) or gives another reply (`DEL`, `SET … NX`), or the
    /// command is not known.
    Unsafe,
}

/// What running `cmd` twice does.
///
/// A command that is not known, of a module or of a newer server, is [`Unsafe`](Safety::Unsafe).
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

/// Whether `cmd` changes nothing, although a second run may give another reply.
pub(crate) fn is_read(cmd: &Cmd) -> bool {
    safety(cmd) == ReadOnly || reads_from_now_on(cmd)
}

/// Whether `cmd` waits for what comes after the moment at which it runs: a later one is not as good.
pub(crate) fn reads_from_now_on(cmd: &Cmd) -> bool {
    let mut args = arguments(cmd);
    let reading = match &*upper(args.next().unwrap_or_default()) {
        b"XREAD" => options::xread(args),
        b"TS.READ" => options::ts_read(args),
        _ => return false,
    };
    reading == Reading::FromNowOn
}

/// What running the whole of `pipeline` twice does.
///
/// That is what its least safe command does, with two exceptions. An atomic pipeline is always
/// [`Unsafe`](Safety::Unsafe). So is one in which a command looks at the data before a later command writes:
/// each of `GET key` and `SET key value` may run twice, but after the second run of both, `GET` has told
/// the new value.
pub fn pipeline_safety(pipeline: &Pipeline) -> Safety {
    if pipeline.is_transaction() {
        return Unsafe;
    }
    let mut least_safe = ReadOnly;
    let mut looked_at_data = false;
    for cmd in pipeline.cmd_iter() {
        let safety = safety(cmd);
        if safety != ReadOnly && looked_at_data {
            return Unsafe;
        }
        looked_at_data |= !overwrites(cmd);
        least_safe = least_safe.max(safety);
    }
    least_safe
}

/// Whether `cmd` gives its keys their new values without a look at the old ones.
fn overwrites(cmd: &Cmd) -> bool {
    let mut args = arguments(cmd);
    match &*upper(args.next().unwrap_or_default()) {
        b"MSET" | b"SETEX" | b"PSETEX" => true,
        b"SET" => !args.skip(2).any(|option| matches!(&*upper(option), b"XX" | b"KEEPTTL")),
        _ => false,
    }
}

/// The commands that change nothing, whatever their options.
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
        // Places. The old commands without _RO may store, and are told apart by their options.
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
        // Scripts that the server keeps from writing
        b"EVAL_RO" | b"EVALSHA_RO" | b"FCALL_RO" => true,
        // The server
        b"PING" | b"ECHO" | b"TIME" | b"ROLE" | b"INFO" | b"LASTSAVE" | b"LOLWUT" => true,
        _ => false,
    }
}

/// The commands that may be run twice with all or some of their options. What is left out here is unsafe, besides what
/// the module's documentation says:
///
/// - what counts what it changed (`DEL`, `HSET`, `SADD`, `ZADD`, `XACK`, `PERSIST`, `PFADD`) or gives back
///   what was there before (`GETSET`, `SETBIT`): the second reply differs;
/// - what the second time ends with an error: `XADD` with an ID of its own, `RENAME`, `XGROUP CREATE`;
/// - a deadline as a point in time, where one that has passed deletes the key and the reply tells that the
///   key was there: `EXPIREAT`;
/// - scripts that may write, and `PUBLISH`, which would be heard twice;
/// - `FLUSHALL`, `FLUSHDB`, `XGROUP SETID` and their like: they could be repeated, but must not take with them all
///   that others have done since;
/// - what changes the connection (`SELECT`, `CLIENT SETNAME`) or asks about its own writes (`WAIT`): the
///   second run may be on another connection.
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
        // Sets, sorted sets and places, where the result may be kept under one of the keys it was made of
        b"SDIFFSTORE" | b"SINTERSTORE" | b"SUNIONSTORE" => repeatable_if(options::stores_apart(args)),
        b"ZDIFFSTORE" | b"ZINTERSTORE" | b"ZUNIONSTORE" => repeatable_if(options::stores_counted_apart(args)),
        b"ZRANGESTORE" => repeatable_if(options::zrangestore(args)),
        b"GEOSEARCHSTORE" => repeatable_if(options::geosearchstore(args)),
        b"GEORADIUS" => options::georadius(args, 2),
        b"GEORADIUSBYMEMBER" => options::georadius(args, 1),
        // Streams
        b"XREAD" => read_only_if(options::xread(args) == Reading::FromAPlace),
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
        (b"CLUSTER", b"COUNT-FAILURE-REPORTS") => ReadOnly,

        (b"COMMAND", b"COUNT" | b"DOCS" | b"GETKEYS" | b"INFO" | b"LIST") => ReadOnly,
        (b"COMMAND", b"GETKEYSANDFLAGS") => ReadOnly,
        (b"COMMANDLOG", b"GET" | b"LEN") => ReadOnly,
        (b"CONFIG" | b"FT.CONFIG" | b"HOTKEYS", b"GET") => ReadOnly,

        (b"FUNCTION", b"LIST" | b"DUMP" | b"STATS") => ReadOnly,
        (b"FUNCTION", b"LOAD") => repeatable_if(options::function_load(args)),
        (b"SCRIPT", b"EXISTS" | b"SHOW") => ReadOnly,
        // The cache is one server's own, but whoever misses a script there loads it again.
        (b"SCRIPT", b"LOAD") => Repeatable,

        (b"LATENCY", b"DOCTOR" | b"GRAPH" | b"HISTOGRAM" | b"HISTORY" | b"LATEST") => ReadOnly,
        (b"MEMORY", b"USAGE" | b"STATS" | b"DOCTOR" | b"MALLOC-STATS") => ReadOnly,
        (b"JSON.DEBUG", b"MEMORY") => ReadOnly,
        (b"MODULE", b"LIST") => ReadOnly,
        (b"OBJECT", b"ENCODING" | b"FREQ" | b"IDLETIME" | b"REFCOUNT") => ReadOnly,
        (b"PUBSUB", b"CHANNELS" | b"NUMSUB" | b"NUMPAT" | b"SHARDCHANNELS" | b"SHARDNUMSUB") => ReadOnly,
        (b"SLOWLOG", b"GET" | b"LEN") => ReadOnly,

        // Not IS-MASTER-DOWN-BY-ADDR, by which a Sentinel is also asked for its vote.
        (b"SENTINEL", b"MASTERS" | b"MASTER" | b"REPLICAS" | b"SLAVES" | b"SENTINELS" | b"MYID") => ReadOnly,
        (b"SENTINEL", b"CKQUORUM" | b"INFO-CACHE" | b"PENDING-SCRIPTS") => ReadOnly,
        (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME") => ReadOnly,

        (b"XINFO", b"STREAM" | b"GROUPS" | b"CONSUMERS") => ReadOnly,
        _ => Unsafe,
    }
}

/// The commands of Redis's modules: JSON, search, probabilistic structures, time series.
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
        b"FT.ALIASLIST" => ReadOnly,
        b"BF.EXISTS" | b"BF.MEXISTS" | b"BF.CARD" | b"BF.INFO" | b"BF.SCANDUMP" => ReadOnly,
        b"CF.EXISTS" | b"CF.MEXISTS" | b"CF.COUNT" | b"CF.INFO" | b"CF.SCANDUMP" => ReadOnly,
        b"CMS.QUERY" | b"CMS.INFO" => ReadOnly,
        b"TOPK.QUERY" | b"TOPK.COUNT" | b"TOPK.LIST" | b"TOPK.INFO" => ReadOnly,
        b"TDIGEST.MIN" | b"TDIGEST.MAX" | b"TDIGEST.QUANTILE" | b"TDIGEST.CDF" | b"TDIGEST.INFO" => ReadOnly,
        b"TDIGEST.RANK" | b"TDIGEST.REVRANK" | b"TDIGEST.BYRANK" | b"TDIGEST.BYREVRANK" => ReadOnly,
        b"TDIGEST.TRIMMED_MEAN" => ReadOnly,
        b"TS.GET" | b"TS.MGET" | b"TS.RANGE" | b"TS.REVRANGE" | b"TS.MRANGE" | b"TS.MREVRANGE" => ReadOnly,
        b"TS.NRANGE" | b"TS.NREVRANGE" | b"TS.INFO" | b"TS.QUERYINDEX" | b"TS.QUERYLABELS" => ReadOnly,
        b"TS.READ" => read_only_if(options::ts_read(args) == Reading::FromAPlace),
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
