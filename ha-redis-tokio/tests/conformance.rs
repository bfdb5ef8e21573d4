//! Runs the conformance suite on both of Tokio's schedulers, and in each protected environment on one of them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;
use std::thread;

use ha_redis_testkit::Environment;
use ha_redis_testkit::conformance::{self, Harness, Started};
use ha_redis_tokio::TokioRuntime;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

fn main() {
    conformance::main(&[
        Harness { name: "multi_thread", start: multi_thread, environments: &[Environment::MtlsAcl] },
        Harness { name: "current_thread", start: current_thread, environments: &[Environment::Tls] },
    ]);
}

fn multi_thread() -> Started {
    let tokio = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    Started { runtime: on(tokio.handle()), keep: Box::new(tokio) }
}

/// Starts a single-threaded runtime on a thread other than the test's.
fn current_thread() -> Started {
    let tokio = Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = on(tokio.handle());
    let (keep, dropped) = oneshot::channel::<()>();
    thread::spawn(move || tokio.block_on(dropped));
    Started { runtime, keep: Box::new(keep) }
}

fn on(handle: &Handle) -> Arc<TokioRuntime> {
    Arc::new(TokioRuntime::from(handle.clone()))
}
