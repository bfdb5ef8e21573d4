use std::collections::BTreeSet;

use redis::Pipeline;

use super::super::command;
use super::{Safety, pipeline_safety, safety};

fn assert_all(expected: Safety, commands: &[&str]) {
    for text in commands {
        assert_eq!(safety(&command(text)), expected, "{text}");
    }
}

fn pipeline(commands: &[&str]) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for text in commands {
        pipeline.add_command(command(text));
    }
    pipeline
}

#[test]
fn from_safest_to_least_safe() {
    assert!(Safety::ReadOnly < Safety::Repeatable && Safety::Repeatable < Safety::Unsafe);
}

#[test]
fn names_and_options_in_any_case() {
    assert_all(Safety::ReadOnly, &["get k", "Config gEt save", "getex k"]);
    assert_all(Safety::Repeatable, &["set k v", "sEt k v ex 5 xx"]);
    assert_all(Safety::Unsafe, &["set k v nx", "incr k"]);
}

#[test]
fn what_is_not_known_is_unsafe() {
    assert_all(
        Safety::Unsafe,
        &["", "NOSUCH k", "GETX k", "JSON.NEW k", "CONFIG", "CONFIG NOSUCH", "SET k v NEWOPTION"],
    );
    assert_all(Safety::Unsafe, &["GEORADIUSBYMEMBER_RO_AND_MUCH_LONGER k"]);
}

#[test]
fn a_scan_with_its_cursor_reads() {
    let mut scan = redis::cmd("SCAN");
    scan.cursor_arg(17).arg("MATCH").arg("a*");
    assert_eq!(safety(&scan), Safety::ReadOnly);
}

#[test]
fn strings() {
    assert_all(
        Safety::Repeatable,
        &[
            "SET k v",
            "SET k v EX 10",
            "SET k v PX 10",
            "SET k v EXAT 99",
            "SET k v KEEPTTL",
            "SET k v XX",
            "SET k v XX PX 9",
            "SET k nx",
            "SET get v",
            "SET k v EX nx",
            "SETEX k 9 v",
            "PSETEX k 9 v",
            "MSET a 1 b 2",
            "SETRANGE k 3 v",
            "GETEX k EX 9",
            "GETEX k PX 9",
            "GETEX k PERSIST",
            "MSETEX 2 nx 1 b 2 EX 9",
            "MSETEX 1 a 1 XX",
            "BITOP AND d a b",
        ],
    );
    assert_all(Safety::ReadOnly, &["GETEX k", "BITFIELD k GET u8 0 OVERFLOW SAT GET u8 8", "BITFIELD k"]);
    assert_all(
        Safety::Unsafe,
        &[
            "SET k v NX",
            "SET k v GET",
            "SET k v XX GET",
            "SET k v EX 10 NX",
            "SET k v IFEQ old",
            "SET k v XX EXAT 99",
            "SET k v PXAT 99 XX",
            "SETNX k v",
            "MSETNX k v",
            "APPEND k v",
            "INCR k",
            "INCRBYFLOAT k 1",
            "GETSET k v",
            "GETDEL k",
            "GETEX k EXAT 99",
            "GETEX k PXAT 99",
            "GETEX k EX 0",
            "MSETEX 1 a 1 NX",
            "MSETEX many a 1",
            "SETBIT k 1 1",
            "BITFIELD k GET u8 0 SET u8 0 1",
            "BITFIELD k INCRBY u8 0 1",
            "BITOP XOR d a d",
            "DELEX k",
        ],
    );
}

#[test]
fn keys() {
    assert_all(
        Safety::Repeatable,
        &[
            "EXPIRE k 10",
            "EXPIRE k 10 XX",
            "PEXPIRE k 10",
            "COPY a b REPLACE",
            "COPY a b DB 1 REPLACE",
            "RESTORE k 0 payload REPLACE",
            "SORT k STORE d",
            "SORT k LIMIT 0 5 ALPHA DESC STORE d",
        ],
    );
    assert_all(Safety::ReadOnly, &["SORT k", "SORT k BY STORE GET STORE DESC"]);
    assert_all(
        Safety::Unsafe,
        &[
            "DEL k",
            "UNLINK k",
            "PERSIST k",
            "EXPIRE k 0",
            "EXPIRE k -1",
            "EXPIRE k soon",
            "EXPIRE k 10 NX",
            "EXPIRE k 10 GT",
            "EXPIRE k 10 LT",
            "EXPIRE k 10 XX GT",
            "EXPIREAT k 99",
            "PEXPIREAT k 99",
            "RENAME a b",
            "RENAMENX a b",
            "MOVE k 1",
            "COPY a b",
            "COPY REPLACE b",
            "RESTORE k 0 payload",
            "SORT k STORE k",
            "SORT k GET d_* STORE d_1",
            "SORT k NEWOPTION",
            "FLUSHALL",
            "FLUSHDB",
            "SWAPDB 0 1",
        ],
    );
}

