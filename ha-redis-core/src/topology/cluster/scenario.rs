//! Runs the scenarios: text files that describe line by line what happens to a cluster, and the actions that the monitor
//! must take.
//!
//! ```text
//! # A comment, on a line of its own.
//! given a master of 0-99 200 in epoch 1              a node, as all nodes see it from here on
//! given ra replica of a
//! given x master without slots in epoch 0
//! given the seeds a b                                the configuration; all masters without this line
//! given the client follows them                      all nodes have answered, and connections are up
//! given ra takes over a in epoch 7                   ra has the slots, and a is its replica
//! given a is cut off                                 from here on a sees nothing new
//! given a believes b replica of a                    what a alone sees
//!
//! 0.10 s0 is lost                                    the input at this second
//!      -> watch s0 ra                                all actions that follow, but for queries; none without such a line
//!      -> watch s0 ra, ask ra                        the same with the queries
//!      = s0 a(ra) 0-99 200; s1 b 100-199             the table after that: master, replicas and slots of each shard
//! ```
//!
//! `given name leads to a` makes an address at which a answers.
//! Nodes can also be given as `a is suspected`, `a has failed`, `a is well`, `a is at HOST`, `a is forgotten` and
//! `a is back` (it sees what all others see). The inputs are: `a b answer`, `a answers as x` (the node at the address of a
//! is x), `a does not answer`, `a is no cluster`, `s0 is lost|silent|up|demoted|down`, `ra says master`,
//! `slot 5 moved from a to b` (or `to nobody`), and `time passes` for what is due at that moment. An answer belongs to a
//! query of the same moment, unless the line ends with `to what was asked at 0.05`. The monitor may query nodes at any
//! time in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{
    ClusterAction, ClusterConfig, ClusterInput, ClusterMonitor, ClusterView, NodeHealth, NodeId, NodeRole,
    SlotRange, SlotTable, ViewError, ViewedNode,
};
use crate::address::Address;
use crate::topology::ShardId;

#[test]
fn invalid_scenarios_fail() {
    const SETTING: &str =
        "given a master of 0-99 in epoch 1\ngiven ra replica of a\ngiven the client follows them\n";
    for (line, mistake) in [
        ("given a", "what is `given a`?"),
        ("0.1 a whispers", "what is `a whispers`?"),
        ("0.1 q answers", "no node named `q`"),
        ("0.1 s9 is lost", "what is `s9 is lost`?"),
        ("soon a answers", "what is `soon a answers`?"),
        ("0.1 s0 is lost", "expected nothing, but: watch s0 ra"),
        ("0.1 a answers\n-> hold s0", "expected hold s0, but: nothing"),
        ("0.1 s0 is lost\n-> watch s0 ra, ask q", "but: watch s0 ra"),
        ("0.1 a answers\n= s0 a 0-99", "expected s0 a 0-99, but: s0 a(ra) 0-99"),
        ("-> warn", "no input before"),
        ("0.1 a answers\n0.05 a answers", "time goes backwards"),
        ("# nothing", "no input"),
        ("0.1 a answers", "no line states what is expected"),
    ] {
        let (_, what) = run(&format!("{SETTING}{line}\n")).expect_err(line);
        assert!(what.contains(mistake), "{line}: {what}");
    }
}

/// What went wrong, and in which line.
pub(super) type Failure = (usize, String);

pub(super) fn run(text: &str) -> Result<(), Failure> {
    let mut runner = Runner::new();
    let (mut input_line, mut expectations) = (0, 0);
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let result = match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["->", actions @ ..] => runner.expect(&actions.join(" ")),
            ["=", table @ ..] => compare(&table.join(" "), &runner.table()),
            ["given", given @ ..] => runner.given(given),
            [time, input @ ..] => {
                runner.expect_no_more_actions().map_err(|what| (input_line, what))?;
                input_line = number;
                runner.at(time, input)
            }
        };
        result.map_err(|what| (number, what))?;
        expectations += usize::from(matches!(words.first(), Some(&("->" | "="))));
    }
    runner.expect_no_more_actions().map_err(|what| (input_line, what))?;
    match (input_line, expectations) {
        (0, _) => Err((0, "no input in it".to_owned())),
        (_, 0) => Err((input_line, "no line states what is expected".to_owned())),
        _ => Ok(()),
    }
}

