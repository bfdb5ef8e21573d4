//! Key specifications and routing of each command, from the servers' own specifications.
//!
//! The terms are theirs: a key specification begins its search at an argument (`begin_search`) and finds keys from
//! there (`find_keys`). `tables/commands.rs` has a line for each command of Redis 7.0, Redis 8.10 with its modules and
//! Valkey 9.1. Its sources are `src/commands/*.json` in a server's repository and `COMMAND INFO`. The modules report only
//! the first key of `JSON.MGET` and `CMS.MERGE`, which have more.
//!
//! `tables/key_samples.txt` lists calls with their keys. A test of the testkit compares both files with a running
//! server, and lists the commands that are missing.

#[path = "tables/commands.rs"]
mod commands;

use redis::Cmd;

use super::policy::{RequestPolicy, ResponsePolicy};
use super::{arguments, upper};
use commands::COMMANDS;

/// A command, or a subcommand of a container such as `OBJECT`.
#[derive(Debug)]
pub(super) struct CommandSpec {
    name: &'static str,
    pub(super) keys: &'static [KeySpec],
    /// Which nodes run it, unless its keys alone determine that, and how their replies become one.
    pub(super) policy: Option<(RequestPolicy, ResponsePolicy)>,
    subcommands: &'static [CommandSpec],
}

/// Where some of the keys are.
#[derive(Debug)]
pub(super) struct KeySpec {
    pub(super) begin: BeginSearch,
    pub(super) find: FindKeys,
    /// The arguments are no keys, but have a slot like keys.
    pub(super) is_not_key: bool,
    /// If these keys are there, the ones of the specifications before are not.
    pub(super) is_instead: bool,
}

#[derive(Debug)]
pub(super) enum BeginSearch {
    /// At this argument; the name of the command is at 0.
    Index(usize),
    /// Behind a keyword.
    Keyword(&'static Keyword),
}

/// A keyword among the options of a command, behind which keys are.
#[derive(Debug)]
pub(super) struct Keyword {
    pub(super) words: &'static [&'static [u8]],
    /// The first argument that may be the keyword.
    pub(super) from: usize,
    /// Options with the number of their values, which may be spelled like the keyword.
    pub(super) options: &'static [(&'static [u8], usize)],
    /// The last one counts, not the first.
    pub(super) is_repeatable: bool,
}

#[derive(Debug)]
pub(super) enum FindKeys {
    /// Every `step`-th argument from the beginning up to `last`, which counts from the end if it is negative. Without
    /// `last`, the beginning alone.
    Range { last: Option<isize>, step: usize },
    /// The first half of the arguments from the beginning to the end.
    FirstHalf,
    /// The argument at the beginning counts the keys, which follow it.
    KeyNum { step: usize },
}

/// Returns the entry of a command, the one of its subcommand if it has some, or `None` if the command or its
/// subcommand is not in the table. A container without a subcommand has no keys.
pub(super) fn spec(cmd: &Cmd) -> Option<&'static CommandSpec> {
    let mut args = arguments(cmd);
    let spec = find(COMMANDS, args.next()?)?;
    match args.next() {
        Some(subcommand) if !spec.subcommands.is_empty() => find(spec.subcommands, subcommand),
        _ => Some(spec),
    }
}