#[test]
fn hashes_lists_and_sets() {
    assert_all(
        Safety::Repeatable,
        &[
            "HMSET h f v",
            "HEXPIRE h 10 FIELDS 1 f",
            "HEXPIRE h 10 XX FIELDS 1 NX",
            "HPEXPIRE h 10 FIELDS 1 f",
            "HGETEX h EX 9 FIELDS 1 f",
            "HGETEX h PERSIST FIELDS 1 f",
            "HSETEX h EX 9 FIELDS 1 FNX v",
            "HSETEX h FXX FIELDS 1 f v",
            "LSET l 0 v",
            "LTRIM l 0 9",
            "LTRIM l 0 -1",
            "LTRIM l -10 -1",
            "SUNIONSTORE d a b",
            "SDIFFSTORE d a",
        ],
    );
    assert_all(Safety::ReadOnly, &["HGETEX h FIELDS 1 EX", "HTTL h FIELDS 1 f"]);
    assert_all(
        Safety::Unsafe,
        &[
            "HSET h f v",
            "HSETNX h f v",
            "HDEL h f",
            "HINCRBY h f 1",
            "HEXPIRE h 10 NX FIELDS 1 f",
            "HEXPIRE h 0 FIELDS 1 f",
            "HEXPIREAT h 99 FIELDS 1 f",
            "HPERSIST h FIELDS 1 f",
            "HGETEX h EXAT 99 FIELDS 1 f",
            "HSETEX h FNX FIELDS 1 f v",
            "HGETDEL h FIELDS 1 f",
            "LPUSH l v",
            "LPOP l",
            "LMOVE a b LEFT LEFT",
            "LTRIM l 1 -1",
            "LTRIM l 0 -2",
            "LTRIM l -5 -2",
            "LTRIM l 0 x",
            "LTRIM l 0",
            "SADD s m",
            "SPOP s",
            "SMOVE a b m",
            "SINTERSTORE a a b",
            "SDIFFSTORE b a b",
            "BLPOP l 0",
        ],
    );
}

#[test]
fn sorted_sets_places_and_streams() {
    assert_all(
        Safety::Repeatable,
        &[
            "ZRANGESTORE d s 0 -1",
            "ZUNIONSTORE d 2 a b WEIGHTS 1 2",
            "ZDIFFSTORE d 2 a b",
            "ZINTERSTORE 1 1 a WEIGHTS 1",
            "GEOSEARCHSTORE d s FROMMEMBER d BYRADIUS 1 km",
            "GEORADIUS k 1 2 3 km STORE d",
            "GEORADIUSBYMEMBER k m 3 km STOREDIST d",
            "XGROUP SETID s g $",
            "XSETID s 1-1",
            "PFMERGE d a d",
        ],
    );
    assert_all(
        Safety::ReadOnly,
        &[
            "GEORADIUS k 1 2 3 km WITHCOORD",
            "GEORADIUSBYMEMBER k STORE 3 km ASC",
            "XREAD BLOCK 0 STREAMS s $",
            "XINFO STREAM s",
            "VSIM v ELE e",
        ],
    );
    assert_all(
        Safety::Unsafe,
        &[
            "ZADD z 1 m",
            "ZINCRBY z 1 m",
            "ZREM z m",
            "ZPOPMIN z",
            "ZRANGESTORE s s 0 1",
            "ZUNIONSTORE d 2 a d WEIGHTS 1 2",
            "ZUNIONSTORE d many a",
            "GEOSEARCHSTORE s s BYRADIUS 1 km",
            "GEORADIUS k 1 2 3 km STORE k",
            "GEORADIUS k 1 2 3 km STOREDIST k STORE d",
            "GEORADIUSBYMEMBER k m 3 km STORE k",
            "GEOADD k 1 2 m",
            "XADD s * f v",
            "XADD s 1-1 f v",
            "XACK s g 1-1",
            "XREADGROUP GROUP g c STREAMS s >",
            "XGROUP CREATE s g $",
            "PFADD h e",
            "VADD v VALUES 1 1 e",
        ],
    );
}

