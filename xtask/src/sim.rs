//! `cargo xtask sim`: runs the simulation of many seeds in a release build.

use std::ffi::OsString;

use crate::Outcome;
use crate::test::{cargo, execute, exit_code};

/// Test the client against random faults in a simulation: `--seeds 10000`, or `--seed 7 --trace` to replay one
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Passed to the simulation; `--help` lists what it takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let mut simulation = cargo();
    simulation.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "ha-redis-testkit",
        "--example",
        "sim",
        "--",
    ]);
    execute(simulation.args(&options.arguments)).map(exit_code)
}
