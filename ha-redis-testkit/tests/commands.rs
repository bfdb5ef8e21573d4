//! Compares what the core knows of commands with what a real server says of them: keys, policies and hash slots.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;

use ha_redis_core::command::{CommandKeys, RequestPolicy, ResponsePolicy, keys, policy};
use ha_redis_core::redis::Cmd;
use ha_redis_core::routing::Slot;
use ha_redis_testkit::{Error, Reply, Server};

/// Each line is a command and its keys.
const SAMPLES: &str = include_str!("../../ha-redis-core/src/command/tables/key_samples.txt");

/// Calls in which the server looks for keys less exactly than the command does: it refuses the first four, and uses the
/// last of two destinations.
const SEARCHED_COARSELY: [&str; 5] = [
    "EVAL s +1 a",
    "EVAL s 01 a",
    "XREAD COUNT STREAMS STREAMS a 0",
    "XREAD STREAMS a b 1",
    "GEORADIUS k 1 1 1 km STORE c STOREDIST d",
];

/// Commands with tips that newer servers correct: `MSETNX` sets all keys or none, `LATENCY RESET` replies a number.
const CORRECTED: [&str; 2] = ["latency reset", "msetnx"];

/// Commands with policies for which Redis 7.0 has no tips, or only one of two. Newer servers have more tips and commands.
const WITHOUT_TIPS: [&str; 63] = [
    "acl deluser",
    "acl load",
    "acl log",
    "acl save",
    "acl setuser",
    "bgrewriteaof",
    "bgsave",
    "client caching",
    "client getname",
    "client getredir",
    "client id",
    "client info",
    "client kill",
    "client list",
    "client no-evict",
    "client pause",
    "client reply",
    "client setname",
    "client tracking",
    "client trackinginfo",
    "client unblock",
    "client unpause",
    "cluster addslots",
    "cluster addslotsrange",
    "cluster bumpepoch",
    "cluster count-failure-reports",
    "cluster countkeysinslot",
    "cluster delslots",
    "cluster delslotsrange",
    "cluster failover",
    "cluster flushslots",
    "cluster forget",
    "cluster getkeysinslot",
    "cluster links",
    "cluster meet",
    "cluster myid",
    "cluster replicate",
    "cluster reset",
    "cluster saveconfig",
    "cluster set-config-epoch",
    "cluster setslot",
    "config resetstat",
    "config rewrite",
    "debug",
    "failover",
    "lastsave",
    "module load",
    "module loadex",
    "module unload",
    "monitor",
    "pubsub channels",
    "pubsub numpat",
    "pubsub numsub",
    "pubsub shardchannels",
    "pubsub shardnumsub",
    "randomkey",
    "replicaof",
    "role",
    "save",
    "scan",
    "shutdown",
    "slaveof",
    "slowlog get",
];

/// A command of the server, or a subcommand, as `COMMAND` describes it.
struct Command {
    words: Vec<String>,
    /// The least number of arguments, with the name.
    arity: usize,
    has_keys: bool,
    is_container: bool,
    tips: BTreeSet<String>,
}

fn commands(server: &Server) -> Vec<Command> {
    let mut commands = Vec::new();
    for command in server.query(&["COMMAND"]).unwrap().items() {
        commands.push(read_command(command));
        commands.extend(command.items()[9].items().iter().map(read_command));
    }
    assert!(commands.len() > 300, "only {} commands", commands.len());
    commands
}

fn read_command(reply: &Reply) -> Command {
    let fields = reply.items();
    let arity = fields[1].integer().unwrap().unsigned_abs();
    Command {
        words: fields[0].text().unwrap().split('|').map(str::to_owned).collect(),
        arity: usize::try_from(arity).unwrap(),
        has_keys: !fields[8].items().is_empty(),
        is_container: !fields[9].items().is_empty(),
        tips: fields[7].items().iter().map(|tip| tip.text().unwrap().to_owned()).collect(),
    }
}

fn cmd<'a>(words: impl IntoIterator<Item = &'a str>) -> Cmd {
    let mut cmd = Cmd::new();
    words.into_iter().for_each(|word| _ = cmd.arg(word));
    cmd
}

/// Returns the keys in alphabetical order: servers return a destination last. `None` if there are none.
fn keys_here(words: &[&str]) -> Option<Vec<String>> {
    let cmd = cmd(words.iter().copied());
    let CommandKeys::Keys(keys) = keys(&cmd) else { return None };
    let mut keys: Vec<_> = keys.iter().map(|key| String::from_utf8(key.to_vec()).unwrap()).collect();
    keys.sort();
    Some(keys)
}

/// Like [`keys_here`]; an error if the server does not take the arguments for this command's.
fn keys_of_server(server: &Server, words: &[&str]) -> Result<Option<Vec<String>>, Error> {
    let query: Vec<_> = ["COMMAND", "GETKEYS"].into_iter().chain(words.iter().copied()).collect();
    match server.query(&query) {
        Ok(keys) => {
            let mut keys: Vec<_> = keys.items().iter().map(|key| key.text().unwrap().to_owned()).collect();
            keys.sort();
            Ok((!keys.is_empty()).then_some(keys))
        }
        Err(Error::Refused { message, .. }) if message.contains("no key arguments") => Ok(None),
        Err(error) => Err(error),
    }
}

