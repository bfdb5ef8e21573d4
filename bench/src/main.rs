//! Measures one client under one load, and prints the figures as a line of JSON.
//!
//! `cargo xtask bench` starts one process of this program for each measurement, so that processor time and memory
//! belong to one client alone.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its user")]

mod client;
mod figures;
mod load;
mod process;
mod raw;
mod runtime;
mod workload;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use self::client::{Client, Name, Nothing};
use self::figures::Figures;
use self::load::Calls;
use self::workload::Workload;

/// An error of any kind, which is only reported with the figures.
type Failure = Box<dyn Error + Send + Sync>;

/// Measure one client under one load
#[derive(Clone, Debug, Parser)]
struct Options {
    /// The server; its keys that begin with `bench:` are overwritten
    #[arg(long, default_value = "redis://127.0.0.1:6379")]
    url: String,
    #[arg(long, value_enum)]
    client: Name,
    #[arg(long, value_enum)]
    workload: Workload,
    /// How many tasks make calls concurrently, each one call after another
    #[arg(long, default_value_t = 64)]
    tasks: usize,
    /// How long to measure, after a warm-up
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Make this many calls in total without measuring, so that instructions can be counted
    #[arg(long)]
    calls: Option<u64>,
    /// Worker threads of Tokio; 0 for a runtime on the main thread alone
    #[arg(long, default_value_t = 2)]
    workers: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let line = runtime::start(options.client.runtime(), options.workers, measure(options.clone()))
        .and_then(|figures| serde_json::to_string(&figures?).map_err(Failure::from));
    match line {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the figures, or `None` if the run only makes calls for counting instructions.
async fn measure(options: Options) -> Result<Option<Figures>, Failure> {
    let url = options.url.as_str();
    match options.client {
        Name::HaRedis => load(&options, client::ha_redis(url).await?).await,
        Name::HaRedisAsyncStd => load(&options, client::ha_redis_async_std(url).await?).await,
        Name::HaRedisSmol => load(&options, client::ha_redis_smol(url).await?).await,
        Name::RedisRs | Name::RedisRsSmol => load(&options, client::redis_rs(url).await?).await,
        Name::ConnectionManager => load(&options, client::connection_manager(url).await?).await,
        Name::Fred => load(&options, client::fred(url).await?).await,
        Name::Rustis => load(&options, client::rustis(url).await?).await,
        Name::DeadpoolRedis => load(&options, client::deadpool_redis(url)?).await,
        Name::Bb8Redis => load(&options, client::bb8_redis(url).await?).await,
        Name::RawSocket => {
            options.workload.fill(options.tasks, &mut client::redis_rs(url).await?).await?;
            let batches = raw::Batches::connect(url, options.workload, options.tasks).await?;
            options.measure(vec![batches], Vec::new()).await
        }
        Name::Nothing => load(&options, Nothing).await,
    }
}

/// Puts the load on `client`.
async fn load<C: Client>(options: &Options, mut client: C) -> Result<Option<Figures>, Failure> {
    let Options { workload, tasks, .. } = *options;
    workload.fill(tasks, &mut client).await?;
    options.measure(workload.callers(tasks, &client), workload.background(&client)).await
}

impl Options {
    async fn measure<C: Calls>(
        &self,
        callers: Vec<C>,
        background: Vec<C>,
    ) -> Result<Option<Figures>, Failure> {
        match self.calls {
            Some(calls) => load::run(callers, calls).await.map(|()| None),
            None => load::measure(callers, background, self.seconds).await.map(Some),
        }
    }
}
