//! One run: the callers run, the fault happens, and their results are compared with the data on the servers.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ha_redis_testkit::{Error, Server, Topology};
use ha_redis_tokio::Client;
use ha_redis_tokio::runtime::Runtime as ClientRuntime;
use serde::Serialize;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use super::Commands;
use super::fault::Fault;
use crate::load::ledger::Tally;
use crate::load::record::{Errors, Recorder};
use crate::load::{Account, Keys, Load, Work};
use crate::observe::{self, Observation, ObservedEvent};
use crate::output::{in_millis, millis};
use crate::runtime::{self, Runtime};

const CALLERS: usize = 8;

/// How long the callers run before the fault.
const WARM_UP: Duration = Duration::from_millis(500);

/// How long they run after the promotion: until the last Sentinel has announced it, which may mislead a client.
const TIME_AFTER_PROMOTION: Duration = Duration::from_millis(2200);

/// The longest that a promotion may take.
const BOUND: Duration = Duration::from_secs(30);

/// The results of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Run {
    /// The time from a replica's first report of the master role to the first answered write. `None` if either is
    /// missing.
    pub(crate) first_success_ms: Option<f64>,
    /// The longest time in which no caller got a reply.
    pub(crate) longest_pause_ms: f64,
    pub(crate) answered: u64,
    pub(crate) errors: Errors,
    pub(crate) most_errors_of_a_caller: u64,
    pub(crate) error_examples: Vec<String>,
    /// Acknowledged writes that the final master lacks.
    pub(crate) lost: u64,
    pub(crate) ran_twice: u64,
    /// GETs that returned a value that their caller never wrote.
    pub(crate) foreign_reads: u64,
    /// Writes that an old master received after the promotion, if it still accepts writes.
    pub(crate) sent_to_old_master: Option<u64>,
}

/// Starts servers, injects the fault under load, and returns the results.
pub(crate) async fn run(fault: Fault, commands: Commands, runtime: Runtime) -> Result<Run, String> {
    let topology = fault.topology().map_err(text)?;
    let config = topology.url().parse().map_err(|error| format!("{error}"))?;
    let runtime = runtime.start();
    let client = runtime::connect(config, &runtime).await?;
    let run = Trial { fault, commands, topology: &topology }.run(&client, &runtime).await;
    // A courtesy to the servers that may fail.
    let _ = timeout(Duration::from_secs(1), client.close()).await;
    run
}

struct Trial<'a> {
    fault: Fault,
    commands: Commands,
    topology: &'a Topology,
}

/// What follows the fault.
struct Aftermath<'a> {
    /// The server that must have the callers' writes.
    master: &'a Server,
    /// The promotion: when it was observed, and from when on answered writes belong to the new master.
    promotion: Option<Promotion>,
    sent_to_old_master: Option<u64>,
}

#[derive(Clone, Copy)]
struct Promotion {
    observed_at: Duration,
    writes_count_from: Duration,
}

