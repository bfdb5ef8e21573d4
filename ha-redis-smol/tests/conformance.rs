//! Runs the conformance suite on smol.

use std::sync::Arc;

use ha_redis_smol::SmolRuntime;
use ha_redis_testkit::Environment;
use ha_redis_testkit::conformance::{self, Harness, Started};

fn main() {
    conformance::main(&[Harness { name: "smol", start, environments: &Environment::PROTECTED }]);
}

/// Returns the executor of the process, which all tests share.
fn start() -> Started {
    Started { runtime: Arc::new(SmolRuntime::new()), keep: Box::new(()) }
}
