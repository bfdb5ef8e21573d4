//! Properties of the monitor under any inputs, and beside a member that lies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::topology::cluster::owners::MAX_HINTS;
use crate::topology::cluster::scenario::{address, id};
use crate::topology::cluster::{NodeHealth, NodeRole, SlotRange, ViewedNode};

/// The nodes that there are, and two that only lies know.
const NODES: [&str; 6] = ["a", "b", "c", "ra", "rb", "rc"];
const STRANGERS: [&str; 2] = ["x", "y"];
const SEEDS: [&str; 3] = ["a", "b", "rc"];

#[derive(Clone, Debug)]
enum Step {
    /// A node answers with the truth.
    Honest(usize),
    /// A node, or what is at its address, answers with anything.
    View(usize, ClusterView),
    Late(usize),
    Moved(u16, Option<usize>, usize),
    RoleMaster(usize),
    Shard(usize, u8),
    Tick,
}

fn name(index: usize) -> &'static str {
    NODES.iter().chain(&STRANGERS).nth(index).copied().unwrap_or("nobody")
}

fn ranges() -> impl Strategy<Value = Vec<SlotRange>> {
    let range =
        prop::sample::select(&[(0, 5460), (5461, 10922), (10923, 16383), (5, 5), (0, 99), (0, 16383)][..]);
    prop::collection::vec(range.prop_map(|(first, last)| SlotRange::new(first, last).unwrap()), 0..3)
}

fn viewed() -> impl Strategy<Value = ViewedNode> {
    let role = prop_oneof![
        3 => Just(NodeRole::Master),
        2 => (0..8_usize).prop_map(|master| NodeRole::Replica(Some(id(name(master))))),
        1 => Just(NodeRole::Replica(None)),
        1 => Just(NodeRole::Unknown),
    ];
    let health = prop::sample::select(&[NodeHealth::Well, NodeHealth::Suspected, NodeHealth::Failed][..]);
    let epoch =
        prop_oneof![6 => (0..9_u64).prop_map(Some), 1 => any::<u64>().prop_map(Some), 1 => Just(None)];
    let at = prop::option::weighted(0.9, 0..8_usize);
    (at, role, health, epoch, any::<bool>(), ranges()).prop_map(
        |(at, role, health, epoch, link_up, slots)| ViewedNode {
            address: at.map(|at| address(name(at))),
            role,
            health,
            epoch,
            link_up,
            slots: if role == NodeRole::Master { slots } else { Vec::new() },
            ..ViewedNode::default()
        },
    )
}

fn any_view() -> impl Strategy<Value = ClusterView> {
    let nodes = prop::collection::btree_map((0..8_usize).prop_map(|node| id(name(node))), viewed(), 0..8);
    (nodes, prop::option::weighted(0.9, 0..8_usize)).prop_map(|(mut nodes, myself)| {
        let myself = myself.map(|myself| id(name(myself))).filter(|myself| nodes.contains_key(myself));
        // Most nodes list each node at its own address.
        for (node_id, node) in &mut nodes {
            let own = (0..8).map(name).find(|name| id(name) == *node_id);
            if node.epoch.is_some_and(|epoch| epoch % 4 != 3) {
                node.address = node.address.as_ref().and(own).map(address);
            }
        }
        ClusterView { myself, nodes }
    })
}

/// A step, and the milliseconds before it.
fn step() -> impl Strategy<Value = (u64, Step)> {
    let node = || 0..8_usize;
    let step = prop_oneof![
        6 => (0..6_usize).prop_map(Step::Honest),
        6 => (node(), any_view()).prop_map(|(node, view)| Step::View(node, view)),
        2 => node().prop_map(Step::Late),
        4 => (0..16_400_u16, prop::option::weighted(0.9, node()), node()).prop_map(|(slot, to, from)| Step::Moved(slot, to, from)),
        2 => node().prop_map(Step::RoleMaster),
        6 => (0..5_usize, 0..5_u8).prop_map(|(shard, what)| Step::Shard(shard, what)),
        2 => Just(Step::Tick),
    ];
    let pause = prop_oneof![3 => Just(0_u64), 3 => 0..50_u64, 1 => 0..3000_u64];
    (pause, step)
}

/// The view of a node: three masters with a replica each.
fn truth(myself: &str) -> ClusterView {
    let master = |first, last, epoch| ViewedNode {
        role: NodeRole::Master,
        epoch: Some(epoch),
        slots: vec![SlotRange::new(first, last).unwrap()],
        ..ViewedNode::default()
    };
    let replica = |of: &str| ViewedNode {
        role: NodeRole::Replica(Some(id(of))),
        epoch: Some(1),
        ..ViewedNode::default()
    };
    let nodes = [
        ("a", master(0, 5460, 1)),
        ("b", master(5461, 10922, 2)),
        ("c", master(10923, 16383, 3)),
        ("ra", replica("a")),
        ("rb", replica("b")),
        ("rc", replica("c")),
    ];
    let node = |(name, node): (&str, ViewedNode)| {
        (id(name), ViewedNode { address: Some(address(name)), link_up: true, ..node })
    };
    ClusterView { myself: Some(id(myself)), nodes: nodes.map(node).into() }
}

