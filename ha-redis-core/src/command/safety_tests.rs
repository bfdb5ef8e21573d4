use redis::Pipeline;

use super::super::command;
use super::super::tables::entries;
use super::{Safety, is_read, pipeline_safety, reads_from_now_on, safety};

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
fn safety_is_ordered() {
    assert!(Safety::ReadOnly < Safety::Repeatable && Safety::Repeatable < Safety::Unsafe);
}

#[test]
fn names_and_options_are_case_insensitive() {
    assert_all(Safety::ReadOnly, &["get k", "Config gEt save", "getex k"]);
    assert_all(Safety::Repeatable, &["set k v", "sEt k v ex 600 xx"]);
    assert_all(Safety::Unsafe, &["set k v nx", "incr k"]);
}

#[test]
fn unknown_commands_are_unsafe() {
    assert_all(
        Safety::Unsafe,
        &["", "NOSUCH k", "GETX k", "JSON.NEW k", "CONFIG", "CONFIG NOSUCH", "SET k v NEWOPTION"],
    );
    assert_all(Safety::Unsafe, &["GEORADIUSBYMEMBER_RO_AND_MUCH_LONGER k"]);
}

#[test]
fn scan_with_cursor_is_read_only() {
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
            "SET k v XX PX 600000",
            "SET k v EX 1",
            "SET k nx",
            "SET get v",
            "SET k v EX nx",
            "SETEX k 9 v",
            "PSETEX k 9 v",
            "MSET a 1 b 2",
            "GETEX k EX 600",
            "GETEX k PX 600000",
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
            "SET k v XX PX 9",
            "SET k v XX EX 599",
            "SETRANGE k 3 v",
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
            "GETEX k EX 1",
            "GETEX k PX 599999",
            "GETEX k EX 600 NEWOPTION",
            "MSETEX 1 a 1 XX EX 9",
            "MSETEX 1 a 1 NX",
            "MSETEX many a 1",
            "SETBIT k 1 1",
            "BITFIELD k GET u8 0 SET u8 0 1",
            "BITFIELD k INCRBY u8 0 1",
            "BITOP XOR d a d",
            "BITOP NEWOPERATION d a",
            "DELEX k",
        ],
    );
}

