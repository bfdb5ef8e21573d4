//! Two shards that share the keys by their first letter: calls, switches and events of one touch no other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_lite::{StreamExt, future};
use redis::{Value, cmd};

use crate::address::Address;
use crate::alarm::Alarm;
use crate::call::caller::Caller;
use crate::command::command;
use crate::config::RedisConfig;
use crate::conn::link::Call;
use crate::error::Error;
use crate::events::Event;
use crate::node::client_options::ClientOptions;
use crate::node::core::{ClientGuard, Core};
use crate::node::shard::Shard;
use crate::proto::Reply;
use crate::routing::RoutingTable;
use crate::runtime::{Endpoint, Runtime, Task, Timer, Transport};
use crate::sync::{Mutex, lock};
use crate::tasks::start::start;
use crate::topology::{AddressSource, ShardId};

/// Servers in memory. Each answers PING by PONG, and everything else by its own port.
#[derive(Debug)]
struct Servers;

#[async_trait]
impl Runtime for Servers {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn timer(&self, at: Instant) -> Box<dyn Timer> {
        Box::new(Alarm::new(at))
    }

    fn spawn(&self, task: Task) -> io::Result<()> {
        thread::Builder::new().spawn(|| future::block_on(task)).map(drop)
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let ip = host.parse().map_err(io::Error::other)?;
        Ok(vec![SocketAddr::new(ip, port)])
    }

