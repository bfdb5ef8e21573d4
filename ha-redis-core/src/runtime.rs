//! The boundary between the core and an async runtime.
//!
//! The core opens no socket, reads no clock and starts no task by itself: it asks a [`Runtime`]. Calls cross
//! this boundary once per connection, timer or socket operation, never once per command, so trait objects
//! cost nothing that matters and the client needs no type parameter.

use std::fmt::{self, Debug};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use async_trait::async_trait;

use crate::alarm::Alarm;
use crate::resolver;

/// A task handed to [`Runtime::spawn`].
pub type Task = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// What an async runtime provides: time, tasks and connections.
///
/// `ha-redis-tokio`, `ha-redis-async-std` and `ha-redis-smol` hold one each; write your own to run the client
/// elsewhere. It resolves and connects once for each call, and neither waits with a bound nor tries again: the core
/// decides which of the addresses of a name are tried, and for how long.
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

    /// The addresses that a host name stands for now, each with `port`, the preferred ones first: what the system's
    /// resolver answers. The core asks anew for every connection, and for names only: of an IP address it makes the
    /// [`Endpoint`] itself, unless the address has a zone (`fe80::1%eth0`).
    ///
    /// The caller bounds the time; dropping the future abandons the question. No addresses at all count as an error.
    ///
    /// # Errors
    /// What the resolver said. The caller adds the name to it.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// Opens a plain connection to this one endpoint. On TCP it should send what is written without delay
    /// (`TCP_NODELAY`), notice a peer that is gone (keepalive), and take no more bytes ahead than it needs to keep the
    /// network busy (`TCP_NOTSENT_LOWAT`), since the client tells by the bytes that are taken whether the server lives.
    ///
    /// Several attempts may go on at once, each to another address of a name: the first to connect is kept, and the
    /// others are dropped. The caller bounds the time; dropping the future abandons the attempt.
    ///
    /// # Errors
    /// What the operating system said. The caller adds the endpoint to it.
    async fn connect(&self, endpoint: Endpoint<'_>) -> io::Result<Box<dyn Transport>>;

    /// Whether time is not real, as in a simulation: then nothing but the runtime's own tasks may look at it, and no
    /// thread watches over them.
    fn is_simulated(&self) -> bool {
        false
    }

    /// A random number, for the jitter of retries and reconnects. A simulated runtime returns a seeded one.
    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// A timer of no runtime, which a thread of this library keeps. It fires also for a caller on an executor that has no
/// timers, while the client's runtime is blocked or not driven: a [`Runtime::timer`] that would not fire there returns
/// this.
pub fn alarm(at: Instant) -> Box<dyn Timer> {
    Box::new(Alarm::new(at))
}

/// What the system's resolver answers, for a [`Runtime::resolve`] on an executor that must not be blocked. It is asked on a
/// thread of its own; where the system has none to give, that is the error. Dropping the future abandons the question.
///
/// # Errors
/// What the resolver said.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    resolver::resolve(host, port).await
}

/// Where a socket connects to: an [`Address`](crate::Address) whose name is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint<'a> {
    /// An IP address and a TCP port.
    Tcp(SocketAddr),
    /// The path of a Unix domain socket.
    Unix(&'a Path),
}

impl fmt::Display for Endpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
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

    /// Has the connection reset when it is dropped, not closed in order: what the server has not acknowledged by then is
    /// not to reach it any more. On TCP that is `SO_LINGER` with a time of zero. By default nothing is done.
    ///
    /// The client calls this on a connection that it gives up while replies are owed. A command on it that is delivered
    /// late would undo what was written since on another connection.
    fn reset_on_drop(&mut self) {}
}

/// A timer of a [`Runtime`].
pub trait Timer: Send + 'static {
    /// Sets the timer to fire at `at` instead, whether or not it has fired before.
    fn reset(&mut self, at: Instant);

    /// Ready from the moment on at which the timer fires.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
