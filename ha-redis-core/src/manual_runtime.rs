//! A runtime for tests in which time passes when the test says so. It has neither tasks nor connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::runtime::{Endpoint, Runtime, Task, Timer, Transport};
use crate::sync::{Mutex, lock};

/// Its timers wake nobody: the test polls again after it has moved the time.
#[derive(Clone, Debug)]
pub(crate) struct ManualRuntime {
    now: Arc<Mutex<Instant>>,
    /// How much later than they should its timers fire.
    lateness: Duration,
}

impl ManualRuntime {
    pub(crate) fn new() -> Self {
        Self { now: Arc::new(Mutex::new(Instant::now())), lateness: Duration::ZERO }
    }

    /// As Tokio's timers are, which count milliseconds.
    pub(crate) fn with_late_timers() -> Self {
        Self { lateness: Duration::from_millis(2), ..Self::new() }
    }

    pub(crate) fn pass(&self, time: Duration) {
        *lock(&self.now) += time;
    }
}

#[async_trait]
impl Runtime for ManualRuntime {
    fn now(&self) -> Instant {
        *lock(&self.now)
    }

    fn timer(&self, at: Instant) -> Box<dyn Timer> {
        Box::new(ManualTimer { runtime: self.clone(), at: at + self.lateness })
    }

    fn spawn(&self, _: Task) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn connect(&self, _: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

struct ManualTimer {
    runtime: ManualRuntime,
    at: Instant,
}

impl Timer for ManualTimer {
    fn reset(&mut self, at: Instant) {
        self.at = at + self.runtime.lateness;
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.runtime.now() >= self.at { Poll::Ready(()) } else { Poll::Pending }
    }
}
