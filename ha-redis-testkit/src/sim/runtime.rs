//! The core's runtime interface on the simulation: virtual time, tasks and the network.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fastrand::Rng;
use ha_redis_core::runtime::{Endpoint, Runtime, Task, Timer, Transport};

use super::host::Host;
use super::network::ConnectionId;
use super::scheduler::{Clock, Owner, TimerKey, lock};
use super::world::World;

/// A [`Runtime`] in virtual time.
#[derive(Clone)]
pub(super) struct SimRuntime {
    /// The instant at which virtual time begins.
    beginning: Instant,
    clock: Arc<Clock>,
    world: Arc<Mutex<World>>,
    rng: Arc<Mutex<Rng>>,
}

impl SimRuntime {
    pub(super) fn new(clock: &Arc<Clock>, world: &Arc<Mutex<World>>, seed: u64) -> Self {
        Self {
            beginning: Instant::now(),
            clock: Arc::clone(clock),
            world: Arc::clone(world),
            rng: Arc::new(Mutex::new(Rng::with_seed(seed))),
        }
    }

    /// Returns the virtual time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.now()
    }

    pub(super) async fn sleep(&self, time: Duration) {
        let mut alarm = SimTimer { clock: Arc::clone(&self.clock), at: self.clock.now() + time, key: None };
        poll_fn(|cx| alarm.poll(cx)).await;
    }
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRuntime").field("elapsed", &self.elapsed()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Runtime for SimRuntime {
    fn now(&self) -> Instant {
        self.beginning + self.clock.now()
    }

    fn is_simulated(&self) -> bool {
        true
    }

    fn timer(&self, at: Instant) -> Box<dyn Timer> {
        let at = at.saturating_duration_since(self.beginning);
        let clock = Arc::clone(&self.clock);
        Box::new(RuntimeTimer { beginning: self.beginning, alarm: SimTimer { clock, at, key: None } })
    }

    fn spawn(&self, task: Task) -> io::Result<()> {
        self.clock.spawn(Owner::Client, task);
        Ok(())
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = Host::servers().find(|server| server.to_string() == host);
        let found = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))?;
        Ok(vec![(found.ip(), port).into()])
    }

    async fn connect(&self, endpoint: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
        let server = Host::at(endpoint);
        lock(&self.world).record_attempt(server);
        if Host::is_silent(endpoint) {
            std::future::pending::<()>().await;
        }
        let server = server.ok_or(io::ErrorKind::ConnectionRefused)?;
        let connection = lock(&self.world).dial(server);
        let socket = Socket { world: Arc::clone(&self.world), connection, reset: false };
        poll_fn(|cx| lock(&socket.world).poll_connected(socket.connection, cx)).await?;
        Ok(Box::new(socket))
    }

    fn random(&self) -> u64 {
        lock(&self.rng).u64(..)
    }
}

/// A timer of the clock.
struct SimTimer {
    clock: Arc<Clock>,
    at: Duration,
    key: Option<TimerKey>,
}

impl SimTimer {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.clock.poll_until(self.at, &mut self.key, cx)
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        self.clock.cancel_timer(self.key.take());
    }
}

struct RuntimeTimer {
    beginning: Instant,
    alarm: SimTimer,
}

impl Timer for RuntimeTimer {
    fn reset(&mut self, at: Instant) {
        self.alarm.clock.cancel_timer(self.alarm.key.take());
        self.alarm.at = at.saturating_duration_since(self.beginning);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(cx)
    }
}

/// The client's end of a connection.
struct Socket {
    world: Arc<Mutex<World>>,
    connection: ConnectionId,
    /// Whether the client has given the connection up.
    reset: bool,
}

impl Transport for Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        lock(&self.world).poll_read(self.connection, cx, buf)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.world).poll_write(self.connection, cx, buf)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn reset_on_drop(&mut self) {
        self.reset = true;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut world = lock(&self.world);
        match self.reset {
            true => world.give_up(self.connection),
            false => world.close_from_client(self.connection),
        }
    }
}
