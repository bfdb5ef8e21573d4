//! `cargo xtask demo`: what the callers of a service see while their Redis master fails.

mod fault;
mod monitor;
mod plot;
mod promises;
mod report;
mod view;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ha_redis_config::Loader;
use ha_redis_testkit::Topology;
use ha_redis_tokio::redis::{RedisResult, cmd};
use ha_redis_tokio::runtime::Runtime as ClientRuntime;
use ha_redis_tokio::{Client, RedisConfig};
use tokio::signal::ctrl_c;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use self::fault::Fault;
use self::monitor::FaultMonitor;
use self::plot::Plot;
use self::promises::promises;
use self::report::{Moments, Summary};
use self::view::View;
use crate::load::record::{Operation, Recorder, Series};
use crate::load::{Account, Caller, Keys, Load, Work};
use crate::runtime::{self, Runtime};
use crate::{Outcome, observe, output, servers};

/// The number of callers.
const CALLERS: usize = 32;

const WORK: Work = Work { callers: CALLERS, operations: &[Operation::Incr, Operation::Set, Operation::Get] };

/// Show what 32 callers see while their Redis master fails
///
/// Starts a private master with two replicas and three Sentinels, or uses the servers behind `--url` or `--dotenv`.
/// The exit status shows whether the client kept its promises.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The fault of the master after five seconds; with external servers, you cause it yourself
    /// [default: kill; with external servers: none]
    #[arg(long, value_enum)]
    fault: Option<Fault>,
    /// The runtime of the client and the callers
    #[arg(long, value_enum, default_value = "tokio")]
    runtime: Runtime,
    /// How long the callers run
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(5..=600))]
    seconds: u64,
    /// End when standard input ends, for scripts
    #[arg(long)]
    until_eof: bool,
    /// Print the summary as JSON; everything else goes to standard error
    #[arg(long)]
    json: bool,
    /// Use these servers, without causing faults; the keys are removed at the end
    #[arg(long)]
    url: Option<RedisConfig>,
    /// As --url, with the settings of a file of REDIS_… lines, such as compose/ha/host.env
    #[arg(long, conflicts_with = "url")]
    dotenv: Option<PathBuf>,
}