/// Checks the actions of a monitor against each other.
struct Checked {
    monitor: ClusterMonitor,
    now: Instant,
    followed: BTreeMap<ShardId, Address>,
    removed: BTreeSet<ShardId>,
    held: BTreeSet<ShardId>,
    watched: BTreeSet<ShardId>,
    table: Option<SlotTable>,
    in_flight: BTreeMap<Address, Instant>,
    /// When the last queries were sent.
    sent: VecDeque<Instant>,
    queried: BTreeSet<Address>,
}

impl Checked {
    fn new() -> Self {
        let now = Instant::now() + Duration::from_secs(60);
        let config = ClusterConfig {
            seeds: SEEDS.map(address).to_vec(),
            query_timeout: Duration::from_secs(1),
            hold: Duration::from_secs(1),
            spread: 3,
        };
        Self {
            monitor: ClusterMonitor::new(config, now),
            now,
            followed: BTreeMap::new(),
            removed: BTreeSet::new(),
            held: BTreeSet::new(),
            watched: BTreeSet::new(),
            table: None,
            in_flight: BTreeMap::new(),
            sent: VecDeque::new(),
            queried: BTreeSet::new(),
        }
    }

    fn handle(&mut self, input: ClusterInput) -> Vec<ClusterAction> {
        if let ClusterInput::View { asked, .. } = &input {
            self.in_flight.remove(asked);
        }
        let is_tick = matches!(input, ClusterInput::Tick);
        let actions = self.monitor.handle(input, self.now);
        actions.iter().for_each(|action| self.check(action));
        if is_tick {
            assert!(self.monitor.next_tick() > self.now, "no endless ticks");
        }
        self.check_bounds();
        actions
    }

    fn check(&mut self, action: &ClusterAction) {
        match action {
            ClusterAction::Follow { shard, address } => {
                assert!(!self.removed.contains(shard), "an ID is not used again");
                self.followed.insert(*shard, address.clone());
                self.held.remove(shard);
            }
            ClusterAction::Table(table) => {
                let shards: BTreeMap<_, _> =
                    table.shards.iter().map(|shard| (shard.id, shard.master.clone())).collect();
                assert_eq!(shards.len(), table.shards.len());
                for (shard, master) in shards {
                    assert_eq!(
                        self.followed.get(&shard),
                        Some(&master),
                        "shard {shard} is followed before it is used"
                    );
                }
                let nodes: BTreeSet<_> = table.shards.iter().map(|shard| shard.node).collect();
                assert_eq!(nodes.len(), table.shards.len(), "no node is the master of two shards");
                assert!(
                    (0..16_384)
                        .all(|slot| table.slots.owner(slot).is_some() == table.shard_of(slot).is_some())
                );
                assert_ne!(self.table.as_ref(), Some(table), "a table is sent when it has changed");
                self.table = Some(table.clone());
            }
            ClusterAction::RemoveShard { shard } => {
                assert!(self.followed.remove(shard).is_some());
                assert!(
                    self.table
                        .as_ref()
                        .is_some_and(|table| table.shards.iter().all(|in_use| in_use.id != *shard))
                );
                self.removed.insert(*shard);
                self.held.remove(shard);
                self.watched.remove(shard);
            }
            ClusterAction::Hold { shard } => {
                assert!(self.followed.contains_key(shard) && self.held.insert(*shard))
            }
            ClusterAction::Release { shard } => assert!(self.held.remove(shard)),
            ClusterAction::Watch { shard, replicas } => {
                assert!(!replicas.is_empty() && !replicas.contains(&self.followed[shard]));
                self.watched.insert(*shard);
            }
            ClusterAction::Unwatch { shard } => assert!(self.watched.remove(shard)),
            ClusterAction::Query(address) => self.check_query(address),
            ClusterAction::Warn(_) | ClusterAction::Fail { .. } => {}
        }
    }

    fn check_query(&mut self, address: &Address) {
        let before = self.in_flight.insert(address.clone(), self.now);
        assert!(
            before.is_none_or(|before| before + Duration::from_secs(2) <= self.now),
            "one query at a time"
        );
        self.sent.push_back(self.now);
        while self.sent.front().is_some_and(|sent| *sent + Duration::from_secs(1) <= self.now) {
            self.sent.pop_front();
        }
        assert!(self.sent.len() <= 11, "few queries in a second");
        self.queried.insert(address.clone());
    }

