//! What every test uses: clients on the tested runtime, tasks, and waiting for conditions.

use std::future::{self, Future, poll_fn};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use futures_lite::future::or;
use ha_redis_core::runtime::Runtime;
use ha_redis_core::{Address, Client, Error, RedisConfig, RedisConfigBuilder};
use redis::AsyncCommands;

use crate::{Environment, Server, ServerBuilder, Topology, TopologyBuilder};

/// The timeout of every wait, longer than anything here takes even on a busy machine.
pub(super) const BOUND: Duration = Duration::from_secs(30);

/// A test's access to the tested runtime.
#[derive(Clone)]
pub(super) struct Kit {
    /// The name of the harness that runs the test.
    pub(super) harness: &'static str,
    pub(super) runtime: Arc<dyn Runtime>,
    /// How the servers of [`Kit::server`] and [`Kit::topology`] are protected.
    pub(super) environment: Environment,
}

impl Kit {
    pub(super) fn new(harness: &'static str, runtime: Arc<dyn Runtime>, environment: Environment) -> Self {
        Self { harness, runtime, environment }
    }

    /// Returns a server of the test's environment. Its URL contains all that a client needs.
    pub(super) fn server(&self) -> Server {
        self.server_builder().start().unwrap()
    }

    pub(super) fn server_builder(&self) -> ServerBuilder {
        Server::builder().environment(self.environment)
    }

    /// Returns a topology of the test's environment. Its URL contains all that a client needs.
    pub(super) fn topology(&self) -> Topology {
        self.topology_builder().start().unwrap()
    }

    pub(super) fn topology_builder(&self) -> TopologyBuilder {
        Topology::builder().environment(self.environment)
    }

    /// Returns a client that has not connected yet.
    pub(super) fn client(&self, config: RedisConfig) -> Client {
        Client::new(config, Arc::clone(&self.runtime))
    }

    pub(super) async fn connect(&self, config: RedisConfig) -> Result<Client, Error> {
        let client = self.client(config);
        client.initialize().await?;
        Ok(client)
    }

    pub(super) async fn client_of(&self, server: &Server) -> Client {
        self.connect(config(&server.url())).await.unwrap()
    }

    /// Returns a client with a long failover wait: on a busy machine the Sentinels may need a second attempt.
    pub(super) async fn client_of_topology(&self, topology: &Topology) -> Client {
        let settings = settings(&topology.url()).failover_wait(BOUND);
        self.connect(settings.build().unwrap()).await.unwrap()
    }

    /// Spawns a task on the runtime.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Spawned<T> {
        let (end, ended) = async_channel::bounded(1);
        let (abort, aborted) = async_channel::bounded::<()>(1);
        let work = async move { _ = end.send(work.await).await };
        let aborted = async move {
            if aborted.recv().await.is_err() {
                future::pending::<()>().await;
            }
        };
        self.runtime.spawn(Box::pin(or(work, aborted))).unwrap();
        Spawned { ended, abort }
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        let mut timer = self.runtime.timer(self.runtime.now() + duration);
        poll_fn(|cx| timer.poll(cx)).await;
    }

    /// Waits until `condition` holds.
    pub(super) async fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < BOUND, "timed out waiting for: {what}");
            self.sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the client is connected to this server as the master, whatever host name it uses.
    pub(super) async fn until_master(&self, client: &Client, server: &Server) {
        let start = Instant::now();
        loop {
            let health = client.health_check().await;
            match health.master {
                Some(Address::Tcp { port, .. }) if port == server.port() && health.error.is_none() => return,
                _ => assert!(start.elapsed() < BOUND, "timed out waiting for the new master: {health:?}"),
            }
            self.sleep(Duration::from_millis(10)).await;
        }
    }

    /// Calls until a call fails with an error that `wanted` accepts, and returns the error's text.
    pub(super) async fn error_that(&self, client: &Client, matches: impl Fn(&str) -> bool) -> String {
        let (start, mut redis) = (Instant::now(), client.connection());
        loop {
            let result = redis.get::<_, Option<String>>("key").await.map_err(|error| error.to_string());
            match result {
                Err(error) if matches(&error) => return error,
                result => assert!(start.elapsed() < BOUND, "timed out waiting for an error: {result:?}"),
            }
            self.sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the output of `work`. Panics if `work` takes longer than [`BOUND`].
    pub(super) async fn within<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let late = async {
            self.sleep(BOUND).await;
            panic!("timed out waiting for: {what}");
        };
        or(work, late).await
    }

    /// Waits until all tasks have ended.
    pub(super) async fn all<T>(&self, tasks: impl IntoIterator<Item = Spawned<T>>) -> Vec<T> {
        let mut ended = Vec::new();
        for task in tasks.into_iter().collect::<Vec<_>>() {
            ended.push(self.within("a task ends", task.end()).await);
        }
        ended
    }
}

/// A spawned task. Dropping this does not stop the task.
pub(super) struct Spawned<T> {
    ended: Receiver<T>,
    abort: Sender<()>,
}

impl<T> Spawned<T> {
    pub(super) async fn end(self) -> T {
        self.ended.recv().await.expect("the task has panicked")
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_closed() || !self.ended.is_empty()
    }

    pub(super) fn abort(&self) {
        // The task may have ended before.
        let _ = self.abort.try_send(());
    }
}

pub(super) fn config(url: &str) -> RedisConfig {
    url.parse().unwrap()
}

/// Returns the settings of a URL, to change some.
pub(super) fn settings(url: &str) -> RedisConfigBuilder {
    config(url).to_builder()
}

/// Returns the peak memory use of the process, in bytes.
pub(super) fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Resets [`peak_memory`].
pub(super) fn forget_peak_memory() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Returns the number of client connections of the server. Excludes replicas, Sentinels and the connection that
/// runs the query.
pub(super) fn connections(server: &Server) -> usize {
    let list = server.query(&["CLIENT", "LIST", "TYPE", "NORMAL"]).unwrap();
    list.text()
        .unwrap()
        .lines()
        .filter(|line| !line.contains("cmd=client") && !line.contains("name=sentinel-"))
        .count()
}

/// Returns how often the server has run a command.
pub(super) fn calls(server: &Server, command: &str) -> u64 {
    let stats = server.query(&["INFO", "commandstats"]).unwrap();
    let prefix = format!("cmdstat_{command}:calls=");
    let line = stats.text().unwrap().lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned);
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

/// Returns how often the server has rejected a command, because of the user's permissions or the server's state.
pub(super) fn rejected(server: &Server, command: &str) -> u64 {
    let stats = server.query(&["INFO", "commandstats"]).unwrap();
    let prefix = format!("cmdstat_{command}:");
    let line = stats.text().unwrap().lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned);
    let rejected =
        line.iter().flat_map(|line| line.split(',')).find_map(|f| f.strip_prefix("rejected_calls="));
    rejected.map_or(0, |rejected| rejected.parse().unwrap())
}

/// Returns how many clients wait in a blocking command.
pub(super) fn blocked_clients(server: &Server) -> usize {
    let info = server.query(&["INFO", "clients"]).unwrap();
    let line = info.text().unwrap().lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    line.unwrap().trim().parse().unwrap()
}
