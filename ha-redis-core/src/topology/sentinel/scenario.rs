//! Runs the scenarios: text files that tell, line by line, how a failover goes and what the follower makes of it.
//!
//! ```text
//! # Prose, on lines of its own.
//! given s1 s2 s3 watch m with r1 r2 in epoch 1       the Sentinels, and what each knows
//! given s4 is s1                                     another address of that Sentinel, which its configuration lacks
//! given promotion_hold 0.5                           a setting
//! given the client follows m                         it has heard them all and has a connection
//!
//! 0.07 s1 publishes +selected-slave r1               at this second, this is heard
//!      -> hold, watch r1                             and this is all that is done: nothing, without such a line
//!      = following m, holding, watching r1           and then this is the state
//! ```
//!
//! What is heard: `s1 publishes CHANNEL [SERVER [for MASTER]]`, `s1 s2 answer`, `s1 answers r1 in epoch 2` (from then on),
//! `s1 answers in tilt`, `s1 answers naming s4`, `s1 answers listing m r1` (the servers that it knows), `s1 answers as s2` (with that one's id), `s1 knows no master`, `s1 does not
//! answer`, `s1 is late`, `s1 is subscribed to`, `there is a connection`, `the connection is lost`, `r1 says master`, `m says replica`, and
//! `time passes` for what is to be done at that very moment. The Sentinels are asked now and then in between. What they
//! answer was asked at that same moment, or else the line ends with `to what was asked_at at 0.05`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::{PushKind, Value};

use super::event::{CHANNELS, event_of};
use super::report::{ReportedMaster, ReportedReplica, ReportedSentinel};
use super::{Action, FailoverConfig, Input, QueryError, SentinelMonitor, SentinelReport};
use crate::address::Address;

const MASTER_NAME: &str = "mymaster";
/// When the Sentinels were asked for what is given.
const LONG_BEFORE: Duration = Duration::from_secs(1);

#[test]
fn what_a_scenario_does_not_mean_is_a_mistake() {
    const SETTING: &str = "given s1 s2 s3 watch m with r1 in epoch 1\ngiven the client follows m\n";
    for (line, mistake) in [
        ("given s1 watch", "what is `given s1 watch`?"),
        ("0.1 s1 whispers", "what is `s1 whispers`?"),
        ("0.1 s1 publishes +selected", "no channel that is listened to"),
        ("0.1 s9 answers", "no Sentinel named `s9`"),
        ("0.1 r1 says masters", "what is `r1 says masters`?"),
        ("soon s1 answers", "what is `soon s1 answers`?"),
        ("0.1 s1 publishes +selected-slave r1", "expected nothing, but: hold, watch r1"),
        ("0.1 s1 answers\n-> follow r1", "expected follow r1, but: nothing"),
        (
            "0.1 s1 publishes +selected-slave r1\n-> hold, watch r1\n2.5 s1 answers",
            "2.1 s: expected nothing, but: release",
        ),
        ("0.1 s1 answers\n= following r1", "expected following r1, but: following m"),
        ("-> ask", "nothing was heard before"),
        ("0.1 s1 answers\n0.05 s1 answers", "time goes back"),
        ("# nothing", "nothing is heard"),
        ("0.1 s1 answers", "nothing is expected"),
    ] {
        let (_, what) = run(&format!("{SETTING}{line}\n")).expect_err(line);
        assert!(what.contains(mistake), "{line}: {what}");
    }
}

/// What went wrong, and in which line.
pub(super) type Failure = (usize, String);

pub(super) fn run(text: &str) -> Result<(), Failure> {
    let mut stage = Stage::new();
    let (mut heard_in, mut expectations) = (0, 0);
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let result = match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["->", actions @ ..] => stage.expect(&actions.join(" ")),
            ["=", state @ ..] => stage.expect_state(&state.join(" ")),
            ["given", given @ ..] => stage.given(given),
            [time, heard @ ..] => {
                stage.settle().map_err(|what| (heard_in, what))?;
                heard_in = number;
                stage.at(time, heard)
            }
        };
        result.map_err(|what| (number, what))?;
        expectations += usize::from(matches!(words.first(), Some(&("->" | "="))));
    }
    stage.settle().map_err(|what| (heard_in, what))?;
    match (heard_in, expectations) {
        (0, _) => Err((0, "nothing is heard in it".to_owned())),
        (_, 0) => Err((heard_in, "nothing is expected of what is heard".to_owned())),
        _ => Ok(()),
    }
}