fn samples() -> impl Iterator<Item = Vec<&'static str>> {
    let lines = SAMPLES.lines().map(|line| line.split(" => ").next().unwrap());
    lines.map(|line| line.split(' ').map(|word| if word == r#""""# { "" } else { word }).collect())
}

#[test]
fn every_command_of_the_server_is_known() {
    let server = Server::start().unwrap();
    let is_unknown = |command: &Command| {
        let cmd = cmd(command.words.iter().map(String::as_str));
        matches!(keys(&cmd), CommandKeys::Unknown).then(|| command.words.join(" "))
    };
    let unknown: Vec<_> = commands(&server).iter().filter_map(is_unknown).collect();
    assert!(unknown.is_empty(), "add them to command/tables/commands.rs: {unknown:?}");
}

#[test]
fn keys_are_those_that_the_server_finds() {
    let server = Server::start().unwrap();
    let (mut compared, mut with_keys) = (0, 0);
    for command in commands(&server) {
        let mut compared_with_keys = false;
        // Numbers, which also count the keys behind them.
        let numbers: Vec<_> = (1..=command.arity + 6).map(|number| number.to_string()).collect();
        for count in command.arity..command.arity + 6 {
            let arguments = numbers.iter().map(String::as_str);
            let words: Vec<_> =
                command.words.iter().map(String::as_str).chain(arguments).take(count).collect();
            let Ok(expected) = keys_of_server(&server, &words) else { continue };
            assert_eq!(keys_here(&words), expected, "{words:?}");
            compared += 1;
            compared_with_keys |= expected.is_some();
        }
        with_keys += usize::from(compared_with_keys);
        let has_sample = || samples().any(|sample| sample[0].eq_ignore_ascii_case(&command.words[0]));
        assert!(
            compared_with_keys || !command.has_keys || has_sample(),
            "add a line to command/tables/key_samples.txt for {:?}",
            command.words
        );
    }
    assert!(
        compared > 1000 && with_keys > 150,
        "{compared} calls were compared, {with_keys} commands with keys"
    );
}

#[test]
fn keys_of_samples_are_those_that_the_server_finds() {
    let server = Server::start().unwrap();
    let (mut compared, mut wrong) = (0, Vec::new());
    for words in samples() {
        let Ok(expected) = keys_of_server(&server, &words) else { continue };
        let ours = keys_here(&words);
        if ours != expected && !SEARCHED_COARSELY.contains(&&*words.join(" ")) {
            wrong.push(format!("{words:?}: {expected:?}, not {ours:?}"));
        }
        compared += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(compared > 80, "{compared} calls were compared");
}

#[test]
fn policies_are_the_tips_of_the_server() {
    let server = Server::start().unwrap();
    let (mut compared, mut wrong, mut without_tips) = (0, Vec::new(), BTreeSet::new());
    for command in commands(&server).iter().filter(|command| !command.is_container) {
        // With a key, which may be counted, since a command without keys is not split.
        let cmd = cmd(command.words.iter().map(String::as_str).chain(["1", "key", "value"]));
        let policy = policy(&cmd).unwrap();
        let request = match policy.request {
            RequestPolicy::AllNodes => Some("all_nodes"),
            RequestPolicy::AllShards => Some("all_shards"),
            RequestPolicy::MultiShard => Some("multi_shard"),
            RequestPolicy::Special | RequestPolicy::SlotArgument => Some("special"),
            _ => None,
        };
        let is_special = request == Some("special");
        let response = match policy.response {
            ResponsePolicy::AllSucceeded => Some("all_succeeded"),
            ResponsePolicy::OneSucceeded => Some("one_succeeded"),
            ResponsePolicy::LogicalAnd => Some("agg_logical_and"),
            ResponsePolicy::LogicalOr => Some("agg_logical_or"),
            ResponsePolicy::Min => Some("agg_min"),
            ResponsePolicy::Max => Some("agg_max"),
            ResponsePolicy::Sum => Some("agg_sum"),
            ResponsePolicy::PerNode | ResponsePolicy::AnyKey => Some("special"),
            ResponsePolicy::Single if is_special => Some("special"),
            _ => None,
        };
        let words = command.words.join(" ");
        for (name, ours) in [("request_policy:", request), ("response_policy:", response)] {
            let tip = command.tips.iter().find_map(|tip| tip.strip_prefix(name));
            if tip.is_some() && tip != ours && !CORRECTED.contains(&&*words) {
                wrong.push(format!("{words}: {name}{tip:?}, not {ours:?}"));
            }
            if tip.is_none() && ours.is_some() {
                without_tips.insert(words.clone());
            }
            compared += usize::from(tip.is_some());
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(compared > 60, "{compared} tips were compared");

    if server.query(&["INFO", "server"]).unwrap().text().unwrap().contains("redis_version:7.0.") {
        assert_eq!(without_tips, WITHOUT_TIPS.map(str::to_owned).into());
    }
}

#[test]
fn slots_are_those_of_a_cluster() {
    let server = Server::builder().config("cluster-enabled yes").start().unwrap();
    let keys =
        ["", "foo", "123456789", "{a}b", "a{b}c{d}", "foo{}{bar}", "foo{{bar}}zap", "}{", "{", "ключ{тег}"];
    // All short keys of these characters, and longer ones.
    let pieces = ["{", "}", "a", "b{c}", "\u{7f}", "{x"];
    let pairs = pieces.iter().flat_map(|first| pieces.iter().map(move |second| format!("{first}{second}")));
    let triples = pairs.clone().flat_map(|pair| pieces.iter().map(move |third| format!("{pair}{third}")));
    for key in keys.into_iter().map(str::to_owned).chain(pairs).chain(triples) {
        let slot = server.query(&["CLUSTER", "KEYSLOT", &key]).unwrap().integer();
        assert_eq!(slot, Some(Slot::of(key.as_bytes()).number().into()), "{key:?}");
    }
}