/// A node, as another one sees it.
#[derive(Clone)]
struct Node {
    host: String,
    role: NodeRole,
    health: NodeHealth,
    epoch: u64,
    slots: Vec<SlotRange>,
}

/// What a node sees of the cluster, by the names of the nodes.
type Belief = BTreeMap<String, Node>;

struct Runner {
    world: Belief,
    /// What nodes see that do not see what all others see.
    beliefs: BTreeMap<String, Belief>,
    seeds: Vec<String>,
    /// Other addresses of nodes.
    names: BTreeMap<String, String>,
    hold: Duration,
    monitor: Option<ClusterMonitor>,
    table: Option<SlotTable>,
    start: Instant,
    now: Instant,
    /// The actions that the next line must list.
    actions_taken: Option<Vec<String>>,
}

impl Runner {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            world: Belief::new(),
            beliefs: BTreeMap::new(),
            seeds: Vec::new(),
            names: BTreeMap::new(),
            hold: Duration::from_secs(2),
            monitor: None,
            table: None,
            start,
            now: start,
            actions_taken: None,
        }
    }

    fn given(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["the", "seeds", seeds @ ..] => self.seeds = seeds.iter().map(|&seed| seed.to_owned()).collect(),
            ["the", "client", "follows", "them"] => self.follow_them(),
            ["hold", seconds] => self.hold = time(seconds).ok_or_else(|| unknown(words))?,
            [name, "leads", "to", node] => _ = self.names.insert((*name).to_owned(), (*node).to_owned()),
            [name, "is", "cut", "off"] => {
                self.known(name)?;
                self.beliefs.insert((*name).to_owned(), self.world.clone());
            }
            [name, "is", "back"] => _ = self.beliefs.remove(*name).ok_or_else(|| unknown(words))?,
            [viewer, "believes", what @ ..] => {
                let belief = self.beliefs.entry((*viewer).to_owned()).or_insert_with(|| self.world.clone());
                change(belief, what).ok_or_else(|| unknown(words))?;
            }
            _ => change(&mut self.world, words).ok_or_else(|| unknown(&[&["given"], words].concat()))?,
        }
        Ok(())
    }

    /// All nodes answer every query until all have answered.
    fn follow_them(&mut self) {
        for _ in 0..3 * self.world.len() {
            self.now = self.now.max(self.monitor().next_tick());
            let mut actions = self.handle(ClusterInput::Tick);
            while let Some(action) = actions.pop() {
                if let ClusterAction::Query(address) = action {
                    let name = self.name_at(&address);
                    let input = self.answer(host(&address), &name, self.now);
                    actions.extend(self.handle(input));
                }
            }
        }
        let shards: Vec<_> =
            self.table.iter().flat_map(|table| &table.shards).map(|shard| shard.id).collect();
        for shard in shards {
            self.handle(ClusterInput::Connected { shard });
        }
        (self.start, self.actions_taken) = (self.now, None);
    }

    /// Handles an input at its time.
    fn at(&mut self, at: &str, words: &[&str]) -> Result<(), String> {
        let at = self.start + time(at).ok_or_else(|| unknown(&[&[at], words].concat()))?;
        if at < self.now {
            return Err("time goes backwards".to_owned());
        }
        // Timers that fire in between and that no line mentions.
        while self.monitor().next_tick() < at {
            self.now = self.now.max(self.monitor().next_tick());
            self.record(ClusterInput::Tick);
            let taken = self.actions_taken.take().unwrap_or_default();
            if taken.iter().any(|action| !is_query(action)) {
                let seconds = (self.now - self.start).as_secs_f64();
                return Err(format!("at {seconds} s: expected nothing, but: {}", taken.join(", ")));
            }
        }
        self.now = at;
        self.actions_taken = Some(Vec::new());
        self.input(words)
    }

    fn input(&mut self, words: &[&str]) -> Result<(), String> {
        let (words, asked_at) = match words {
            [words @ .., "to", "what", "was", "asked", "at", at] => {
                (words, self.start + time(at).ok_or_else(|| unknown(words))?)
            }
            words => (words, self.now),
        };
        let node = |name: &str| self.known(name).map(|node| address(&node.host));
        let input = match words {
            ["time", "passes"] => ClusterInput::Tick,
            [name, "says", "master"] => ClusterInput::RoleMaster { node: node(name)? },
            ["slot", slot, "moved", "from", from, "to", to] => {
                let slot = slot.parse().map_err(|_| unknown(words))?;
                let to = if *to == "nobody" { None } else { Some(node(to)?) };
                ClusterInput::Moved { slot, to, from: node(from)? }
            }
            [shard, "is", what @ ("lost" | "silent" | "up" | "demoted" | "down")] => {
                let shard = shard.strip_prefix('s').and_then(|id| id.parse().ok()).map(ShardId);
                let has = |id: &ShardId| {
                    self.table.iter().flat_map(|table| &table.shards).any(|shard| shard.id == *id)
                };
                shard_input(shard.filter(has).ok_or_else(|| unknown(words))?, what)
            }
            [asked, "answers", "as", name] => self.answer(asked, name, asked_at),
            [names @ .., "do" | "does", "not", "answer"] => {
                let error = ViewError::Unreachable("connection refused".to_owned());
                return self.each(names, |runner, name| runner.error(name, asked_at, error.clone()));
            }
            [names @ .., "answer" | "answers"] => {
                return self.each(names, |runner, name| runner.answer(name, name, asked_at));
            }
            [names @ .., "is" | "are", "no", "cluster"] => {
                return self
                    .each(names, |runner, name| runner.error(name, asked_at, ViewError::ClusterDisabled));
            }
            _ => return Err(unknown(words)),
        };
        self.record(input);
        Ok(())
    }

    fn each(&mut self, names: &[&str], input: impl Fn(&Self, &str) -> ClusterInput) -> Result<(), String> {
        for name in names {
            if !self.names.contains_key(*name) {
                self.known(name)?;
            }
            let input = input(self, name);
            self.record(input);
        }
        Ok(())
    }

    fn known(&self, name: &str) -> Result<&Node, String> {
        let mut beliefs = self.beliefs.values();
        let node = self.world.get(name).or_else(|| beliefs.find_map(|belief| belief.get(name)));
        node.ok_or_else(|| format!("no node named `{name}`"))
    }

    /// The node that all see at an address.
    fn name_at(&self, address: &Address) -> String {
        let Address::Tcp { host, .. } = address else { return String::new() };
        if let Some(name) = self.names.get(host) {
            return name.clone();
        }
        let found = self.world.iter().find(|(_, node)| node.host == *host);
        found.map_or_else(|| host.clone(), |(name, _)| name.clone())
    }

    /// The answer of a node, at the address of another one or its own.
    fn answer(&self, asked: &str, name: &str, asked_at: Instant) -> ClusterInput {
        let belief = self.beliefs.get(name).unwrap_or(&self.world);
        let viewed = |(name, node): (&String, &Node)| {
            let epoch = match node.role {
                NodeRole::Replica(Some(master)) => belief.iter().find(|(name, _)| id(name) == master),
                _ => None,
            };
            let viewed = ViewedNode {
                address: Some(address(&node.host)),
                role: node.role,
                health: node.health,
                epoch: Some(epoch.map_or(node.epoch, |(_, master)| master.epoch)),
                link_up: node.health == NodeHealth::Well,
                slots: node.slots.clone(),
                ..ViewedNode::default()
            };
            (id(name), viewed)
        };
        let view = ClusterView { myself: Some(id(name)), nodes: belief.iter().map(viewed).collect() };
        let asked = self.known(asked).map_or_else(|_| address(asked), |node| address(&node.host));
        ClusterInput::View { asked, asked_at, view: Ok(view) }
    }

    fn error(&self, name: &str, asked_at: Instant, error: ViewError) -> ClusterInput {
        let asked = self.known(name).map_or_else(|_| address(name), |node| address(&node.host));
        ClusterInput::View { asked, asked_at, view: Err(error) }
    }

    fn record(&mut self, input: ClusterInput) {
        let actions = self.handle(input);
        let texts: Vec<_> = actions.iter().map(|action| self.action_text(action)).collect();
        self.actions_taken.get_or_insert_default().extend(texts);
    }

    fn handle(&mut self, input: ClusterInput) -> Vec<ClusterAction> {
        let now = self.now;
        let actions = self.monitor().handle(input, now);
        for action in &actions {
            if let ClusterAction::Table(table) = action {
                self.table = Some(table.clone());
            }
        }
        actions
    }

    fn expect(&mut self, expected: &str) -> Result<(), String> {
        let mut taken = self.actions_taken.take().ok_or("no input before")?;
        if !expected.split(", ").any(is_query) {
            taken.retain(|action| !is_query(action));
        }
        compare(expected, &taken.join(", "))
    }

    /// Fails if the last actions were not expected by any line.
    fn expect_no_more_actions(&mut self) -> Result<(), String> {
        let mut taken = self.actions_taken.take().unwrap_or_default();
        taken.retain(|action| !is_query(action));
        compare("", &taken.join(", "))
    }

    fn table(&self) -> String {
        let Some(table) = &self.table else { return "no table".to_owned() };
        let ranges = table.slots.ranges();
        let shard = |(index, shard): (usize, &super::TableShard)| {
            let replicas: Vec<_> = shard.replicas.iter().map(|replica| host(&replica.address)).collect();
            let replicas =
                if replicas.is_empty() { String::new() } else { format!("({})", replicas.join(" ")) };
            let slots =
                ranges.iter().filter(|(_, owner)| *owner == index).map(|(range, _)| format!(" {range}"));
            format!("s{} {}{replicas}{}", shard.id, host(&shard.master), slots.collect::<String>())
        };
        table.shards.iter().enumerate().map(shard).collect::<Vec<_>>().join("; ")
    }

    fn action_text(&self, action: &ClusterAction) -> String {
        let hosts = |list: &[Address]| list.iter().map(host).collect::<Vec<_>>().join(" ");
        match action {
            ClusterAction::Follow { shard, address } => format!("follow s{shard} {}", host(address)),
            ClusterAction::Table(_) => "table".to_owned(),
            ClusterAction::RemoveShard { shard } => format!("remove s{shard}"),
            ClusterAction::Hold { shard } => format!("hold s{shard}"),
            ClusterAction::Release { shard } => format!("release s{shard}"),
            ClusterAction::Watch { shard, replicas } => format!("watch s{shard} {}", hosts(replicas)),
            ClusterAction::Unwatch { shard } => format!("unwatch s{shard}"),
            ClusterAction::Query(address) => format!("ask {}", host(address)),
            ClusterAction::Warn(_) => "warn".to_owned(),
            ClusterAction::Fail { .. } => "fail".to_owned(),
        }
    }

    /// The monitor, made at the first input.
    fn monitor(&mut self) -> &mut ClusterMonitor {
        let masters = self.world.iter().filter(|(_, node)| node.role == NodeRole::Master);
        let seeds: Vec<_> = match self.seeds.is_empty() {
            true => masters.map(|(_, node)| address(&node.host)).collect(),
            false => self.seeds.iter().map(|seed| address(seed)).collect(),
        };
        let query_timeout = Duration::from_secs(1);
        let config = ClusterConfig { seeds, query_timeout, hold: self.hold, spread: 7 };
        let now = self.now;
        self.monitor.get_or_insert_with(|| ClusterMonitor::new(config, now))
    }
}

