//! Runs the scenarios: text files that describe failovers line by line, and the actions that the monitor must take.
//!
//! ```text
//! # A comment, on a line of its own.
//! given s1 s2 s3 watch m with r1 r2 in epoch 1       the Sentinels, and the servers that each monitors
//! given s4 is s1                                     another address of that Sentinel, which is not configured
//! given promotion_hold 0.5                           a setting
//! given the client follows m                         all Sentinels have answered, and a connection is up
//!
//! 0.07 s1 publishes +selected-slave r1               the input at this second
//!      -> hold, watch r1                             all actions that follow; none without such a line
//!      = following m, holding, watching r1           the state after that
//! ```
//!
//! The inputs are: `s1 publishes CHANNEL [SERVER [for MASTER]]`, `s1 s2 answer`, `s1 answers r1 in epoch 2` (from then
//! on), `s1 answers in tilt`, `s1 answers naming s4`, `s1 answers listing m r1` (the servers that it lists),
//! `s1 answers as s2` (with the id of s2), `s1 knows no master`, `s1 does not answer`, `s1 is late`,
//! `s1 is subscribed to`, `there is a connection`, `the connection is lost`, `r1 says master`, `m says replica`, and
//! `time passes` for what is due at that moment. The monitor queries the Sentinels now and then in between. An answer
//! belongs to a query of the same moment, unless the line ends with `to what was asked at 0.05`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use redis::{PushKind, Value};

use super::event::{CHANNELS, parse_event};
use super::report::{ReportedMaster, ReportedReplica, ReportedSentinel};
use super::{Action, FailoverConfig, Input, QueryError, SentinelMonitor, SentinelReport};
use crate::address::Address;

const MASTER_NAME: &str = "mymaster";
/// When the Sentinels were asked for what is given.
const LONG_BEFORE: Duration = Duration::from_secs(1);

