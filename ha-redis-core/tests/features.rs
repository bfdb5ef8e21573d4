//! What needs a cargo feature that is off says which, before anything is done.
//!
//! These tests stand here since nothing that this crate's tests depend on turns the features on; the suite that the
//! runtime crates run does. They are for a build without features and run only where they are named (`.ci/run`): with a
//! feature they fail.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use futures_lite::future::block_on;
use ha_redis_core::Client;
use ha_redis_core::runtime::{Endpoint, Runtime, Task, Timer, Transport};

/// A runtime of which nothing is asked.
#[derive(Debug)]
struct Idle;

#[async_trait]
impl Runtime for Idle {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn timer(&self, _: Instant) -> Box<dyn Timer> {
        panic!("nothing is waited for");
    }

    fn spawn(&self, _: Task) -> io::Result<()> {
        panic!("no task is started");
    }

    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        panic!("no name is looked up");
    }

    async fn connect(&self, _: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
        panic!("no connection is made");
    }
}

fn is_refused(url: &str, setting: &str, feature: &str) {
    let client = Client::new(url.parse().expect("a URL"), Arc::new(Idle));
    let error = block_on(client.initialize()).expect_err("refused");
    let text = error.to_string();
    let feature = format!("cargo feature `{feature}`");
    assert!(error.is_config() && text.contains(setting) && text.contains(&feature), "{text}");
}

#[test]
fn a_configuration_that_needs_tls_is_refused_and_not_sent_in_the_clear() {
    is_refused("rediss://127.0.0.1:1", "ssl = true", "tls");
}

#[test]
fn a_configuration_that_needs_sentinels_is_refused() {
    is_refused("redis+sentinel://127.0.0.1:1/mymaster", "use_sentinel = true", "sentinel");
}
