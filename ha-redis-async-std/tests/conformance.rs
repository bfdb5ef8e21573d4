//! The suite that every runtime passes.

use std::sync::Arc;

use ha_redis_async_std::AsyncStdRuntime;
use ha_redis_testkit::conformance::{self, Harness, Started};

fn main() {
    conformance::main(&[Harness { name: "async_std", start }]);
}

/// The executor of the process, which every test uses.
fn start() -> Started {
    Started { runtime: Arc::new(AsyncStdRuntime::new()), keep: Box::new(()) }
}
