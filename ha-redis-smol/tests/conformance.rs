//! The suite that every runtime passes.

use std::sync::Arc;

use ha_redis_smol::SmolRuntime;
use ha_redis_testkit::conformance::{self, Harness, Started};

fn main() {
    conformance::main(&[Harness { name: "smol", start }]);
}

/// The executor of the process, which every test uses.
fn start() -> Started {
    Started { runtime: Arc::new(SmolRuntime::new()), keep: Box::new(()) }
}
