//! The core's `Runtime` on Tokio: sockets, timers and tasks.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ha_redis_core::runtime::{self, Endpoint, Runtime, Task, Timer, Transport, alarm};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Handle, RuntimeFlavor};

/// The idle time before a keepalive probe, and the interval between probes.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// Written bytes that the peer has not acknowledged after this time end the connection.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum number of unsent bytes in the kernel's buffer: enough for a fast network.
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 256 << 10;

/// [`Runtime`] on Tokio, with Tokio's clock.
///
/// A paused clock (`#[tokio::test(start_paused = true)]`) only suits tests without servers: it jumps to the next
/// timer as soon as all tasks wait for sockets, so connecting and calls time out before a real server answers.
///
/// It belongs to the Tokio runtime in which it was created or first used.
#[derive(Debug, Default)]
pub struct TokioRuntime {
    handle: OnceLock<Handle>,
}

impl TokioRuntime {
    /// Uses the runtime of the current context, or else the one in which the client is first used.
    pub fn new() -> Self {
        Handle::try_current().map(Self::from).unwrap_or_default()
    }

    fn handle(&self) -> io::Result<&Handle> {
        if let Some(handle) = self.handle.get() {
            return Ok(handle);
        }
        let current = Handle::try_current().map_err(io::Error::other)?;
        Ok(self.handle.get_or_init(|| current))
    }

    /// Runs work that needs a Tokio context, such as sockets, even if the caller waits on another executor.
    async fn within<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let handle = self.handle()?;
        let mut work = pin!(work);
        poll_fn(|cx| {
            let _context = handle.enter();
            work.as_mut().poll(cx)
        })
        .await
    }
}

impl From<Handle> for TokioRuntime {
    fn from(handle: Handle) -> Self {
        Self { handle: handle.into() }
    }
}

#[async_trait]
impl Runtime for TokioRuntime {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn timer(&self, at: Instant) -> Box<dyn Timer> {
        // Tokio's timers belong to a runtime and fire only while it is driven. A caller may wait elsewhere, or may
        // have entered the context of a single-threaded runtime that nobody drives. Inside a task, the runtime is
        // driven.
        let is_driven = |current: &Handle| {
            tokio::task::try_id().is_some() || current.runtime_flavor() != RuntimeFlavor::CurrentThread
        };
        let is_home = |current: &Handle| self.handle.get().is_none_or(|home| home.id() == current.id());
        match Handle::try_current().is_ok_and(|current| is_home(&current) && is_driven(&current)) {
            true => Box::new(Sleep(Box::pin(tokio::time::sleep_until(at.into())))),
            false => alarm(at),
        }
    }

    fn spawn(&self, task: Task) -> io::Result<()> {
        self.handle()?.spawn(task);
        Ok(())
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // Tokio's own look-up panics if the system cannot create a thread.
        runtime::resolve(host, port).await
    }

    async fn connect(&self, endpoint: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
        self.within(open(endpoint)).await
    }
}

async fn open(endpoint: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
    match endpoint {
        Endpoint::Tcp(address) => {
            let socket = TcpStream::connect(address).await?;
            set_options(&socket)?;
            Ok(Box::new(Socket(socket)))
        }
        Endpoint::Unix(path) => Ok(Box::new(Socket(UnixStream::connect(path).await?))),
    }
}

fn set_options(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        socket.set_tcp_notsent_lowat(MAX_UNSENT)?;
    }
    Ok(())
}

struct Sleep(Pin<Box<tokio::time::Sleep>>);

impl Timer for Sleep {
    fn reset(&mut self, at: Instant) {
        self.0.as_mut().reset(at.into());
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

struct Socket<S>(S);

impl<S: AsyncRead + AsyncWrite + AsFd + Send + Unpin + 'static> Transport for Socket<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buf = ReadBuf::new(buf);
        Pin::new(&mut self.0).poll_read(cx, &mut buf).map_ok(|()| buf.filled().len())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn reset_on_drop(&mut self) {
        // Without this, the system continues to send after the close. An error here means that the socket is closed
        // anyway.
        let _ = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }
}
