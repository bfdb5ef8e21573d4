//! The project's own commands: `cargo xtask <command>`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program talks to its user")]

mod bench;
mod compose;
mod config;
mod demo;
mod failover;
mod load;
mod observe;
mod output;
mod runtime;
mod servers;
mod sim;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// The commands of the project
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
enum Command {
    Bench(bench::Options),
    ComposeTest(compose::Options),
    Config(config::Options),
    Demo(Box<demo::Options>),
    Failover(failover::Options),
    Sim(sim::Options),
    Test(test::Options),
}

/// How a command ends: with the status of a program it ran, or with a message for the user.
type Outcome = Result<ExitCode, String>;

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Bench(options) => bench::run(&options),
        Command::ComposeTest(options) => compose::run(&options),
        Command::Config(options) => config::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Failover(options) => failover::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Test(options) => test::run(&options),
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("error: {message}");
        ExitCode::FAILURE
    })
}
