//! The boundary between the core and an async runtime.
//!
//! The core opens no socket, reads no clock and starts no task by itself: it uses a [`Runtime`]. Calls cross this
//! boundary once per connection, timer or socket operation, never once per command, so trait objects cost little and
//! the client needs no type parameter.

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
use crate::peer_text::escaped;
use crate::resolver;

/// A task handed to [`Runtime::spawn`].
pub type Task = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// What an async runtime provides: time, tasks and connections.
///
/// `ha-redis-tokio`, `ha-redis-async-std` and `ha-redis-smol` provide one each; implement the trait to run the client
/// elsewhere. Each call resolves or connects once, without timeout or retry: the core decides which addresses of a
/// name are tried, and for how long.
#[async_trait]
pub trait Runtime: Debug + Send + Sync + 'static {
    /// Returns the current time of this runtime's clock, which [`Runtime::timer`] uses too. A runtime with a paused
    /// or simulated clock returns that clock's time.
    fn now(&self) -> Instant;

    /// Creates a timer that fires at `at`.
    fn timer(&self, at: Instant) -> Box<dyn Timer>;

    /// Starts a detached task.
    ///
    /// # Errors
    /// If there is no running runtime to run the task.
    fn spawn(&self, task: Task) -> io::Result<()>;

    /// Returns the current addresses of a host name, each with `port`, the preferred ones first, as the system's
    /// resolver returns them. The core calls this for every connection, and only for names: it creates the
    /// [`Endpoint`] of an IP address itself, unless the address has a zone (`fe80::1%eth0`).
    ///
    /// The caller sets a timeout; dropping the future abandons the lookup. An empty list counts as an error.
    ///
    /// # Errors
    /// The resolver's error. The caller adds the name.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// Opens a plain connection to this one endpoint. A TCP connection should send without delay (`TCP_NODELAY`),
    /// detect a peer that is gone (keepalive), and buffer no more bytes than it needs to keep the network busy
    /// (`TCP_NOTSENT_LOWAT`), since the client takes accepted bytes as a sign that the server is alive.
    ///
    /// Several attempts may run at the same time, each to another address of a name: the first to connect is used,
    /// and the others are dropped. The caller sets a timeout; dropping the future abandons the attempt.
    ///
    /// # Errors
    /// The operating system's error. The caller adds the endpoint.
    async fn connect(&self, endpoint: Endpoint<'_>) -> io::Result<Box<dyn Transport>>;

    /// Returns true if time is simulated. Then only the runtime's own tasks may use it, and no thread watches over
    /// them.
    fn is_simulated(&self) -> bool {
        false
    }

    /// Returns a random number, for the jitter of retries and reconnects. A simulated runtime returns a seeded one.
    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// Returns a timer that a thread of this library fires, independent of any runtime. It also fires for a caller on an
/// executor without timers, while the client's runtime is blocked or not driven: a [`Runtime::timer`] that would not
/// fire there returns this.
pub fn alarm(at: Instant) -> Box<dyn Timer> {
    Box::new(Alarm::new(at))
}

/// Resolves a host name with the system's resolver, for a [`Runtime::resolve`] on an executor that must not be
/// blocked. The lookup runs in a separate thread; if the system cannot start one, that is the error. Dropping the
/// future abandons the lookup.
///
/// # Errors
/// The resolver's error.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    resolver::resolve(host, port).await
}

/// The target of a socket: an [`Address`](crate::Address) whose name is resolved.
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
            Self::Unix(path) => f.write_str(&escaped(&path.to_string_lossy())),
        }
    }
}

/// A byte stream to a server, owned by one task.
///
/// Each method registers the task's waker when it returns `Pending`, like the traits of futures-io; a read and a
/// write may be pending at the same time.
pub trait Transport: Send + 'static {
    /// Reads into `buf`; `Ok(0)` means that the server closed its side.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes some of `buf` and returns how much was taken.
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;

    /// Flushes the transport's own buffers. Plain sockets have none.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Makes dropping the connection reset it instead of closing it in order: data that the server has not
    /// acknowledged by then must not reach it later. On TCP that is `SO_LINGER` with a time of zero. The default does
    /// nothing.
    ///
    /// The client calls this on a connection that it gives up while replies are pending. If a command on it were
    /// delivered late, it would undo later writes on another connection.
    fn reset_on_drop(&mut self) {}
}

/// A timer of a [`Runtime`].
pub trait Timer: Send + 'static {
    /// Sets the timer to fire at `at` instead, whether or not it has fired before.
    fn reset(&mut self, at: Instant);

    /// Ready once the timer has fired.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