#[test]
fn invalid_scenarios_fail() {
    const SETTING: &str = "given s1 s2 s3 watch m with r1 in epoch 1\ngiven the client follows m\n";
    for (line, mistake) in [
        ("given s1 watch", "what is `given s1 watch`?"),
        ("0.1 s1 whispers", "what is `s1 whispers`?"),
        ("0.1 s1 publishes +selected", "is not a subscribed channel"),
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
        ("-> ask", "no input before"),
        ("0.1 s1 answers\n0.05 s1 answers", "time goes backwards"),
        ("# nothing", "no input"),
        ("0.1 s1 answers", "no line states what is expected"),
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
            ["=", state @ ..] => runner.expect_state(&state.join(" ")),
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

/// What one Sentinel answers.
#[derive(Clone)]
struct Belief {
    id: String,
    master: Option<(String, u64)>,
    servers: Vec<String>,
    others: Vec<String>,
    tilt: bool,
}

struct Runner {
    config: FailoverConfig,
    beliefs: BTreeMap<String, Belief>,
    monitor: Option<SentinelMonitor>,
    start: Instant,
    now: Instant,
    /// The actions that the next line must list.
    actions_taken: Option<Vec<String>>,
}

impl Runner {
    fn new() -> Self {
        let config = FailoverConfig {
            master_name: MASTER_NAME.to_owned(),
            early_promotion: true,
            promotion_hold: Duration::from_secs(2),
            require_majority: false,
            initial_attempts: 3,
        };
        let start = Instant::now() + LONG_BEFORE;
        Self { config, beliefs: BTreeMap::new(), monitor: None, start, now: start, actions_taken: None }
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
                for sentinel in self.sentinel_names() {
                    self.record(self.answer(&sentinel, self.start - LONG_BEFORE)?);
                }
                self.record(Input::Connected);
                self.actions_taken = None;
                self.expect_state(&format!("following {master}"))?;
            }
            [.., "in", "epoch", _] => self.given_sentinels(words).ok_or_else(|| unknown(words))?,
            _ => return Err(unknown(&[&["given"], words].concat())),
        }
        Ok(())
    }

    /// `s1 s2 s3 watch m with r1 r2 in epoch 1`
    fn given_sentinels(&mut self, words: &[&str]) -> Option<()> {
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

    /// Handles an input at its time.
    fn at(&mut self, at: &str, words: &[&str]) -> Result<(), String> {
        let at = self.start + time(at).ok_or_else(|| unknown(&[&[at], words].concat()))?;
        if at < self.now {
            return Err("time goes backwards".to_owned());
        }
        // Timers that fire in between and that no line mentions.
        while self.monitor().next_tick() < at {
            self.now = self.now.max(self.monitor().next_tick());
            self.record(Input::Tick);
            let actions_taken = self.actions_taken.take().unwrap_or_default();
            if actions_taken != ["ask"] {
                let seconds = (self.now - self.start).as_secs_f64();
                return Err(format!("at {seconds} s: expected nothing, but: {}", actions_taken.join(", ")));
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
                return self.each(sentinels, |runner, name| {
                    runner.belief(name)?.master = None;
                    runner.answer(name, asked_at)
                });
            }
            _ => {
                let verb = words.iter().position(|word| matches!(*word, "answer" | "answers"));
                let (sentinels, what) = words.split_at(verb.ok_or_else(|| unknown(words))?);
                return self.each(sentinels, |runner, name| {
                    runner.change(name, &what[1..])?;
                    runner.answer(name, asked_at)
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
        let mut report = SentinelReport {
            id: Some(belief.id.clone()),
            sentinels: belief.others.iter().map(|other| self.reported_sentinel(other)).collect(),
            tilt: belief.tilt,
            ..SentinelReport::default()
        };
        if let Some((master, epoch)) = &belief.master {
            report.master = Some(ReportedMaster {
                address: address(master),
                epoch: *epoch,
                flags: "master".to_owned(),
                quorum: belief.others.len().div_ceil(2) + 1,
            });
            let replicas = belief.servers.iter().filter(|server| *server != master);
            let flags = || "slave".to_owned();
            report.replicas = replicas
                .map(|replica| ReportedReplica {
                    address: address(replica),
                    flags: flags(),
                    master_link_up: true,
                })
                .collect();
        }
        Ok(Input::Answer { sentinel: address(name), asked_at, answer: Ok(report) })
    }

    fn reported_sentinel(&self, name: &str) -> ReportedSentinel {
        let id = self.beliefs.get(name).map_or(name, |belief| &belief.id);
        ReportedSentinel { address: address(name), id: id.to_owned() }
    }

    fn published(&mut self, name: &str, channel: &str, subject: &[&str]) -> Result<Input, String> {
        if !CHANNELS.contains(&channel) {
            return Err(format!("`{channel}` is not a subscribed channel"));
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
        let event = parse_event(&Value::Push { kind: PushKind::Message, data }, MASTER_NAME);
        let event = event.ok_or_else(|| format!("cannot parse {channel} {payload}"))?;
        Ok(Input::Event { sentinel: address(name), event })
    }

    fn record(&mut self, input: Input) {
        let now = self.now;
        let actions = self.monitor().handle(input, now);
        self.actions_taken.get_or_insert_default().extend(actions.iter().map(action_text));
    }

    fn expect(&mut self, expected: &str) -> Result<(), String> {
        let actions_taken = self.actions_taken.take().ok_or("no input before")?.join(", ");
        compare(expected, &actions_taken)
    }

    fn expect_state(&mut self, expected: &str) -> Result<(), String> {
        compare(expected, &self.monitor().describe())
    }

    /// Fails if the last actions were not expected by any line.
    fn expect_no_more_actions(&mut self) -> Result<(), String> {
        compare("", &self.actions_taken.take().unwrap_or_default().join(", "))
    }

    fn belief(&mut self, name: &str) -> Result<&mut Belief, String> {
        self.beliefs.get_mut(name).ok_or_else(|| format!("no Sentinel named `{name}`"))
    }

    fn sentinel_names(&self) -> Vec<String> {
        self.beliefs.keys().cloned().collect()
    }

    /// The monitor, made at the first input with the settings until then. All Sentinels are configured except `s4`
    /// and above, which are discovered.
    fn monitor(&mut self) -> &mut SentinelMonitor {
        let configured = self.beliefs.keys().filter(|name| name.as_str() < "s4").map(|name| address(name));
        let configured: Vec<_> = configured.collect();
        let (config, start) = (self.config.clone(), self.start);
        self.monitor.get_or_insert_with(|| {
            let mut monitor = SentinelMonitor::new(config, &configured, start);
            monitor.handle(Input::Tick, start);
            monitor
        })
    }
}

fn action_text(action: &Action) -> String {
    match action {
        Action::QuerySentinels => "ask".to_owned(),
        Action::AddSentinels(sentinels) => {
            format!("meet {}", sentinels.iter().map(name).collect::<Vec<_>>().join(" "))
        }
        Action::RemoveSentinel(sentinel) => format!("forget {}", name(sentinel)),
        Action::Follow(master) => format!("follow {}", name(master)),
        Action::AllowReconnect => "confirm".to_owned(),
        Action::Hold => "hold".to_owned(),
        Action::Release => "release".to_owned(),
        Action::Watch { replica, was_master: false } => format!("watch {}", name(replica)),
        Action::Watch { replica, was_master: true } => format!("watch {} once a replica", name(replica)),
        Action::Unwatch => "unwatch".to_owned(),
        Action::RefuseWrites(_) => "close".to_owned(),
        Action::AllowWrites => "open".to_owned(),
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
