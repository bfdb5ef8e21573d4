//! Tests the half of a connection that threads share in many interleavings: `shuttle` runs each test many times,
//! schedules the threads at every lock, and fails if a thread waits forever.
//!
//! Time stands still, so no timeout hides a lost wake-up.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use redis::{Value, cmd};
use shuttle::future::block_on;
use shuttle::thread::{self, JoinHandle};

use crate::address::Address;
use crate::conn::driver::{Driver, OnSilence, Timeouts};
use crate::conn::link::{Bounds, Call, Link, NoReply, ReplySlot, SubmitError};
use crate::conn::raw_connection::ConnectionParts;
use crate::conn::reply_reader::ReplyReader;
use crate::error::{Error, Kind};
use crate::generation::Generation;
use crate::manual_runtime::ManualRuntime;
use crate::proto::{Decoder, Limits, Reply, ReplyBound};
use crate::retry::RetryBudget;
use crate::runtime::{Runtime, Transport};
use crate::sync::Snapshot;

/// How many interleavings of each test are tried at random, and how many with few context switches.
const INTERLEAVINGS: usize = 3_000;
const SWITCHES: usize = 3;

fn permute(test: fn()) {
    shuttle::check_random(test, INTERLEAVINGS);
    shuttle::check_pct(test, INTERLEAVINGS, SWITCHES);
}

/// Replies to every ECHO immediately.
struct Echo {
    commands: Decoder,
    replies: Vec<u8>,
}

impl Transport for Echo {
    fn poll_read(&mut self, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.replies.len().min(buf.len());
        buf[..read].copy_from_slice(&self.replies[..read]);
        self.replies.drain(..read);
        if read == 0 { Poll::Pending } else { Poll::Ready(Ok(read)) }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut bytes = buf;
        while let Ok(Some(command)) = self.commands.decode(&mut bytes) {
            let Value::Array(words) = command else { panic!("{command:?}") };
            let [_, Value::BulkString(number)] = &words[..] else { panic!("{words:?}") };
            self.replies.extend_from_slice(format!(":{}\r\n", String::from_utf8_lossy(number)).as_bytes());
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Clone)]
struct Scene {
    runtime: Arc<ManualRuntime>,
    link: Arc<Link>,
}

impl Scene {
    /// Creates a link for `commands` pending calls, and the thread of its driver.
    fn new(commands: usize) -> (Self, JoinHandle<()>) {
        let runtime = Arc::new(ManualRuntime::new());
        let bounds = Bounds { commands, bytes: 1 << 20 };
        let link = Link::new(Generation::default(), Address::tcp("localhost", 1), runtime.now(), bounds);
        let link = Arc::new(link);
        let transport = Box::new(Echo { commands: Decoder::new(), replies: Vec::new() });
        let parts = ConnectionParts {
            transport,
            reader: ReplyReader::new(Limits::default()),
            connection_id: None,
            fences: 0,
            login_version: 0,
            tls_session: 0,
        };
        let timeouts =
            Arc::new(Snapshot::new(Timeouts { reply: Duration::from_secs(5), health_check: Duration::ZERO }));
        let budget = Arc::new(RetryBudget::new(100, 10));
        let driver =
            Driver::new(Arc::clone(&link), parts, runtime.clone(), timeouts, OnSilence::Report, budget);
        let driving = thread::spawn(move || _ = block_on(driver));
        (Self { runtime, link }, driving)
    }

    /// Sends `ECHO number`, with `slot` for the reply.
    fn send(&self, number: i64, slot: &Arc<ReplySlot>, cx: &Context<'_>) -> Result<(), SubmitError> {
        slot.arm(cx);
        self.link.submit(Call::Command(cmd("ECHO").arg(number)), slot, ReplyBound::default())
    }

    /// Returns the reply to `ECHO number`, or `None` if the connection has ended.
    async fn call(&self, number: i64) -> Option<i64> {
        let slot = Arc::new(ReplySlot::default());
        poll_fn(|cx| Poll::Ready(self.send(number, &slot, cx))).await.ok()?;
        reply(&slot).await
    }

    /// Like `call`, waiting in the queue for capacity.
    async fn call_in_turn(&self, number: i64) -> Option<i64> {
        let (slot, until) = (Arc::new(ReplySlot::default()), self.runtime.now() + Duration::from_secs(1));
        let echo = cmd("ECHO").arg(number).to_owned();
        let call = Call::Command(&echo);
        self.link.submit_in_turn(call, &slot, ReplyBound::default(), &*self.runtime, until).await.ok()?;
        reply(&slot).await
    }

    fn shut(&self) {
        self.link.shut(Error::new(Kind::Lost, "another master is followed"));
    }

    /// Runs `work` in a thread.
    fn spawn<T: Send + 'static>(&self, work: impl FnOnce(Self) -> T + Send + 'static) -> JoinHandle<T> {
        let scene = self.clone();
        thread::spawn(move || work(scene))
    }
}

