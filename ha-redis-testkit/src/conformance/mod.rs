//! One suite of tests for every runtime: what a user of the client sees, against real servers.
//!
//! A runtime crate runs it whole, from a test target with `harness = false`:
//!
//! ```no_run
//! use ha_redis_testkit::conformance::{self, Harness, Started};
//! # fn start() -> Started { unimplemented!() }
//!
//! fn main() {
//!     conformance::main(&[Harness { name: "my_runtime", start, environments: &[] }]);
//! }
//! ```
//!
//! The tests themselves run on a thread outside of the runtime, so that they may block it nowhere; the client's own
//! tasks, and those that a test starts, run on it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails, and what it prints says why"
)]

/// Lists the tests of a module, each an `async fn name(kit: Kit)`. A test that is not listed is dead code and does
/// not compile.
///
/// Tests listed as `everywhere` get their servers from the kit, and run in each [`Environment`] of the harness. All
/// others run in [`Environment::Plain`] alone, because they
///
/// - read or write what goes over the wire: scripted servers and Sentinels, bytes injected or counted by a proxy,
/// - set up users, passwords, TLS, addresses or missing commands themselves,
/// - or have callers run commands that only operators may.
macro_rules! tests {
    (everywhere: [$($everywhere:ident),* $(,)?], $(plain: [$($plain:ident),* $(,)?],)?) => {
        pub(super) const TESTS: &[$crate::conformance::Test] = &[
            $(tests!(@test $everywhere, true),)*
            $($(tests!(@test $plain, false),)*)?
        ];
    };
    (@test $name:ident, $everywhere:literal) => {
        $crate::conformance::Test {
            module: module_path!(),
            name: stringify!($name),
            everywhere: $everywhere,
            run: |kit| Box::pin(async move { $crate::conformance::Ended::check($name(kit).await) }),
        }
    };
    ($($plain:ident),* $(,)?) => { tests! { everywhere: [], plain: [$($plain),*], } };
}

mod commands;
mod connecting;
mod credentials;
mod dedicated;
mod discovery;
mod environments;
mod events;
mod failover;
mod faults;
mod files;
mod floods;
mod hostile;
mod hostile_sentinels;
mod injection;
mod kit;
mod large_answers;
mod large_replies;
mod leaks;
mod load;
mod networks;
mod no_response;
mod operators;
mod outcomes;
mod output;
mod partition;
mod permanent_failure;
mod permissions;
mod process;
mod protocols;
mod pubsub;
mod reconfigure;
mod refusals;
mod repeated_secrets;
mod repeats;
mod replicas;
mod resp2_credentials;
mod rest;
mod scripted;
mod secrets;
mod sentinel;
mod sentinel_replicas;
mod slow_links;
mod tls;
mod tls_files;
mod tls_peers;
mod tls_reload;
mod topology_source;
mod transactions;
mod unready;
mod watch;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_lite::future::block_on;
use ha_redis_core::redis::RedisResult;
use ha_redis_core::runtime::Runtime;
use libtest_mimic::{Arguments, Trial};

use crate::Environment;
use kit::Kit;

/// All tests of the suite.
const SUITE: &[&[Test]] = &[
    commands::TESTS,
    connecting::TESTS,
    credentials::TESTS,
    dedicated::TESTS,
    discovery::TESTS,
    environments::TESTS,
    events::TESTS,
    failover::TESTS,
    files::TESTS,
    faults::TESTS,
    floods::TESTS,
    permanent_failure::TESTS,
    hostile::TESTS,
    hostile_sentinels::TESTS,
    injection::TESTS,
    large_answers::TESTS,
    large_replies::TESTS,
    leaks::TESTS,
    networks::TESTS,
    no_response::TESTS,
    operators::TESTS,
    outcomes::TESTS,
    partition::TESTS,
    permissions::TESTS,
    protocols::TESTS,
    process::TESTS,
    pubsub::TESTS,
    reconfigure::TESTS,
    refusals::TESTS,
    repeated_secrets::TESTS,
    repeats::TESTS,
    replicas::TESTS,
    resp2_credentials::TESTS,
    rest::TESTS,
    secrets::TESTS,
    sentinel::TESTS,
    sentinel_replicas::TESTS,
    slow_links::TESTS,
    tls::TESTS,
    tls_files::TESTS,
    tls_peers::TESTS,
    tls_reload::TESTS,
    topology_source::TESTS,
    transactions::TESTS,
    unready::TESTS,
];

/// A runtime to run the suite on.
#[derive(Clone, Copy, Debug)]
pub struct Harness {
    /// The runtime's name, a prefix of the names of the tests.
    pub name: &'static str,
    /// Starts the runtime for one test.
    pub start: fn() -> Started,
    /// The environments in which the suite runs on it, besides [`Environment::Plain`].
    pub environments: &'static [Environment],
}

/// A running runtime.
pub struct Started {
    /// The runtime that the client uses.
    pub runtime: Arc<dyn Runtime>,
    /// A guard that keeps the runtime running. Dropped at the end of the test.
    pub keep: Box<dyn Any>,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("runtime", &self.runtime).finish_non_exhaustive()
    }
}

struct Test {
    module: &'static str,
    name: &'static str,
    /// Whether the test runs in each environment of the harness.
    everywhere: bool,
    run: fn(Kit) -> Pin<Box<dyn Future<Output = ()>>>,
}

/// The result types that a test may return.
trait Ended {
    fn check(self);
}

impl Ended for () {
    fn check(self) {}
}

impl Ended for RedisResult<()> {
    fn check(self) {
        self.unwrap();
    }
}

/// Runs the tests that the command line selects on each of the runtimes, then exits the process.
pub fn main(harnesses: &[Harness]) {
    process::run_program_if_set(harnesses);
    let tests = || SUITE.iter().copied().flatten();
    let trials = harnesses.iter().flat_map(|harness| {
        let plain = tests().map(|test| trial(*harness, Environment::Plain, test));
        let others = harness.environments.iter().flat_map(move |environment| {
            let everywhere = tests().filter(|test| test.everywhere);
            everywhere.map(|test| trial(*harness, *environment, test))
        });
        plain.chain(others)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}

fn trial(harness: Harness, environment: Environment, test: &'static Test) -> Trial {
    let module = test.module.rsplit("::").next().unwrap_or_default();
    let name = format!("{}::{}::{module}::{}", harness.name, environment.name(), test.name);
    Trial::test(name, move || {
        let started = (harness.start)();
        block_on((test.run)(Kit::new(harness.name, Arc::clone(&started.runtime), environment)));
        Ok(())
    })
}
