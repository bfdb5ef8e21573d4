//! A call's path through the engine and back, without sockets: caller, link, driver, reply slot.
//!
//! The transport replies to every write at once, and everything runs on one thread, so nothing waits.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use async_trait::async_trait;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ha_redis_core::runtime::{Endpoint, Runtime, Task, Timer, Transport};
use ha_redis_core::{Client, Connection, RedisConfig};
use redis::{AsyncCommands, Cmd};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;

criterion_group!(benches, slots);
criterion_main!(benches);

const KEY: &str = "some:key";
const REPLY: &[u8] = b"$5\r\nhello\r\n";

fn slots(criterion: &mut Criterion) {
    let tokio = Builder::new_current_thread().build().expect("a runtime");
    let client = Client::new(RedisConfig::default(), Arc::new(InMemory(tokio.handle().clone())));
    tokio.block_on(client.initialize()).expect("a connection");

    let mut group = criterion.benchmark_group("slots");
    group.throughput(Throughput::Elements(1));
    for callers in [1, 64, 1_024] {
        group.bench_function(format!("GET, {callers} callers"), |bencher| {
            bencher.iter_custom(|calls| {
                let began = Instant::now();
                tokio.block_on(share(&client.connection(), callers, calls));
                began.elapsed()
            });
        });
    }
    group.finish();
}

/// Makes `calls` calls in total from `callers` tasks.
async fn share(connection: &Connection, callers: u64, calls: u64) {
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let mut redis = connection.clone();
        let own = calls / callers + u64::from(caller < calls % callers);
        tasks.spawn(async move {
            for _ in 0..own {
                let _: Vec<u8> = redis.get(KEY).await.expect("a reply");
            }
        });
    }
    tasks.join_all().await;
}

/// A runtime whose connections are in memory and whose timers never fire.
#[derive(Debug)]
struct InMemory(Handle);

#[async_trait]
impl Runtime for InMemory {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn timer(&self, _at: Instant) -> Box<dyn Timer> {
        Box::new(Never)
    }

    fn spawn(&self, task: Task) -> io::Result<()> {
        self.0.spawn(task);
        Ok(())
    }

    async fn resolve(&self, _host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![(Ipv4Addr::LOCALHOST, port).into()])
    }

    async fn connect(&self, _endpoint: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
        let request = Cmd::get(KEY).get_packed_command().len();
        Ok(Box::new(InMemoryServer { request, introduced: false, pending_bytes: Vec::new(), reader: None }))
    }
}

struct Never;

impl Timer for Never {
    fn reset(&mut self, _at: Instant) {}

    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// A server in place of a socket. It supports HELLO and PING, which come first, and GET.
struct InMemoryServer {
    /// The bytes of a GET.
    request: usize,
    introduced: bool,
    /// Replies that have not been read.
    pending_bytes: Vec<u8>,
    reader: Option<Waker>,
}

impl Transport for InMemoryServer {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.pending_bytes.is_empty() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let read = self.pending_bytes.len().min(buf.len());
        buf[..read].copy_from_slice(&self.pending_bytes[..read]);
        self.pending_bytes.drain(..read);
        Poll::Ready(Ok(read))
    }

    fn poll_write(&mut self, _cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.introduced {
            (0..buf.len() / self.request).for_each(|_| self.pending_bytes.extend_from_slice(REPLY));
        } else {
            self.pending_bytes.extend_from_slice(b"%0\r\n+PONG\r\n");
            self.introduced = true;
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