/// Changes what is seen of a node: `a master of 0-99 in epoch 1`, `ra replica of a`, …
fn change(belief: &mut Belief, words: &[&str]) -> Option<()> {
    let new = |role, epoch, slots| (role, epoch, slots);
    let (name, (role, epoch, slots)) = match words {
        [name, "master", "of", slots @ .., "in", "epoch", epoch] => {
            let slots = slots.iter().map(|text| range(text)).collect::<Option<Vec<_>>>()?;
            (name, new(NodeRole::Master, epoch.parse().ok()?, slots))
        }
        [name, "master", "without", "slots", "in", "epoch", epoch] => {
            (name, new(NodeRole::Master, epoch.parse().ok()?, Vec::new()))
        }
        [name, "replica", "of", master] => (name, new(NodeRole::Replica(Some(id(master))), 0, Vec::new())),
        [name, "takes", "over", master, "in", "epoch", epoch] => {
            let slots = std::mem::take(&mut belief.get_mut(*master)?.slots);
            belief.get_mut(*master)?.role = NodeRole::Replica(Some(id(name)));
            (name, new(NodeRole::Master, epoch.parse().ok()?, slots))
        }
        [name, "is", "forgotten"] => return belief.remove(*name).map(drop),
        [name, "is", "at", host] => {
            belief.get_mut(*name)?.host = (*host).to_owned();
            return Some(());
        }
        [name, health @ ..] => {
            belief.get_mut(*name)?.health = match health {
                ["is", "well"] => NodeHealth::Well,
                ["is", "suspected"] => NodeHealth::Suspected,
                ["has", "failed"] => NodeHealth::Failed,
                _ => return None,
            };
            return Some(());
        }
        [] => return None,
    };
    let old = belief.get(*name);
    let host = old.map_or_else(|| (*name).to_owned(), |old| old.host.clone());
    let health = old.map(|old| old.health).unwrap_or_default();
    belief.insert((*name).to_owned(), Node { host, role, health, epoch, slots });
    Some(())
}