    fn check_bounds(&self) {
        let names = NODES.len() + STRANGERS.len();
        assert!(self.monitor.members.len() <= names && self.monitor.members.views().len() <= 8);
        assert!(
            self.monitor.queries.len() <= names + SEEDS.len()
                && self.monitor.hints.len() <= MAX_HINTS + names
        );
        assert!(self.monitor.shards.len() <= names);
    }

    fn run(&mut self, step: Step) {
        let asked_at = self.now;
        let input = match step {
            Step::Honest(node) => {
                ClusterInput::View { asked: address(name(node)), asked_at, view: Ok(truth(name(node))) }
            }
            Step::View(node, view) => {
                ClusterInput::View { asked: address(name(node)), asked_at, view: Ok(view) }
            }
            Step::Late(node) => {
                let view = Err(ViewError::Unreachable("no answer".to_owned()));
                ClusterInput::View { asked: address(name(node)), asked_at, view }
            }
            Step::Moved(slot, to, from) => {
                ClusterInput::Moved { slot, to: to.map(|to| address(name(to))), from: address(name(from)) }
            }
            Step::RoleMaster(node) => ClusterInput::RoleMaster { node: address(name(node)) },
            Step::Shard(shard, what) => {
                let shard = ShardId(shard);
                match what {
                    0 => ClusterInput::Connected { shard },
                    1 => ClusterInput::Silent { shard },
                    2 => ClusterInput::Lost { shard },
                    3 => ClusterInput::NotMaster { shard },
                    _ => ClusterInput::Down { shard },
                }
            }
            Step::Tick => ClusterInput::Tick,
        };
        self.handle(input);
    }

    /// Lets time pass, and lets the timers fire that are due.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.monitor.next_tick() <= until {
            self.now = self.now.max(self.monitor.next_tick());
            self.handle(ClusterInput::Tick);
        }
        self.now = until;
    }

    /// Lets time pass while every node answers truly, and nobody is at other addresses.
    fn pass_honestly(&mut self, time: Duration) {
        let until = self.now + time;
        while self.monitor.next_tick() <= until {
            self.now = self.now.max(self.monitor.next_tick());
            self.handle(ClusterInput::Tick);
            for shard in self.followed.keys().copied().collect::<Vec<_>>() {
                self.handle(ClusterInput::Connected { shard });
            }
            while let Some((asked, asked_at)) = self.in_flight.pop_first() {
                self.now += Duration::from_millis(1);
                let node = NODES.iter().find(|node| address(node) == asked);
                let view = node.map(|node| truth(node));
                let view = view.ok_or_else(|| ViewError::Unreachable("nobody is there".to_owned()));
                self.handle(ClusterInput::View { asked, asked_at, view });
            }
        }
        self.now = self.now.max(until);
    }

    /// The masters of the table and the first slot of each range.
    fn owners(&self) -> Vec<(u16, Address)> {
        let Some(table) = &self.table else { return Vec::new() };
        let owner = |(range, owner): &(SlotRange, usize)| (range.first, table.shards[*owner].master.clone());
        table.slots.ranges().iter().map(owner).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_inputs_give_consistent_actions_and_are_got_over(steps in prop::collection::vec(step(), 0..80)) {
        let mut checked = Checked::new();
        checked.handle(ClusterInput::Tick);
        for (pause, step) in steps {
            checked.pass(Duration::from_millis(pause));
            checked.run(step);
        }
        // Whatever has been said, the truth prevails in the end.
        checked.pass_honestly(Duration::from_secs(200));
        prop_assert_eq!(checked.owners(), [(0, address("a")), (5461, address("b")), (10923, address("c"))]);
        let table = checked.table.as_ref().unwrap();
        let replicas: Vec<_> = table.shards.iter().map(|shard| shard.replicas.len()).collect();
        prop_assert_eq!(replicas, [1, 1, 1]);
    }

    #[test]
    fn no_address_of_one_member_alone_is_used(
        steps in prop::collection::vec((step(), any_view(), any::<bool>()), 0..60),
        liar in 0..6_usize,
    ) {
        let mut checked = Checked::new();
        checked.handle(ClusterInput::Tick);
        checked.pass_honestly(Duration::from_secs(5));
        for ((pause, step), lie, lies) in steps {
            checked.pass_honestly(Duration::from_millis(pause));
            let asked_at = checked.now;
            let asked = address(name(liar));
            match step {
                _ if lies => {
                    let view = ClusterView { myself: Some(id(name(liar))), ..lie };
                    checked.handle(ClusterInput::View { asked, asked_at, view: Ok(view) });
                }
                Step::View(..) | Step::Late(_) => {}
                // It redirects to whatever it likes.
                Step::Moved(slot, to, _) => checked.run(Step::Moved(slot, to, liar)),
                step => checked.run(step),
            };
        }
        for stranger in STRANGERS {
            prop_assert!(!checked.queried.contains(&address(stranger)));
            prop_assert!(!checked.followed.values().any(|followed| *followed == address(stranger)));
        }
    }
}