fn find(commands: &'static [CommandSpec], name: &[u8]) -> Option<&'static CommandSpec> {
    let name = upper(name);
    let index = commands.binary_search_by(|command| command.name.as_bytes().cmp(&name)).ok()?;
    Some(&commands[index])
}

// What the lines of the table are made of.

const NO_KEYS: &[KeySpec] = &[];
const ONE: &[KeySpec] = &[at(1)];
const SECOND: &[KeySpec] = &[at(2)];
const TWO: &[KeySpec] = &[at(1).to(2)];
const ALL: &[KeySpec] = &[at(1).to(-1)];
const ALL_BUT_LAST: &[KeySpec] = &[at(1).to(-2)];
const PAIRS: &[KeySpec] = &[at(1).to(-1).every(2)];
const COUNTED: &[KeySpec] = &[counted(1)];
const COUNTED_SECOND: &[KeySpec] = &[counted(2)];
/// A destination, and the counted sources.
const STORED_COUNTED: &[KeySpec] = &[at(1), counted(2)];

/// `XREAD`, `XREADGROUP`. A group may be called `STREAMS`.
const STREAMS: Keyword = Keyword {
    words: &[b"STREAMS"],
    from: 1,
    options: &[(b"BLOCK", 1), (b"CLAIM", 1), (b"COUNT", 1), (b"GROUP", 2)],
    is_repeatable: false,
};
/// The keys that `BY` and `GET` read are not among the arguments.
const SORT_STORE: Keyword = Keyword {
    words: &[b"STORE"],
    from: 2,
    options: &[(b"BY", 1), (b"GET", 1), (b"LIMIT", 2)],
    is_repeatable: true,
};
/// `GEORADIUS`, `GEORADIUSBYMEMBER`
const GEO_STORE: Keyword =
    Keyword { words: &[b"STORE", b"STOREDIST"], from: 5, options: &[(b"COUNT", 1)], is_repeatable: true };
const MIGRATE_KEYS: Keyword =
    Keyword { words: &[b"KEYS"], from: 6, options: &[(b"AUTH", 1), (b"AUTH2", 2)], is_repeatable: false };

const fn command(name: &'static str, keys: &'static [KeySpec]) -> CommandSpec {
    CommandSpec { name, keys, policy: None, subcommands: &[] }
}

const fn container(name: &'static str, subcommands: &'static [CommandSpec]) -> CommandSpec {
    CommandSpec { name, keys: NO_KEYS, policy: None, subcommands }
}

impl CommandSpec {
    const fn all_nodes(self, response: ResponsePolicy) -> Self {
        Self { policy: Some((RequestPolicy::AllNodes, response)), ..self }
    }

    const fn all_shards(self, response: ResponsePolicy) -> Self {
        Self { policy: Some((RequestPolicy::AllShards, response)), ..self }
    }

    const fn multi_shard(self, response: ResponsePolicy) -> Self {
        Self { policy: Some((RequestPolicy::MultiShard, response)), ..self }
    }

    const fn slot_argument(self) -> Self {
        Self { policy: Some((RequestPolicy::SlotArgument, ResponsePolicy::Single)), ..self }
    }

    const fn special(self) -> Self {
        Self { policy: Some((RequestPolicy::Special, ResponsePolicy::Single)), ..self }
    }
}

const fn at(index: usize) -> KeySpec {
    KeySpec {
        begin: BeginSearch::Index(index),
        find: FindKeys::Range { last: None, step: 1 },
        is_not_key: false,
        is_instead: false,
    }
}

const fn after(keyword: &'static Keyword) -> KeySpec {
    KeySpec { begin: BeginSearch::Keyword(keyword), ..at(0) }
}

const fn counted(index: usize) -> KeySpec {
    KeySpec { find: FindKeys::KeyNum { step: 1 }, ..at(index) }
}

impl KeySpec {
    const fn to(self, last: isize) -> Self {
        Self { find: FindKeys::Range { last: Some(last), step: 1 }, ..self }
    }

    const fn every(self, step: usize) -> Self {
        let find = match self.find {
            FindKeys::Range { last, .. } => FindKeys::Range { last, step },
            _ => FindKeys::KeyNum { step },
        };
        Self { find, ..self }
    }

    const fn first_half(self) -> Self {
        Self { find: FindKeys::FirstHalf, ..self }
    }

    const fn not_key(self) -> Self {
        Self { is_not_key: true, ..self }
    }

    const fn instead(self) -> Self {
        Self { is_instead: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::entries;
    use super::super::{MAX_WORD_LENGTH, command};
    use super::*;

    /// Calls `check` with each line and the name of its container.
    fn each(mut check: impl FnMut(&'static str, &'static CommandSpec)) {
        for entry in COMMANDS {
            check("", entry);
            entry.subcommands.iter().for_each(|subcommand| check(entry.name, subcommand));
        }
    }

    #[test]
    fn table_is_sorted_and_in_upper_case() {
        let is_sorted = |commands: &[CommandSpec]| commands.is_sorted_by(|a, b| a.name < b.name);
        assert!(is_sorted(COMMANDS));
        assert!(COMMANDS.iter().all(|entry| is_sorted(entry.subcommands)));
        each(|_, entry| {
            assert_eq!(entry.name, entry.name.to_uppercase());
            assert!(entry.name.len() <= MAX_WORD_LENGTH, "{}", entry.name);
            assert!(entry.keys.len() <= 2, "{}", entry.name);
        });
    }

    #[test]
    fn each_line_is_found_in_any_case() {
        each(|container, entry| {
            let text = format!("{container} {}", entry.name);
            for text in [text.to_lowercase(), text] {
                let found = spec(&command(&text)).unwrap_or_else(|| panic!("{text}"));
                assert!(std::ptr::eq(found, entry), "{text}");
            }
        });
    }

    #[test]
    fn table_has_all_commands_of_servers() {
        for entry in entries() {
            assert!(spec(&command(&entry.words())).is_some(), "{}: {}", entry.server, entry.name);
        }
        for text in ["NEWCOMMAND k", "OBJECT NEWSUBCOMMAND k", "", "GETX", "GE", &"X".repeat(100)] {
            assert!(spec(&command(text)).is_none(), "{text}");
        }
    }
}
