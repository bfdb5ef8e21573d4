//! `cargo xtask bench`: ha-redis next to other clients, under the same load.

mod chart;
mod docs;
mod figures;
mod instructions;
mod machine;
mod plan;
mod probe;
mod progress;
mod report;
mod results;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgAction;
use ha_redis_testkit::Server;

use self::machine::Machine;
use self::plan::{Client, Plan, Runtime, Workload};
use self::probe::Probe;
use self::progress::Progress;
use self::report::Reader;
use self::results::Results;
use crate::{Outcome, output, servers};

/// Compare ha-redis with other clients: throughput, latency, processor time, instructions, memory
///
/// Each measurement is a separate process, and the clients alternate, so that changes in the machine's load affect
/// all of them. Prints the medians over the rounds, and writes them to `target/bench/` as JSON, with every
/// measurement, and as a chart. Nothing else should run meanwhile.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fewer loads and shorter measurements: under two minutes, once it is built
    #[arg(long)]
    quick: bool,
    /// The runtime of ha-redis; on runtimes other than Tokio it is compared with ha-redis on Tokio, and on smol
    /// also with redis-rs
    #[arg(long, value_enum, default_value = "tokio")]
    runtime: Runtime,
    /// How often each client is measured under each load
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long a measurement takes [default: 1, with --quick 0.3]
    #[arg(long)]
    seconds: Option<f64>,
    /// Only these clients
    #[arg(long, value_enum, value_delimiter = ',')]
    clients: Vec<Client>,
    /// Only these loads
    #[arg(long, value_enum, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// The numbers of concurrent tasks, instead of each load's own
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tasks: Vec<u32>,
    /// Don't count instructions
    #[arg(long = "no-instructions", action = ArgAction::SetFalse)]
    instructions: bool,
    /// Also write the figures to docs/benchmarks.md, docs/benchmarks.svg and the README
    #[arg(long, conflicts_with_all = ["quick", "runtime", "clients", "workloads", "tasks"])]
    docs: bool,
}

/// Runs the measurements, and prints and writes the results.
pub(crate) fn run(options: &Options) -> Outcome {
    let plan = Plan::new(options)?;
    let server_program = servers::ensure()?;
    let program = probe::build()?;
    let server = Server::start().map_err(|error| error.to_string())?;
    let probe = Probe::new(program, server.url(), plan.seconds);
    let mut results = Results::new(Machine::here(&server_program), &plan);

    let mut progress = Progress::new(plan.measurements());
    for round in 0..plan.rounds {
        for case in &plan.cases {
            for client in plan.round_order(*case, round) {
                progress.show(&format!("round {} of {}: {case}", round + 1, plan.rounds), client.name());
                results.add(*case, client, probe.measure(client, *case)?);
            }
        }
    }
    for client in &plan.instructions {
        progress.show("instructions", client.name());
        results.instructions.insert(*client, instructions::per_call(&probe, *client)?);
    }
    progress.end();

    println!("{}", report::markdown(&results, Reader::Developer));
    let mut files = Vec::from(write(&results, &output::folder("bench"))?);
    if options.docs {
        files.extend(docs::write(&results, &output::workspace())?);
    }
    files.iter().for_each(|file| println!("{}", file.display()));
    Ok(ExitCode::SUCCESS)
}

fn write(results: &Results, folder: &Path) -> Result<[PathBuf; 2], String> {
    let (json, chart) = (folder.join("bench.json"), folder.join("bench.svg"));
    let cannot = |error: &dyn std::fmt::Display| format!("cannot write to {}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
    let text = serde_json::to_string_pretty(&results.json()).map_err(|error| cannot(&error))?;
    fs::write(&json, text).map_err(|error| cannot(&error))?;
    chart::draw(results, &chart).map_err(|error| cannot(&error))?;
    Ok([json, chart])
}