#[test]
fn epoch_of_a_shard_is_that_of_its_master() {
    let mut checked = Checked::new();
    assert_eq!(checked.monitor.epoch(ShardId(0)), 0);
    checked.pass_honestly(Duration::from_secs(5));
    let epochs: Vec<_> = (0..4).map(|shard| checked.monitor.epoch(ShardId(shard))).collect();
    assert_eq!(epochs, [1, 2, 3, 0]);
}

#[test]
fn floods_of_replies_cost_few_queries() {
    let mut checked = Checked::new();
    checked.pass_honestly(Duration::from_secs(5));
    let shard = ShardId(0);
    let floods = [
        ClusterInput::Moved { slot: 5, to: Some(address("ra")), from: address("a") },
        ClusterInput::Moved { slot: 6, to: Some(address("b")), from: address("a") },
        ClusterInput::Moved { slot: 7, to: Some(address("x")), from: address("a") },
        ClusterInput::Moved { slot: 8, to: None, from: address("c") },
        ClusterInput::RoleMaster { node: address("ra") },
        ClusterInput::Down { shard },
        ClusterInput::NotMaster { shard },
        ClusterInput::Lost { shard },
    ];
    let mut taken = 0;
    for input in floods {
        for _ in 0..1_000 {
            taken += checked.handle(input.clone()).len();
        }
    }
    assert!(taken < 20, "{taken}");
}

#[test]
fn views_without_epochs_lead_through_a_failover() {
    // CLUSTER SLOTS alone: no epochs, and replicas that are not in sync are not listed.
    let view = |masters: [&str; 3], myself: Option<&str>| {
        let mut view = truth("a");
        view.myself = myself.map(id);
        for (range, master) in [(0, 5460), (5461, 10922), (10923, 16383)].into_iter().zip(masters) {
            let slots = vec![SlotRange::new(range.0, range.1).unwrap()];
            let node = view.nodes.get_mut(&id(master)).unwrap();
            (node.role, node.slots) = (NodeRole::Master, slots);
        }
        if masters[0] != "a" {
            view.nodes.remove(&id("a"));
        }
        view.nodes.values_mut().for_each(|node| node.epoch = None);
        Ok(view)
    };
    let mut checked = Checked::new();
    checked.handle(ClusterInput::Tick);
    let mut answer = |asked: &str, masters, myself, shard: Option<ClusterInput>| {
        let asked_at = checked.now;
        checked.handle(ClusterInput::View { asked: address(asked), asked_at, view: view(masters, myself) });
        checked.now += Duration::from_millis(200);
        shard.into_iter().for_each(|input| drop(checked.handle(input)));
        checked.owners().first().map(|(_, owner)| owner.clone())
    };
    let (before, after) = (["a", "b", "c"], ["ra", "b", "c"]);
    assert_eq!(answer("a", before, Some("a"), None), None);
    assert_eq!(answer("b", before, Some("b"), None), Some(address("a")));
    // A replica that is not in sync yet does not say who it is, and is no other node for that.
    let lost = ClusterInput::Lost { shard: ShardId(0) };
    assert_eq!(answer("rb", before, None, Some(lost)), Some(address("a")));
    assert_eq!(
        answer("b", after, Some("b"), None),
        Some(address("a")),
        "what others say makes the client ask"
    );
    assert_eq!(answer("ra", after, Some("ra"), None), Some(address("ra")));
    // The old master comes back and does not know it yet.
    let up = ClusterInput::Connected { shard: ShardId(0) };
    assert_eq!(answer("rb", after, None, Some(up)), Some(address("ra")));
    assert_eq!(answer("a", before, Some("a"), None), Some(address("ra")));
}

#[test]
fn hold_lasts_as_long_as_it_is_set() {
    let mut checked = Checked::new();
    checked.pass_honestly(Duration::from_secs(5));
    checked.monitor.set_hold(Duration::from_millis(100));
    checked.handle(ClusterInput::Connected { shard: ShardId(0) });
    let actions = checked.handle(ClusterInput::NotMaster { shard: ShardId(0) });
    assert!(actions.contains(&ClusterAction::Hold { shard: ShardId(0) }), "{actions:?}");
    checked.pass(Duration::from_millis(99));
    assert!(checked.held.contains(&ShardId(0)));
    checked.pass(Duration::from_millis(1));
    assert!(!checked.held.contains(&ShardId(0)));
}