#[test]
fn scripts_modules_and_the_server() {
    assert_all(
        Safety::Repeatable,
        &[
            "SCRIPT LOAD return",
            "FUNCTION LOAD REPLACE code",
            "CONFIG SET save x",
            "CLIENT PAUSE 10",
            "JSON.SET k $ 1",
            "ACL SAVE",
        ],
    );
    assert_all(
        Safety::ReadOnly,
        &[
            "EVAL_RO s 0",
            "FCALL_RO f 0",
            "SCRIPT EXISTS sha",
            "ACL LOG",
            "ACL LOG 5",
            "ACL WHOAMI",
            "OBJECT ENCODING k",
            "MEMORY USAGE k",
            "COMMAND",
            "COMMAND DOCS get",
            "CLUSTER NODES",
            "SENTINEL GET-MASTER-ADDR-BY-NAME m",
            "CONFIG HELP",
            "PING",
            "JSON.GET k",
            "FT.SEARCH i q",
            "FT.AGGREGATE i q",
            "BF.EXISTS b i",
            "TDIGEST.TRIMMED_MEAN t 0 1",
            "TS.RANGE t - +",
        ],
    );
    assert_all(
        Safety::Unsafe,
        &[
            "EVAL s 0",
            "EVALSHA s 0",
            "FCALL f 0",
            "SCRIPT FLUSH",
            "FUNCTION LOAD code",
            "PUBLISH c m",
            "WAIT 1 100",
            "SELECT 1",
            "CLIENT SETNAME n",
            "CLIENT KILL addr",
            "ACL LOG RESET",
            "ACL SETUSER u",
            "SENTINEL FAILOVER m",
            "SENTINEL IS-MASTER-DOWN-BY-ADDR h 1 0 *",
            "JSON.SET k $ 1 NX",
            "FT.AGGREGATE i q WITHCURSOR",
            "TS.ADD t * 1",
        ],
    );
}

#[test]
fn a_pipeline_is_as_safe_as_its_least_safe_command() {
    assert_eq!(pipeline_safety(&pipeline(&[])), Safety::ReadOnly);
    assert_eq!(pipeline_safety(&pipeline(&["GET a", "GET b"])), Safety::ReadOnly);
    assert_eq!(pipeline_safety(&pipeline(&["SET a 1", "MSET b 2", "EXPIRE b 9"])), Safety::Repeatable);
    assert_eq!(pipeline_safety(&pipeline(&["SET a 1", "GET b"])), Safety::Repeatable);
    assert_eq!(pipeline_safety(&pipeline(&["SET a 1", "INCR b"])), Safety::Unsafe);
}

#[test]
fn a_pipeline_that_looks_before_it_writes_is_unsafe() {
    assert_eq!(pipeline_safety(&pipeline(&["GET a", "SET a 1"])), Safety::Unsafe);
    assert_eq!(pipeline_safety(&pipeline(&["SET a 1 XX", "SET a 1"])), Safety::Unsafe);
    assert_eq!(pipeline_safety(&pipeline(&["EXPIRE a 9", "SET a 1"])), Safety::Unsafe);
    assert_eq!(pipeline_safety(&pipeline(&["BITOP AND c a b", "SET a 1"])), Safety::Unsafe);
}

#[test]
fn an_atomic_pipeline_is_unsafe() {
    assert_eq!(pipeline_safety(pipeline(&["GET a"]).atomic()), Safety::Unsafe);
}

/// Held against the server's own table: what it flags `readonly` reads, what it flags `write` does not.
#[test]
fn agrees_with_the_servers_table() {
    // Writes to the server whatever their options; without the options that write, they only read.
    let read_without_options =
        BTreeSet::from(["bitfield", "georadius", "georadiusbymember", "getex", "sort"]);

    let mut seen = BTreeSet::new();
    for line in include_str!("redis-7.0-commands.txt").lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap();
        let flags: Vec<&str> = words.collect();
        let safety = safety(&command(&name.replace('|', " ")));
        if flags.contains(&"readonly") {
            assert_eq!(safety, Safety::ReadOnly, "{name}");
        }
        if flags.contains(&"write") {
            assert_eq!(safety == Safety::ReadOnly, read_without_options.contains(name), "{name}");
        }
        seen.insert(name);
    }
    assert!(seen.is_superset(&read_without_options) && seen.len() > 300, "the table is not complete");
}