    async fn connect(&self, endpoint: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
        match endpoint {
            Endpoint::Tcp(address) => {
                Ok(Box::new(Connection { port: address.port(), ..Connection::default() }))
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// What a server has said and nobody has read, and who waits for more.
#[derive(Default)]
struct Connection {
    port: u16,
    said: Mutex<Vec<u8>>,
    reader: Mutex<Option<Waker>>,
}

impl Transport for Connection {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut said = lock(&self.said);
        if said.is_empty() {
            *lock(&self.reader) = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let read = said.len().min(buf.len());
        buf[..read].copy_from_slice(&said[..read]);
        said.drain(..read);
        Poll::Ready(Ok(read))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // A command is written as a whole.
        for command in buf.split(|byte| *byte == b'*').skip(1) {
            let words: Vec<_> = command.split(|byte| *byte == b'\n').collect();
            let answer = match words.get(2).and_then(|name| name.strip_suffix(b"\r")) {
                Some(b"PING") => "+PONG\r\n".to_owned(),
                Some(b"HELLO") => "-ERR unknown command 'HELLO'\r\n".to_owned(),
                _ => format!(":{}\r\n", self.port),
            };
            lock(&self.said).extend_from_slice(answer.as_bytes());
        }
        lock(&self.reader).take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn server(port: u16) -> Address {
    Address::tcp("127.0.0.1", port)
}

/// Keys up to the letter m belong to the first shard, those behind it to the second.
fn shard_of(key: &[u8]) -> ShardId {
    ShardId(usize::from(key.first() > Some(&b'm')))
}

/// Two shards: keys up to the letter m, and those behind it.
fn two_shards() -> (Arc<ClientGuard>, [Arc<Shard>; 2]) {
    let config = RedisConfig::builder().failover_wait(Duration::from_secs(20)).build().unwrap();
    let core = Core::new(config, Arc::new(Servers), ClientOptions::new());
    let shards = [0, 1].map(|number| Arc::new(core.new_shard(ShardId(number))));
    core.routing.store(RoutingTable::by_key(shards.to_vec(), shard_of));
    (Arc::new(ClientGuard::new(core)), shards)
}

/// Which server answers for a key.
async fn answering(caller: &mut Caller, key: &str) -> Result<u16, Error> {
    let get = cmd("GET").arg(key).take();
    match caller.call(Call::Command(&get)).await? {
        Reply::One(Value::Int(port)) => Ok(u16::try_from(port).unwrap()),
        other => panic!("{other:?}"),
    }
}

/// Which server answers a command.
async fn port_for(caller: &mut Caller, text: &str) -> u16 {
    match caller.call(Call::Command(&command(text))).await.unwrap() {
        Reply::One(Value::Int(port)) => u16::try_from(port).unwrap(),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn keys_of_any_command_determine_its_shard() {
    let (core, [first, second]) = two_shards();
    let mut caller = Caller::new(Arc::clone(&core));
    future::block_on(async {
        start(&core, None).await.unwrap();
        first.follow(server(1), AddressSource::Configuration);
        second.follow(server(2), AddressSource::Configuration);
        for (text, port) in [
            ("SET pear apple", 2),
            ("set apple pear", 1),
            ("BITOP NOT pear plum", 2),
            ("OBJECT ENCODING pear", 2),
            ("XREAD COUNT 1 STREAMS pear 0", 2),
            ("XREADGROUP GROUP a a STREAMS pear >", 2),
            ("EVAL script 1 pear apple", 2),
            ("ZUNION 2 pear plum", 2),
            ("SPUBLISH pear message", 2),
            // No key, although there is an argument, or none that is known.
            ("EVAL script 0 pear", 1),
            ("PUBLISH pear message", 1),
            ("ZUNION many pear", 1),
            ("NEWCOMMAND pear", 1),
        ] {
            assert_eq!(port_for(&mut caller, text).await, port, "{text}");
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME").cmd("MEMORY").arg("USAGE").arg("pear");
        let Reply::Many(values) = caller.call(Call::Pipeline(&pipeline)).await.unwrap() else {
            panic!("a pipeline has many replies")
        };
        assert_eq!(values, [Value::Int(2), Value::Int(2)]);
        core.close(&crate::node::core::closed());
    });
}

#[test]
fn handle_forgets_shard_that_left_the_table() {
    let (core, [first, second]) = two_shards();
    let mut caller = Caller::new(Arc::clone(&core));
    future::block_on(async {
        start(&core, None).await.unwrap();
        first.follow(server(1), AddressSource::Configuration);
        second.follow(server(2), AddressSource::Configuration);
        let unused = Arc::strong_count(&first);
        let both = || RoutingTable::by_key(vec![Arc::clone(&first), Arc::clone(&second)], shard_of);
        let one = || RoutingTable::by_key(vec![Arc::clone(&second), Arc::clone(&second)], shard_of);
        // Whether the last call went there or the one before.
        for keys in [["apple", "pear"], ["pear", "apple"]] {
            core.routing.store(both());
            for key in keys {
                answering(&mut caller, key).await.unwrap();
            }
            core.routing.store(one());
            for key in keys {
                assert_eq!(answering(&mut caller, key).await.unwrap(), 2);
            }
            assert_eq!(Arc::strong_count(&first), unused - 2, "neither the table nor the handle has it");
        }
        core.close(&crate::node::core::closed());
    });
}

#[test]
fn calls_switches_and_events_of_one_shard_touch_no_other() {
    let (core, [first, second]) = two_shards();
    let events = core.events.subscribe();
    let mut caller = Caller::new(Arc::clone(&core));
    let follow = |shard: &Shard, port| shard.follow(server(port), AddressSource::Configuration);
    future::block_on(async {
        start(&core, None).await.unwrap();
        follow(&first, 1);
        let kept = follow(&second, 2);
        for (key, port) in [("apple", 1), ("pear", 2), ("banana", 1), ("plum", 2)] {
            assert_eq!(answering(&mut caller, key).await.unwrap(), port, "{key}");
        }

        // A switch of the first.
        let link = second.ready_link(0).unwrap().unwrap();
        follow(&first, 3);
        assert_eq!(answering(&mut caller, "apple").await.unwrap(), 3);
        assert_eq!(answering(&mut caller, "pear").await.unwrap(), 2);
        let same = second.ready_link(0).unwrap().unwrap();
        assert!(Arc::ptr_eq(&link, &same) && link.generation == kept, "its connection is the same");

        // The second is held: the first goes on.
        second.hold();
        let mut other = Caller::new(Arc::clone(&core));
        let mut held = Box::pin(answering(&mut other, "pear"));
        for _ in 0..100 {
            assert!(future::poll_once(&mut held).await.is_none(), "nothing is sent to a held shard");
            assert_eq!(answering(&mut caller, "apple").await.unwrap(), 3);
        }
        second.release();
        assert_eq!(held.await.unwrap(), 2);
        // As for the client as a whole: nothing was sent to the second meanwhile, and nothing failed.
        second.restrict(Some(Error::new(crate::error::Kind::Sentinel, "reads alone")));
        let set = |key: &str| cmd("SET").arg(key).arg(1).take();
        assert!(caller.call(Call::Command(&set("pear"))).await.is_err());
        assert!(caller.call(Call::Command(&set("apple"))).await.is_ok());

        // What was told: connections to 1, 2 and 3, and the loss of 1 alone.
        core.close(&crate::node::core::closed());
        core.events.close();
        let told: Vec<_> = events.collect().await;
        let lost: Vec<_> = told
            .iter()
            .filter_map(|event| match event {
                Event::Lost { address, why } if !why.is_closed() => Some(address.clone()),
                _ => None,
            })
            .collect();
        assert_eq!(lost, [server(1)], "{told:?}");
        let connected = |port| {
            told.iter().any(|event| matches!(event, Event::Connected { address } if *address == server(port)))
        };
        assert!([1, 2, 3].into_iter().all(connected), "{told:?}");
    });
}