/// Runs the demo. The status is a failure if a promise was broken.
pub(crate) fn run(options: &Options) -> Outcome {
    let length = Duration::from_secs(options.seconds);
    let (topology, config) = match external_servers(options)? {
        Some(config) => (None, config),
        None => start_servers().map(|(topology, config)| (Some(topology), config))?,
    };
    let default_fault = if topology.is_some() { Fault::Kill } else { Fault::None };
    let fault = options.fault.unwrap_or(default_fault);
    // From here on Ctrl-C is handled. Before, it ends the process, and the servers with it.
    let tokio = tokio::runtime::Runtime::new().map_err(|error| format!("cannot start Tokio: {error}"))?;
    let summary = tokio.block_on(async {
        let runtime = options.runtime.start();
        let client = runtime::connect(config, &runtime).await?;
        let (topology, keys) = (topology.as_ref(), Keys::new(CALLERS));
        let demo = Demo { fault, length, topology, runtime, on: options.runtime, client, keys };
        let summary = demo.run(options).await;
        demo.clean_up().await;
        summary
    });
    // The status that shells report for a program that Ctrl-C ended.
    let Some(summary) = summary? else { return Ok(ExitCode::from(130)) };
    print(&summary, options.json)?;
    Ok(if summary.kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the configuration for external servers, if some are given.
fn external_servers(options: &Options) -> Result<Option<RedisConfig>, String> {
    let Some(file) = &options.dotenv else { return Ok(options.url.clone()) };
    let no_variables: [(String, String); 0] = [];
    let loader = Loader::new().environment(no_variables).dotenv(file);
    loader.load_default().map(Some).map_err(|error| error.to_string())
}

/// Starts the demo's own servers, and returns the client's configuration for them.
fn start_servers() -> Result<(Topology, RedisConfig), String> {
    let server = servers::ensure()?;
    eprintln!("Starting a master, two replicas and three Sentinels of {}.", server.display());
    let topology = Topology::builder()
        .down_after(Duration::from_millis(500))
        .start()
        .map_err(|error| error.to_string())?;
    let config = topology.url().parse().map_err(|error| format!("{error}"))?;
    Ok((topology, config))
}

/// Waits until standard input ends.
async fn end_of_input() {
    let (sender, ended) = oneshot::channel();
    // Reading blocks. This thread may outlive the run.
    thread::spawn(move || {
        // What is read does not matter, nor how it ends.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = sender.send(());
    });
    let _ = ended.await;
}

fn print(summary: &Summary, json: bool) -> Result<(), String> {
    let text = if json {
        serde_json::to_string_pretty(summary).map_err(|error| error.to_string())?
    } else {
        summary.text()
    };
    writeln!(io::stdout(), "{text}").map_err(|error| format!("cannot print the summary: {error}"))
}

/// A run of the demo.
struct Demo<'a> {
    fault: Fault,
    length: Duration,
    /// `None` for external servers.
    topology: Option<&'a Topology>,
    runtime: Arc<dyn ClientRuntime>,
    on: Runtime,
    client: Client,
    keys: Keys,
}

impl Demo<'_> {
    /// Runs the callers, injects the fault, and compares the callers' results with the data on the server. Returns
    /// `None` if Ctrl-C ended the run.
    async fn run(&self, options: &Options) -> Result<Option<Summary>, String> {
        let master = self.client.discover_master().await.map_err(|error| error.to_string())?.to_string();
        let observations = match self.topology {
            Some(topology) => observe::watch(topology)?,
            None => observe::watch_client(&self.client),
        };
        let view = View::new(
            format!("ha-redis on {}: {}", self.on.name(), self.fault.title()),
            self.length,
            options.json,
        );
        let recorder = Arc::new(Recorder::new(Instant::now()));
        let mut load = Load::start(&self.client, &self.runtime, &self.keys, WORK, &recorder)?;

        let mut monitor = FaultMonitor::new(self, &recorder, view, master);
        let end = async {
            if options.until_eof {
                end_of_input().await;
            } else {
                sleep(self.length).await;
            }
            load.finish().await.map(Some)
        };
        let callers = tokio::select! {
            callers = monitor.run(observations, end) => callers,
            _ = ctrl_c() => Ok(None),
        };
        load.abort().await;
        let moments = monitor.moments;
        drop(monitor);
        let Some(callers) = callers? else { return Ok(None) };
        let length = if options.until_eof { recorder.time_of(Instant::now()) } else { self.length };

        let account = self.account(callers).await?;
        self.summary(length, &recorder.finish(), moments, &account).map(Some)
    }

    fn summary(
        &self,
        length: Duration,
        series: &Series,
        moments: Moments,
        account: &Account,
    ) -> Result<Summary, String> {
        let promises = promises(self.fault, self.topology.is_some(), series, moments, account);
        let mut summary = Summary::new(self.fault, length, series, moments, account, promises);
        let title = format!("{}: what {CALLERS} callers of ha-redis see", self.fault.title());
        let plot = Plot { title, fault: self.fault.event(), length, series, moments };
        summary.plots = plot.write(&output::folder("demo"), self.fault.name())?;
        Ok(summary)
    }

    /// Compares the callers' accounts with the server's values.
    async fn account(&self, callers: Vec<Caller>) -> Result<Account, String> {
        let values = match self.topology {
            Some(topology) => self.keys.values_on(topology.master().map_err(|error| error.to_string())?)?,
            None => {
                let values =
                    cmd("MGET").arg(self.keys.all()).query_async(&mut self.client.connection()).await;
                values.map_err(|error| format!("cannot read the counters: {error}"))?
            }
        };
        Ok(Account::close(callers, &values))
    }

    /// Removes the keys from external servers.
    async fn clean_up(&self) {
        if self.topology.is_none() {
            let mut connection = self.client.connection();
            let removed: RedisResult<()> = cmd("DEL").arg(self.keys.all()).query_async(&mut connection).await;
            if let Err(error) = removed {
                eprintln!("warning: the keys could not be removed: {error}");
            }
        }
        // A courtesy to the servers that may fail.
        let _ = timeout(Duration::from_secs(1), self.client.close()).await;
    }
}
