//! The boundary between the core and an async runtime.
//!
//! The core opens no socket, reads no clock and starts no task by itself: it asks a [`Runtime`]. Calls cross
//! this boundary once per connection, timer or socket operation, never once per command, so trait objects
//! cost nothing that matters and the client needs no type parameter.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use async_trait::async_trait;

use crate::address::Address;

/// A task handed to [`Runtime::spawn`].
pub type Task = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// What an async runtime provides: time, tasks and connections.
///
/// `ha-redis-tokio`, `ha-redis-async-std` and `ha-redis-smol` hold one each; write your own to run the client
/// elsewhere.
#[async_trait]
pub trait Runtime: Debug + Send + Sync + 'static {
    /// The current time of this runtime's clock, which [`Runtime::timer`] follows. A runtime with a paused or
    /// simulated clock returns that clock's time.
    fn now(&self) -> Instant;

    /// A timer that fires at `at`.
    fn timer(&self, at: Instant) -> Box<dyn Timer>;

    /// Starts a task that runs on its own, detached.
    ///
    /// # Errors
    /// When there is no running runtime to take the task.
    fn spawn(&self, task: Task) -> io::Result<()>;

    /// Opens a plain connection: resolves the name (anew on every call) and connects. The caller bounds the
    /// time; dropping the future abandons the attempt.
    ///
    /// # Errors
    /// What the operating system said. The caller adds the address to it.
    async fn connect(&self, address: &Address) -> io::Result<Box<dyn Transport>>;

    /// A random number, for the jitter of retries and reconnects. A simulated runtime returns a seeded one.
    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// A byte stream to a server. One task owns it.
///
/// Each method registers the task's waker when it returns `Pending`, as the traits of futures-io do; a read
/// and a write may be pending at the same time.
pub trait Transport: Send + 'static {
    /// Reads into `buf`; `Ok(0)` means that the server closed its side.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes some of `buf` and returns how much was taken.
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;

    /// Sends on what the transport itself buffers. Plain sockets buffer nothing.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A timer of a [`Runtime`].
pub trait Timer: Send + 'static {
    /// Sets the timer to fire at `at` instead, whether or not it has fired before.
    fn reset(&mut self, at: Instant);

    /// Ready from the moment on at which the timer fires.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