/// What one Sentinel would answer.
#[derive(Clone)]
struct Belief {
    id: String,
    master: Option<(String, u64)>,
    servers: Vec<String>,
    others: Vec<String>,
    tilt: bool,
}

struct Stage {
    config: FailoverConfig,
    beliefs: BTreeMap<String, Belief>,
    follower: Option<SentinelMonitor>,
    start: Instant,
    now: Instant,
    /// What was done, and is to be told by the next line.
    done: Option<Vec<String>>,
}

impl Stage {
    fn new() -> Self {
        let config = FailoverConfig {
            master_name: MASTER_NAME.to_owned(),
            early_promotion: true,
            promotion_hold: Duration::from_secs(2),
            require_majority: false,
            initial_attempts: 3,
        };
        let start = Instant::now() + LONG_BEFORE;
        Self { config, beliefs: BTreeMap::new(), follower: None, start, now: start, done: None }
    }

    fn given(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["early_promotion", "off"] => self.config.early_promotion = false,
            ["promotion_hold", seconds] => {
                self.config.promotion_hold = time(seconds).ok_or_else(|| unknown(words))?
            }
            ["sentinel_require_majority", "on"] => self.config.require_majority = true,
            [alias, "is", sentinel] => {
                let belief = self.belief(sentinel)?.clone();
                self.beliefs.insert((*alias).to_owned(), belief);
            }
            ["the", "client", "follows", master] => {
                for sentinel in self.names() {
                    self.record(self.answer(&sentinel, self.start - LONG_BEFORE)?);
                }
                self.record(Input::Connected);
                self.done = None;
                self.expect_state(&format!("following {master}"))?;
            }
            [.., "in", "epoch", _] => self.given_council(words).ok_or_else(|| unknown(words))?,
            _ => return Err(unknown(&[&["given"], words].concat())),
        }
        Ok(())
    }

    /// `s1 s2 s3 watch m with r1 r2 in epoch 1`
    fn given_council(&mut self, words: &[&str]) -> Option<()> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let watch = words.iter().position(|word| *word == "watch")?;
        let (sentinels, [_, master, "with", replicas @ .., "in", "epoch", epoch]) = words.split_at(watch)
        else {
            return None;
        };
        for &name in sentinels {
            let others: Vec<_> = sentinels.iter().copied().filter(|other| *other != name).collect();
            let belief = Belief {
                id: name.to_owned(),
                master: Some(((*master).to_owned(), epoch.parse().ok()?)),
                servers: owned(&[&[*master], replicas].concat()),
                others: owned(&others),
                tilt: false,
            };
            self.beliefs.insert(name.to_owned(), belief);
        }
        Some(())
    }

    /// Something is heard at a time of its own.
    fn at(&mut self, at: &str, words: &[&str]) -> Result<(), String> {
        let at = self.start + time(at).ok_or_else(|| unknown(&[&[at], words].concat()))?;
        if at < self.now {
            return Err("time goes back".to_owned());
        }
        // What is due on the way, of which no line tells.
        while self.follower().next_tick() < at {
            self.now = self.now.max(self.follower().next_tick());
            self.record(Input::Tick);
            let done = self.done.take().unwrap_or_default();
            if done != ["ask"] {
                let seconds = (self.now - self.start).as_secs_f64();
                return Err(format!("at {seconds} s: expected nothing, but: {}", done.join(", ")));
            }
        }
        self.now = at;
        self.done = Some(Vec::new());
        self.heard(words)
    }

    fn heard(&mut self, words: &[&str]) -> Result<(), String> {
        let (words, asked_at) = match words {
            [words @ .., "to", "what", "was", "asked", "at", at] => {
                (words, self.start + time(at).ok_or_else(|| unknown(words))?)
            }
            words => (words, self.now),
        };
        let input = match words {
            ["time", "passes"] => Input::Tick,
            ["there", "is", "a", "connection"] => Input::Connected,
            ["the", "connection", "is", "lost"] => Input::Lost,
            [server, "says", "master"] => Input::Promoted(address(server)),
            [_, "says", "replica"] => Input::NotMaster,
            [sentinel, "is", "subscribed", "to"] if self.beliefs.contains_key(*sentinel) => Input::Subscribed,
            [sentinel, "publishes", channel, subject @ ..] => self.published(sentinel, channel, subject)?,
            [sentinels @ .., "is" | "are", "late"] => {
                return self.each(sentinels, |_, name| {
                    let answer = Err(QueryError::Late("no answer in time".to_owned()));
                    Ok(Input::Answer { sentinel: address(name), asked_at, answer })
                });
            }
            [sentinels @ .., "does" | "do", "not", "answer"] => {
                return self.each(sentinels, |_, name| {
                    let answer = Err(QueryError::Refused("connection refused".to_owned()));
                    Ok(Input::Answer { sentinel: address(name), asked_at, answer })
                });
            }
            [sentinels @ .., "knows" | "know", "no", "master"] => {
                return self.each(sentinels, |stage, name| {
                    stage.belief(name)?.master = None;
                    stage.answer(name, asked_at)
                });
            }
            _ => {
                let verb = words.iter().position(|word| matches!(*word, "answer" | "answers"));
                let (sentinels, what) = words.split_at(verb.ok_or_else(|| unknown(words))?);
                return self.each(sentinels, |stage, name| {
                    stage.change(name, &what[1..])?;
                    stage.answer(name, asked_at)
                });
            }
        };
        self.record(input);
        Ok(())
    }

    fn each(
        &mut self,
        sentinels: &[&str],
        mut input: impl FnMut(&mut Self, &str) -> Result<Input, String>,
    ) -> Result<(), String> {
        for name in sentinels {
            self.belief(name)?;
            let input = input(self, name)?;
            self.record(input);
        }
        Ok(())
    }

    /// Changes what a Sentinel answers from now on.
    fn change(&mut self, name: &str, what: &[&str]) -> Result<(), String> {
        let belief = self.belief(name)?;
        if let Some(listing) = what.iter().position(|word| *word == "listing") {
            belief.servers = what[listing + 1..].iter().map(|&server| server.to_owned()).collect();
            return self.change(name, &what[..listing]);
        }
        match what {
            [] => {}
            ["in", "tilt", rest @ ..] => {
                belief.tilt = true;
                return self.change(name, rest);
            }
            ["without", "tilt"] => belief.tilt = false,
            ["naming", others @ ..] => belief.others = others.iter().map(|&other| other.to_owned()).collect(),
            ["as", id, rest @ ..] => {
                belief.id = (*id).to_owned();
                return self.change(name, rest);
            }
            [master, "in", "epoch", epoch] => {
                let epoch = epoch.parse().map_err(|_| unknown(what))?;
                belief.master = Some(((*master).to_owned(), epoch));
            }
            _ => return Err(unknown(what)),
        }
        Ok(())
    }

    fn answer(&self, name: &str, asked_at: Instant) -> Result<Input, String> {
        let belief = self.beliefs.get(name).ok_or_else(|| format!("no Sentinel named `{name}`"))?;
        let mut view = SentinelReport {
            id: Some(belief.id.clone()),
            sentinels: belief.others.iter().map(|other| self.companion(other)).collect(),
            tilt: belief.tilt,
            ..SentinelReport::default()
        };
        if let Some((master, epoch)) = &belief.master {
            view.master = Some(ReportedMaster {
                address: address(master),
                epoch: *epoch,
                flags: "master".to_owned(),
                quorum: belief.others.len().div_ceil(2) + 1,
            });
            let replicas = belief.servers.iter().filter(|server| *server != master);
            let flags = || "slave".to_owned();
            view.replicas = replicas
                .map(|replica| ReportedReplica {
                    address: address(replica),
                    flags: flags(),
                    master_link_up: true,
                })
                .collect();
        }
        Ok(Input::Answer { sentinel: address(name), asked_at, answer: Ok(view) })
    }

    fn companion(&self, name: &str) -> ReportedSentinel {
        let id = self.beliefs.get(name).map_or(name, |belief| &belief.id);
        ReportedSentinel { address: address(name), id: id.to_owned() }
    }

    fn published(&mut self, name: &str, channel: &str, subject: &[&str]) -> Result<Input, String> {
        if !CHANNELS.contains(&channel) {
            return Err(format!("`{channel}` is no channel that is listened to"));
        }
        let master = self.belief(name)?.master.clone().map_or("nobody".to_owned(), |(master, _)| master);
        let (subject, master) = match subject {
            [server, "for", master] => (&[*server][..], (*master).to_owned()),
            _ => (subject, master),
        };
        let payload = match subject {
            [] => "#".to_owned(),
            [server] if channel == "+switch-master" => format!("{MASTER_NAME} {master} 6379 {server} 6379"),
            [server] if *server == master => format!("master {MASTER_NAME} {server} 6379"),
            [server] => {
                let kind = if self.beliefs.contains_key(*server) { "sentinel" } else { "slave" };
                format!("{kind} {server}:6379 {server} 6379 @ {MASTER_NAME} {master} 6379")
            }
            _ => return Err(unknown(subject)),
        };
        let data = [channel, &payload].map(|text| Value::BulkString(text.into())).to_vec();
        let event = event_of(&Value::Push { kind: PushKind::Message, data }, MASTER_NAME);
        let event = event.ok_or_else(|| format!("nobody can read {channel} {payload}"))?;
        Ok(Input::Heard { sentinel: address(name), event })
    }

    fn record(&mut self, input: Input) {
        let now = self.now;
        let actions = self.follower().handle(input, now);
        self.done.get_or_insert_default().extend(actions.iter().map(told));
    }

    fn expect(&mut self, expected: &str) -> Result<(), String> {
        let done = self.done.take().ok_or("nothing was heard before")?.join(", ");
        compare(expected, &done)
    }

    fn expect_state(&mut self, expected: &str) -> Result<(), String> {
        compare(expected, &self.follower().describe())
    }

    /// What was done before and not told of is a mistake.
    fn settle(&mut self) -> Result<(), String> {
        compare("", &self.done.take().unwrap_or_default().join(", "))
    }

    fn belief(&mut self, name: &str) -> Result<&mut Belief, String> {
        self.beliefs.get_mut(name).ok_or_else(|| format!("no Sentinel named `{name}`"))
    }

    fn names(&self) -> Vec<String> {
        self.beliefs.keys().cloned().collect()
    }

    /// Made when the first thing is heard, by the settings until then. All Sentinels are configured but `s4` and above,
    /// which are met.
    fn follower(&mut self) -> &mut SentinelMonitor {
        let configured = self.beliefs.keys().filter(|name| name.as_str() < "s4").map(|name| address(name));
        let configured: Vec<_> = configured.collect();
        let (config, start) = (self.config.clone(), self.start);
        self.follower.get_or_insert_with(|| {
            let mut follower = SentinelMonitor::new(config, &configured, start);
            follower.handle(Input::Tick, start);
            follower
        })
    }
}

fn told(action: &Action) -> String {
    match action {
        Action::Ask => "ask".to_owned(),
        Action::AddSentinels(sentinels) => {
            format!("meet {}", sentinels.iter().map(name).collect::<Vec<_>>().join(" "))
        }
        Action::RemoveSentinel(sentinel) => format!("forget {}", name(sentinel)),
        Action::Follow(master) => format!("follow {}", name(master)),
        Action::Confirm => "confirm".to_owned(),
        Action::Hold => "hold".to_owned(),
        Action::Release => "release".to_owned(),
        Action::Watch { replica, before: false } => format!("watch {}", name(replica)),
        Action::Watch { replica, before: true } => format!("watch {} once a replica", name(replica)),
        Action::Unwatch => "unwatch".to_owned(),
        Action::Close(_) => "close".to_owned(),
        Action::Open => "open".to_owned(),
        Action::Warn(_) => "warn".to_owned(),
        Action::Fail(_) => "fail".to_owned(),
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

fn time(seconds: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

fn address(name: &str) -> Address {
    Address::tcp(name, 6379)
}

pub(super) fn name(address: &Address) -> &str {
    match address {
        Address::Tcp { host, .. } => host,
        Address::Unix(_) => "a Unix socket",
    }
}
