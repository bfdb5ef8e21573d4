//! The core's `Runtime` on async-std: sockets, timers and tasks.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_std::io::{Read, Write};
use async_std::net::TcpStream;
use async_std::os::unix::net::UnixStream;
use async_std::task;
use async_trait::async_trait;
use ha_redis_core::runtime::{self, Endpoint, Runtime, Task, Timer, Transport};
use socket2::{SockRef, TcpKeepalive};

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

/// [`Runtime`] on async-std: its executor, whose number of threads `ASYNC_STD_THREAD_COUNT` sets.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AsyncStdRuntime;

impl AsyncStdRuntime {
    /// Uses async-std's executor; a process has only one.
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Runtime for AsyncStdRuntime {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn timer(&self, at: Instant) -> Box<dyn Timer> {
        Box::new(Sleep { timer: async_io::Timer::at(at), fired: false })
    }

    fn spawn(&self, task: Task) -> io::Result<()> {
        // Dropping the handle detaches the task.
        drop(task::spawn(task));
        Ok(())
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // async-std's own look-up waits forever if the system cannot create a thread.
        runtime::resolve(host, port).await
    }

    async fn connect(&self, endpoint: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
        match endpoint {
            Endpoint::Tcp(address) => {
                let socket = TcpStream::connect(address).await?;
                set_options(&socket)?;
                Ok(Box::new(Socket(socket)))
            }
            Endpoint::Unix(path) => Ok(Box::new(Socket(UnixStream::connect(path).await?))),
        }
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

/// A timer of async-io, on which async-std is built: unlike async-std's own timers, it can be reset.
struct Sleep {
    timer: async_io::Timer,
    /// The timer does not remember that it has fired.
    fired: bool,
}

impl Timer for Sleep {
    fn reset(&mut self, at: Instant) {
        self.timer.set_at(at);
        self.fired = false;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.fired = self.fired || Pin::new(&mut self.timer).poll(cx).is_ready();
        if self.fired { Poll::Ready(()) } else { Poll::Pending }
    }
}

struct Socket<S>(S);

impl<S: Read + Write + AsFd + Send + Unpin + 'static> Transport for Socket<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
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