fn shard_input(shard: ShardId, what: &str) -> ClusterInput {
    match what {
        "lost" => ClusterInput::Lost { shard },
        "silent" => ClusterInput::Silent { shard },
        "demoted" => ClusterInput::NotMaster { shard },
        "down" => ClusterInput::Down { shard },
        _ => ClusterInput::Connected { shard },
    }
}

fn compare(expected: &str, found: &str) -> Result<(), String> {
    let or_nothing = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
    match expected == found {
        true => Ok(()),
        false => Err(format!("expected {}, but: {}", or_nothing(expected), or_nothing(found))),
    }
}

fn unknown(words: &[&str]) -> String {
    format!("what is `{}`?", words.join(" "))
}

fn is_query(action: impl AsRef<str>) -> bool {
    action.as_ref().starts_with("ask ")
}

fn time(seconds: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

fn range(text: &str) -> Option<SlotRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    SlotRange::new(first.parse().ok()?, last.parse().ok()?)
}

/// IDs are in the order of the names.
pub(super) fn id(name: &str) -> NodeId {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    NodeId::parse(format!("{hex:0<40}").as_bytes()).expect("a name has at most 20 letters")
}

pub(super) fn address(name: &str) -> Address {
    Address::tcp(name, 6379)
}

fn host(address: &Address) -> &str {
    match address {
        Address::Tcp { host, .. } => host,
        Address::Unix(_) => "a Unix socket",
    }
}
