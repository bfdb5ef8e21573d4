//! Runs the conformance suite on async-std.

use std::sync::Arc;

use ha_redis_async_std::AsyncStdRuntime;
use ha_redis_testkit::Environment;
use ha_redis_testkit::conformance::{self, Harness, Started};

fn main() {
    conformance::main(&[Harness { name: "async_std", start, environments: &Environment::PROTECTED }]);
}

/// Returns the executor of the process, which all tests share.
fn start() -> Started {
    Started { runtime: Arc::new(AsyncStdRuntime::new()), keep: Box::new(()) }
}