impl Trial<'_> {
    async fn run(&self, client: &Client, runtime: &Arc<dyn ClientRuntime>) -> Result<Run, String> {
        let keys = Keys::new(CALLERS);
        let observations = observe::watch(self.topology)?;
        let recorder = Arc::new(Recorder::new(Instant::now()));
        let work = Work { callers: CALLERS, operations: self.commands.operations() };
        let mut load = Load::start(client, runtime, &keys, work, &recorder)?;
        sleep(WARM_UP).await;
        let aftermath = self.inject_fault(observations, &recorder).await?;
        let callers = load.finish().await?;
        let account = Account::close(callers, &keys.values_on(aftermath.master)?);
        Ok(measure(&aftermath, &recorder, &account))
    }

    /// Injects the fault, and waits until its effects are over.
    async fn inject_fault(
        &self,
        mut observations: UnboundedReceiver<Observation>,
        recorder: &Recorder,
    ) -> Result<Aftermath<'_>, String> {
        let old = self.topology.master().map_err(text)?;
        // This blocks, but on the main thread, where no caller runs.
        self.fault.inject(self.topology, old).map_err(text)?;
        if !self.fault.promotes() {
            let master = self.topology.master().map_err(text)?;
            return Ok(Aftermath { master, promotion: None, sent_to_old_master: None });
        }
        let promotion = timeout(BOUND, self.promotion(&mut observations, recorder)).await;
        let (master, promotion) = promotion.map_err(|_| "no replica became master".to_owned())??;
        let before = self.writes_received(old)?;
        sleep(TIME_AFTER_PROMOTION).await;
        let after = self.writes_received(old)?;
        let sent_to_old_master = before.zip(after).map(|(before, after)| after - before);
        Ok(Aftermath { master, promotion: Some(promotion), sent_to_old_master })
    }

    async fn promotion(
        &self,
        observations: &mut UnboundedReceiver<Observation>,
        recorder: &Recorder,
    ) -> Result<(&Server, Promotion), String> {
        while let Some(Observation { at, what }) = observations.recv().await {
            if let ObservedEvent::Promoted { server, still_replica } = what {
                let answers_until = if self.fault.master_stays_up() { at } else { still_replica };
                let promotion = Promotion {
                    observed_at: recorder.time_of(at),
                    writes_count_from: recorder.time_of(answers_until),
                };
                let mut servers = self.topology.servers().iter();
                let master = servers.find(|one| one.address() == server);
                return master
                    .map(|master| (master, promotion))
                    .ok_or_else(|| "an unknown server is master".into());
            }
        }
        Err("the replicas are no longer observed".into())
    }

    /// Returns how many writes the old master has received, if it still accepts writes.
    fn writes_received(&self, old: &Server) -> Result<Option<u64>, String> {
        if !self.fault.isolates_master() {
            return Ok(None);
        }
        let stats = old.query(&["INFO", "commandstats"]).map_err(text)?;
        let calls = |line: &str| {
            let (command, stats) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            ["incr", "incrby", "set"]
                .contains(&command)
                .then(|| stats.split(',').next()?.parse::<u64>().ok())?
        };
        match stats.text().unwrap_or_default().lines().filter_map(calls).sum() {
            0 => Err("the old master reports no write counts".into()),
            written => Ok(Some(written)),
        }
    }
}

fn measure(aftermath: &Aftermath<'_>, recorder: &Recorder, account: &Account) -> Run {
    let first_success = aftermath.promotion.and_then(|promotion| {
        let success = recorder.first_write_after(promotion.writes_count_from)?;
        // The client was faster than the observer, so its first success sets the time.
        Some(success.saturating_sub(promotion.observed_at))
    });
    let series = recorder.finish();
    let pause = series.longest_pause().map_or(Duration::ZERO, |(from, to)| to - from);
    let Tally { lost_increments, lost_sets, ran_twice, foreign_reads, .. } = account.tally;
    Run {
        first_success_ms: first_success.map(in_millis),
        longest_pause_ms: in_millis(pause),
        answered: series.calls.total(),
        errors: series.failures.all(),
        most_errors_of_a_caller: account.most_failed.total(),
        error_examples: series.examples,
        lost: lost_increments + lost_sets,
        ran_twice,
        foreign_reads,
        sent_to_old_master: aftermath.sent_to_old_master,
    }
}

fn text(error: Error) -> String {
    error.to_string()
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(success) = self.first_success_ms {
            write!(f, "{} to the first success, ", millis(success))?;
        }
        let (answered, failed, lost) = (self.answered, self.errors.total(), self.lost);
        write!(f, "{} without an answer, {answered} answered, ", millis(self.longest_pause_ms))?;
        write!(f, "{failed} failed, {lost} lost")?;
        if let Some(sent) = self.sent_to_old_master {
            write!(f, ", {sent} sent to the old master")?;
        }
        self.error_examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}