async fn reply(slot: &ReplySlot) -> Option<i64> {
    loop {
        match poll_fn(|cx| slot.poll(cx)).await {
            Ok(Reply::One(Value::Int(number))) => return Some(number),
            Err(NoReply::Late) => {}
            Err(NoReply::Ended(_)) => return None,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn callers_get_their_own_replies() {
    permute(|| {
        let (scene, driving) = Scene::new(10);
        let other = scene.spawn(|scene| block_on(scene.call(1)));
        for number in [2, 3] {
            assert_eq!(block_on(scene.call(number)), Some(number));
        }
        assert_eq!(other.join().unwrap(), Some(1));
        scene.shut();
        driving.join().unwrap();
    });
}

#[test]
fn own_reply_or_error_when_link_shuts() {
    permute(|| {
        let (scene, driving) = Scene::new(10);
        let calling = [1, 2].map(|number| scene.spawn(move |scene| block_on(scene.call(number))));
        scene.shut();
        for (number, calling) in [1, 2].into_iter().zip(calling) {
            assert!(calling.join().unwrap().is_none_or(|reply| reply == number));
        }
        driving.join().unwrap();
    });
}

#[test]
fn own_reply_or_error_when_link_drains() {
    permute(|| {
        let (scene, driving) = Scene::new(10);
        let calling = [1, 2].map(|number| scene.spawn(move |scene| block_on(scene.call(number))));
        scene.link.drain(Error::new(Kind::Closed, "closed"));
        for (number, calling) in [1, 2].into_iter().zip(calling) {
            assert!(calling.join().unwrap().is_none_or(|reply| reply == number));
        }
        driving.join().unwrap();
    });
}

#[test]
fn reply_of_cancelled_call_is_dropped() {
    permute(|| {
        let (scene, driving) = Scene::new(10);
        let leaving = scene.spawn(|scene| {
            let mut call = Box::pin(scene.call(1));
            block_on(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())));
            drop(call);
            block_on(scene.call(2))
        });
        assert_eq!(block_on(scene.call(3)), Some(3));
        assert_eq!(leaving.join().unwrap(), Some(2));
        scene.shut();
        driving.join().unwrap();
    });
}

#[test]
fn waiting_callers_are_all_served() {
    permute(|| {
        let (scene, driving) = Scene::new(1);
        let others = [1, 2].map(|number| scene.spawn(move |scene| block_on(scene.call_in_turn(number))));
        assert_eq!(block_on(scene.call_in_turn(3)), Some(3));
        for (number, other) in [1, 2].into_iter().zip(others) {
            assert_eq!(other.join().unwrap(), Some(number));
        }
        scene.shut();
        driving.join().unwrap();
    });
}

#[test]
fn cancelled_waiter_lets_next_submit() {
    permute(|| {
        let (scene, driving) = Scene::new(1);
        let leaving = scene.spawn(|scene| {
            let mut call = pin!(scene.call_in_turn(1));
            block_on(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())));
        });
        let other = scene.spawn(|scene| block_on(scene.call_in_turn(2)));
        assert_eq!(block_on(scene.call_in_turn(3)), Some(3));
        assert_eq!(other.join().unwrap(), Some(2));
        leaving.join().unwrap();
        scene.shut();
        driving.join().unwrap();
    });
}

#[test]
fn waiting_callers_released_when_link_shuts() {
    permute(|| {
        let (scene, driving) = Scene::new(1);
        let calling = [1, 2].map(|number| scene.spawn(move |scene| block_on(scene.call_in_turn(number))));
        scene.shut();
        for (number, calling) in [1, 2].into_iter().zip(calling) {
            assert!(calling.join().unwrap().is_none_or(|reply| reply == number));
        }
        driving.join().unwrap();
    });
}

#[test]
fn waiting_callers_released_when_link_is_held() {
    permute(|| {
        let (scene, driving) = Scene::new(1);
        let calling = [1, 2].map(|number| scene.spawn(move |scene| block_on(scene.call_in_turn(number))));
        scene.link.hold();
        for (number, calling) in [1, 2].into_iter().zip(calling) {
            assert!(calling.join().unwrap().is_none_or(|reply| reply == number));
        }
        scene.shut();
        driving.join().unwrap();
    });
}

#[test]
fn reply_received_while_reported_late() {
    permute(|| {
        let slot = Arc::new(ReplySlot::default());
        block_on(async {
            poll_fn(|cx| Poll::Ready(slot.arm(cx))).await;
            let late = thread::spawn({
                let slot = Arc::clone(&slot);
                move || slot.report_late()
            });
            let completing = thread::spawn({
                let slot = Arc::clone(&slot);
                move || slot.complete(Ok(Reply::One(Value::Int(7))))
            });
            assert_eq!(reply(&slot).await, Some(7));
            late.join().unwrap();
            completing.join().unwrap();
        });
    });
}
