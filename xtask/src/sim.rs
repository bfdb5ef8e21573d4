//! `cargo xtask sim`: the simulation of many seeds, built for speed.

use std::ffi::OsString;

use crate::Outcome;
use crate::test::{cargo, execute, exit_code};

/// Test the client in simulated worlds where much goes wrong: `--seeds 10000`, or `--seed 7 --trace` to replay one
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
