//! The servers' own command tables, to compare ours with.

/// Each server with its commands, one on a line: the name (`container|subcommand`), and which of the flags
/// `readonly`, `write` and `blocking` it has.
const TABLES: [(&str, &str); 3] = [
    ("Redis 7.0", include_str!("tables/redis-7.0.txt")),
    ("Redis 8.10", include_str!("tables/redis-8.10.txt")),
    ("Valkey 9.1", include_str!("tables/valkey-9.1.txt")),
];

pub(super) struct Entry {
    pub(super) server: &'static str,
    pub(super) name: &'static str,
    flags: Vec<&'static str>,
}

impl Entry {
    pub(super) fn is(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// Returns the words of the command: a subcommand is a separate word.
    pub(super) fn words(&self) -> String {
        self.name.replace('|', " ")
    }
}

pub(super) fn entries() -> impl Iterator<Item = Entry> {
    TABLES.into_iter().flat_map(|(server, table)| table.lines().map(move |line| entry(server, line)))
}

fn entry(server: &'static str, line: &'static str) -> Entry {
    let mut words = line.split(' ');
    Entry { server, name: words.next().unwrap_or_default(), flags: words.collect() }
}

#[test]
fn tables_are_complete() {
    for (server, least) in [("Redis 7.0", 360), ("Redis 8.10", 590), ("Valkey 9.1", 450)] {
        let commands: Vec<Entry> = entries().filter(|entry| entry.server == server).collect();
        let flagged = |flag| commands.iter().filter(|entry| entry.is(flag)).count();
        assert!(commands.len() > least, "{server}");
        assert!(flagged("readonly") > 80 && flagged("write") > 100, "{server}");
        assert!(flagged("blocking") >= 10, "{server}");
    }
}
