//! `cargo xtask failover`: what each way to lose a master costs the callers, over many runs.

mod fault;
mod promises;
mod table;
mod trial;

use std::fs;
use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use self::fault::Fault;
use self::table::Figures;
use crate::load::record::Operation;
use crate::runtime::Runtime;
use crate::{Outcome, output, servers};

/// Measure failovers: every fault, many times, each time with fresh servers and eight callers
///
/// Prints a table, and writes every run to target/failover/failover.json. The exit status shows whether the client
/// kept its promises.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The fault
    #[arg(long, default_value = "all", value_parser = one_or::<Fault>("all"))]
    fault: Chosen<Fault>,
    /// How often each combination is run
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// The runtime of the client and the callers
    #[arg(long, value_enum, default_value = "tokio")]
    runtime: Runtime,
    /// The commands of the callers
    #[arg(long, default_value = "both", value_parser = one_or::<Commands>("both"))]
    commands: Chosen<Commands>,
}

/// The commands of the callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Commands {
    /// INCR, which must not run twice
    Incr,
    /// SET and GET in turn, which may be repeated
    GetSet,
}

impl Commands {
    fn title(self) -> &'static str {
        match self {
            Self::Incr => "INCR",
            Self::GetSet => "GET, SET",
        }
    }

    fn operations(self) -> &'static [Operation] {
        match self {
            Self::Incr => &[Operation::Incr],
            Self::GetSet => &[Operation::Set, Operation::Get],
        }
    }
}

/// One value of an option, or all.
#[derive(Clone, Debug)]
struct Chosen<T>(Vec<T>);

fn one_or<T: ValueEnum + Send + Sync + 'static>(
    all: &'static str,
) -> impl TypedValueParser<Value = Chosen<T>> {
    let each = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
    let names = PossibleValuesParser::new(each.chain([PossibleValue::new(all).help("All of them")]));
    names.map(|name| {
        Chosen(T::from_str(&name, false).map_or_else(|_| T::value_variants().to_vec(), |one| vec![one]))
    })
}

/// Runs the chosen combinations. The status is a failure if a promise was broken.
pub(crate) fn run(options: &Options) -> Outcome {
    let server = servers::ensure()?;
    eprintln!("Each run starts a master, two replicas and three Sentinels of {}.", server.display());
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("cannot start Tokio: {error}"))?;
    let mut figures = Vec::new();
    for &fault in &options.fault.0 {
        for &commands in &options.commands.0 {
            let (mut runs, mut unfinished) = (Vec::new(), Vec::new());
            for number in 1..=options.runs {
                let which = format!("{}, {}, run {number}", fault.name(), commands.title());
                match runtime.block_on(trial::run(fault, commands, options.runtime)) {
                    Ok(run) => {
                        eprintln!("{which} of {}: {run}", options.runs);
                        runs.push(run);
                    }
                    Err(error) => {
                        eprintln!("{which} of {}: {error}", options.runs);
                        unfinished.push(format!("run {number} could not be finished: {error}"));
                    }
                }
            }
            figures.push(Figures::new(fault, commands, runs, unfinished));
        }
    }
    write(&figures)?;
    print!("\n{}", table::text(&figures));
    let kept = figures.iter().all(Figures::kept);
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(figures: &[Figures]) -> Result<(), String> {
    let folder = output::folder("failover");
    let path = folder.join("failover.json");
    let json = serde_json::to_string_pretty(figures).map_err(|error| error.to_string())?;
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, json + "\n"));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}