#[test]
fn keys() {
    assert_all(
        Safety::Repeatable,
        &[
            "EXPIRE k 600",
            "EXPIRE k 86400 XX",
            "PEXPIRE k 600000",
            "RESTORE k 0 payload REPLACE",
            "RESTORE k 0 payload IDLETIME 5 replace FREQ 1 ABSTTL",
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
            "EXPIRE k 1",
            "PEXPIRE k 600",
            "EXPIRE k 600 NX",
            "EXPIRE k 600 GT",
            "EXPIRE k 600 LT",
            "EXPIRE k 600 XX GT",
            "EXPIRE k 600 NEWOPTION",
            "EXPIREAT k 99",
            "PEXPIREAT k 99",
            "RENAME a b",
            "RENAMENX a b",
            "MOVE k 1",
            "COPY a b",
            "COPY a b REPLACE",
            "RESTORE k 0 payload",
            "RESTORE k 0 payload REPLACE NEWOPTION",
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
            "HEXPIRE h 600 FIELDS 1 f",
            "HEXPIRE h 600 XX FIELDS 1 NX",
            "HEXPIRE h 600 FIELDS 1 NX XX",
            "HPEXPIRE h 600000 FIELDS 1 f",
            "HGETEX h EX 600 FIELDS 1 f",
            "HGETEX h FIELDS 2 EXAT f EX 600",
            "HGETEX h PERSIST FIELDS 1 f",
            "HSETEX h EX 9 FIELDS 1 FNX v",
            "HSETEX h FXX FIELDS 1 f v",
            "HSETEX h FIELDS 1 f FNX KEEPTTL",
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
            "HEXPIRE h 600 NX FIELDS 1 f",
            "HEXPIRE h 600 FIELDS 1 f NX",
            "HEXPIRE h 10 FIELDS 1 f",
            "HEXPIRE h 600 FIELDS many f",
            "HEXPIRE h 0 FIELDS 1 f",
            "HEXPIREAT h 99 FIELDS 1 f",
            "HPERSIST h FIELDS 1 f",
            "HGETEX h EXAT 99 FIELDS 1 f",
            "HGETEX h EX 60 FIELDS 1 f",
            "HGETEX h FIELDS 1 f EX 60",
            "HGETEX h FIELDS 1 f EXAT 99",
            "HGETEX h FIELDS 1 f NEWOPTION",
            "HSETEX h FNX FIELDS 1 f v",
            "HSETEX h FIELDS 1 f v FNX",
            "HSETEX h FXX EX 9 FIELDS 1 f v",
            "HSETEX h NX FIELDS 1 f v",
            "HIMPORT SET h f v",
            "HGETDEL h FIELDS 1 f",
            "LPUSH l v",
            "LPOP l",
            "LMOVE a b LEFT LEFT",
            "LSET l 0 v",
            "LTRIM l 0 9",
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
            "GEOSEARCHSTORE d s FROMLONLAT 1 2 BYBOX 1 2 km ASC COUNT 5 ANY STOREDIST",
            "ZRANGESTORE d s (1 5 BYSCORE REV LIMIT 0 5",
            "ZUNIONSTORE d 1 a WEIGHTS 2 AGGREGATE MAX",
        ],
    );
    assert_all(
        Safety::ReadOnly,
        &[
            "GEORADIUS k 1 2 3 km WITHCOORD",
            "GEORADIUSBYMEMBER k STORE 3 km ASC",
            "XREAD COUNT 5 BLOCK 0 STREAMS s 5-1",
            "XREAD BLOCK 0 STREAMS $ 5-1",
            "XREAD STREAMS s $",
            "XREAD STREAMS s +",
            "TS.READ k $ MAX_COUNT 5",
            "TS.READ k - BLOCK 0 1",
            "ARGET a 5",
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
            "XREAD BLOCK 0 STREAMS s $",
            "xread block 0 count 5 streams a b 5-1 $",
            "XREAD BLOCK 0 STREAMS s +",
            "XREAD NEWOPTION STREAMS s 0",
            "TS.READ k $ BLOCK 0 1",
            "TS.READ k + MAX_COUNT 5 BLOCK 0 1",
            "XGROUP SETID s g $",
            "XGROUP SETID s g 0",
            "XSETID s 1-1",
            "PFMERGE d a",
            "ZRANGESTORE d s 0 1 NEWOPTION",
            "ZUNIONSTORE d 1 a NEWOPTION",
            "GEOSEARCHSTORE d s FROMMEMBER m BYRADIUS 1 km NEWOPTION",
            "GEORADIUS k 1 2 3 km NEWOPTION",
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

/// A second run may skip entries, but it changes nothing.
#[test]
fn read_from_now_on_is_read() {
    for text in ["XREAD BLOCK 0 STREAMS s $", "TS.READ k + BLOCK 0 1"] {
        assert!(is_read(&command(text)) && reads_from_now_on(&command(text)), "{text}");
    }
    for text in ["XREAD STREAMS s $", "XREAD BLOCK 0 STREAMS s 5-1", "GET k"] {
        assert!(is_read(&command(text)) && !reads_from_now_on(&command(text)), "{text}");
    }
    for text in ["XREAD NEWOPTION BLOCK 0 STREAMS s $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >", "SET k v"]
    {
        assert!(!is_read(&command(text)) && !reads_from_now_on(&command(text)), "{text}");
    }
}

#[test]
fn scripts_modules_and_the_server() {
    assert_all(
        Safety::Repeatable,
        &[
            "SCRIPT LOAD return",
            "FUNCTION LOAD REPLACE code",
            "JSON.SET k $ 1",
            "JSON.SET k $.a.b-c 1",
            "JSON.SET k .a 1",
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
            "SENTINEL GET-PRIMARY-ADDR-BY-NAME m",
            "SENTINEL PRIMARY m",
            "SENTINEL PRIMARIES",
            "CLUSTER GETSLOTMIGRATIONS",
            "SEARCH.CLUSTERINFO",
            "FT.GET i d",
            "FT.MGET i d",
            "CONFIG HELP",
            "PING",
            "JSON.GET k",
            "FT.SEARCH i q",
            "FT.AGGREGATE i q",
            "FT.CONFIG GET x",
            "HOTKEYS GET",
            "COMMANDLOG GET 5 slow",
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
            "CONFIG SET save x",
            "CONFIG REWRITE",
            "ACL LOAD",
            "CLIENT PAUSE 10",
            "CLIENT UNPAUSE",
            "FUNCTION LOAD REPLACE NEWOPTION code",
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
            "SENTINEL IS-PRIMARY-DOWN-BY-ADDR h 1 0 *",
            "JSON.SET k $ 1 NX",
            "JSON.SET k $.a[?(@.n==1)].n 2",
            "JSON.SET k $..n 2",
            "JSON.SET k $.a[0] 2",
            "JSON.SET k $.* 2",
            "FT.AGGREGATE i q WITHCURSOR",
            "FT.HYBRID i SEARCH q WITHCURSOR",
            "FT.CURSOR READ i 5",
            "FT.SYNUPDATE i g t",
            "TS.ADD t * 1",
        ],
    );
}

#[test]
fn pipeline_safety_is_that_of_least_safe_command() {
    assert_eq!(pipeline_safety(&pipeline(&[])), Safety::ReadOnly);
    assert_eq!(pipeline_safety(&pipeline(&["GET a", "GET b"])), Safety::ReadOnly);
    assert_eq!(pipeline_safety(&pipeline(&["SET a 1", "MSET b 2", "EXPIRE b 600"])), Safety::Repeatable);
    assert_eq!(pipeline_safety(&pipeline(&["SET a 1", "GET b"])), Safety::Repeatable);
    assert_eq!(pipeline_safety(&pipeline(&["SET a 1", "INCR b"])), Safety::Unsafe);
}

#[test]
fn pipeline_with_read_before_write_is_unsafe() {
    assert_eq!(pipeline_safety(&pipeline(&["GET a", "SET a 1"])), Safety::Unsafe);
    assert_eq!(pipeline_safety(&pipeline(&["SET a 1 XX", "SET a 1"])), Safety::Unsafe);
    assert_eq!(pipeline_safety(&pipeline(&["EXPIRE a 600", "SET a 1"])), Safety::Unsafe);
    assert_eq!(pipeline_safety(&pipeline(&["BITOP AND c a b", "SET a 1"])), Safety::Unsafe);
}

#[test]
fn atomic_pipeline_is_unsafe() {
    assert_eq!(pipeline_safety(pipeline(&["GET a"]).atomic()), Safety::Unsafe);
}

/// Compares with the servers' own tables: commands flagged `readonly` read, commands flagged `write` do not.
#[test]
fn agrees_with_the_servers_tables() {
    // Flagged as writes whatever their options; without the options that write, they only read.
    let read_without_options = ["bitfield", "georadius", "georadiusbymember", "getex", "hgetex", "sort"];
    // These change an index or move a cursor; the server flags them as reads since neither is a key.
    let no_reads = ["ft.synupdate", "ft.cursor|read", "ft.cursor|del"];

    for entry in entries() {
        let safety = safety(&command(&entry.words()));
        let reads = safety == Safety::ReadOnly;
        if entry.is("readonly") {
            assert_eq!(reads, !no_reads.contains(&entry.name), "{} of {}", entry.name, entry.server);
        }
        if entry.is("write") {
            let expected = read_without_options.contains(&entry.name);
            assert_eq!(reads, expected, "{} of {}", entry.name, entry.server);
        }
    }
}
