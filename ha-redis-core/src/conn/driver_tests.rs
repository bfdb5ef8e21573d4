//! The order of a driver's work.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::task::{Wake, Waker};

use async_trait::async_trait;
use redis::Value;

use super::*;
use crate::address::Address;
use crate::conn::link::{Bounds, Call, NoReply};
use crate::generation::Generation;
use crate::proto::{Limits, Reply, ReplyBound};
use crate::runtime::{Endpoint, Task};
use crate::sync::{Mutex, Snapshot, lock};

const CALLERS: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    WriteProgress,
    Answered,
}

/// What the driver has done, as seen by its transport and its callers.
#[derive(Clone, Debug, Default)]
struct Record(Arc<Mutex<Vec<Deed>>>);

impl Record {
    fn add(&self, deed: Deed) {
        lock(&self.0).push(deed);
    }

    fn take(&self) -> Vec<Deed> {
        std::mem::take(&mut *lock(&self.0))
    }
}

/// The waker of a caller.
impl Wake for Record {
    fn wake(self: Arc<Self>) {
        self.add(Deed::Answered);
    }
}

/// Takes everything that is written. The test provides what it reads.
#[derive(Clone, Debug, Default)]
struct Server {
    record: Record,
    replies: Arc<Mutex<VecDeque<u8>>>,
}

impl Server {
    fn answer(&self, requests: usize) {
        self.send(&b"+OK\r\n".repeat(requests));
    }

    fn send(&self, bytes: &[u8]) {
        lock(&self.replies).extend(bytes);
    }
}

impl Transport for Server {
    fn poll_read(&mut self, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut replies = lock(&self.replies);
        let read = replies.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(replies.drain(..read)) {
            *to = from;
        }
        if read == 0 { Poll::Pending } else { Poll::Ready(Ok(read)) }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.record.add(Deed::WriteProgress);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// How long a caller waits for its reply.
const LIMIT: Duration = Duration::from_secs(1);

/// A runtime in which a test moves the time. Its timers wake nobody; the test polls.
#[derive(Debug)]
struct Still(Arc<Mutex<Instant>>);

#[async_trait]
impl Runtime for Still {
    fn now(&self) -> Instant {
        *lock(&self.0)
    }

    fn timer(&self, at: Instant) -> Box<dyn Timer> {
        Box::new(StillTimer { now: Arc::clone(&self.0), at })
    }

    fn spawn(&self, _: Task) -> io::Result<()> {
        unreachable!("a driver starts no task")
    }

    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        unreachable!("a driver has its connection")
    }

    async fn connect(&self, _: Endpoint<'_>) -> io::Result<Box<dyn Transport>> {
        unreachable!("a driver has its connection")
    }
}

struct StillTimer {
    now: Arc<Mutex<Instant>>,
    at: Instant,
}

impl Timer for StillTimer {
    fn reset(&mut self, at: Instant) {
        self.at = at;
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.at <= *lock(&self.now) { Poll::Ready(()) } else { Poll::Pending }
    }
}

struct Scene {
    runtime: Arc<Still>,
    server: Server,
    link: Arc<Link>,
    driver: Driver,
    slots: Vec<Arc<ReplySlot>>,
}

impl Scene {
    /// Callers whose commands were written, and whose replies arrived all at once.
    fn with_replies() -> Self {
        let scene = Self::with_callers();
        scene.server.answer(CALLERS);
        scene
    }

    /// Callers whose commands were written.
    fn with_callers() -> Self {
        let server = Server::default();
        let runtime = Arc::new(Still(Arc::new(Mutex::new(Instant::now()))));
        let bounds = Bounds { commands: 1_000, bytes: 1 << 20 };
        let link = Link::new(Generation::default(), Address::tcp("localhost", 1), runtime.now(), bounds);
        let link = Arc::new(link);
        let parts = ConnectionParts {
            transport: Box::new(server.clone()),
            reader: ReplyReader::new(Limits::default()),
            connection_id: None,
            fences: 0,
            login_version: 0,
            tls_session: 0,
        };
        let timeouts = Timeouts { reply: Duration::from_secs(5), health_check: Duration::ZERO };
        let timeouts = Arc::new(Snapshot::new(timeouts));
        let budget = Arc::new(RetryBudget::new(100, 10));
        let driver =
            Driver::new(Arc::clone(&link), parts, runtime.clone(), timeouts, OnSilence::Report, budget);
        let mut scene = Self { runtime, server, link, driver, slots: Vec::new() };
        (0..CALLERS).for_each(|_| scene.call());
        while scene.server.record.take().is_empty() {
            assert!(scene.turn().is_pending());
        }
        scene
    }

    fn call(&mut self) {
        let slot = Arc::new(ReplySlot::default());
        slot.arm(&Context::from_waker(&Waker::from(Arc::new(self.server.record.clone()))));
        let command = redis::cmd("PING");
        let bound = ReplyBound { within: Some(Duration::from_secs(5)), by: Some(self.runtime.now() + LIMIT) };
        self.link.submit(Call::Command(&command), &slot, bound).unwrap();
        self.slots.push(slot);
    }

    fn pass(&self, time: Duration) {
        *lock(&self.runtime.0) += time;
    }

    /// The outcomes of the callers so far: a reply, an error, or nothing.
    fn outcomes(&self) -> Vec<Option<bool>> {
        let polled = self.slots.iter().map(|slot| slot.poll(&Context::from_waker(Waker::noop())));
        let outcome = |polled| match polled {
            Poll::Ready(Ok(Reply::One(_))) => Some(true),
            Poll::Ready(_) => Some(false),
            Poll::Pending => None,
        };
        polled.map(outcome).collect()
    }

    fn turn(&mut self) -> Poll<Error> {
        Pin::new(&mut self.driver).poll(&mut Context::from_waker(Waker::noop()))
    }
}

#[test]
fn commands_of_one_share_written_before_next_share_of_replies() {
    let mut scene = Scene::with_replies();
    assert!(scene.turn().is_pending());
    assert_eq!(scene.server.record.take(), [Deed::Answered; CALLERS / SHARES]);
    scene.call();
    assert!(scene.turn().is_pending());
    let done = scene.server.record.take();
    assert_eq!(done[0], Deed::WriteProgress);
    assert!(done.len() > 1 && done[1..].iter().all(|deed| *deed == Deed::Answered), "{done:?}");
}

#[test]
fn received_reply_delivered_when_connection_ends() {
    let mut scene = Scene::with_replies();
    assert!(scene.turn().is_pending());
    scene.link.shut(Error::new(Kind::Lost, "another master is followed"));
    assert!(scene.turn().is_ready());
    assert_eq!(scene.outcomes(), [Some(true); CALLERS]);
}

#[test]
fn received_reply_delivered_when_read_late() {
    let mut scene = Scene::with_replies();
    // As if the process was stopped, or a task had blocked the runtime.
    scene.pass(10 * LIMIT);
    for _ in 0..CALLERS {
        assert!(scene.turn().is_pending());
    }
    assert_eq!(scene.outcomes(), [Some(true); CALLERS]);
}

#[test]
fn deadlines_kept_while_never_idle() {
    let mut scene = Scene::with_callers();
    scene.pass(2 * LIMIT);
    for _ in 0..3 {
        scene.server.answer(1);
        assert!(scene.turn().is_pending());
    }
    let outcomes = scene.outcomes();
    assert_eq!((outcomes[0], outcomes[CALLERS - 1]), (Some(true), Some(false)));
}

#[test]
fn reply_before_request_is_written_ends_connection() {
    let mut scene = Scene::with_replies();
    for _ in 0..CALLERS {
        assert!(scene.turn().is_pending());
    }
    assert_eq!(scene.outcomes(), [Some(true); CALLERS]);
    scene.slots.clear();
    // Two, so that the driver goes round once more before it writes.
    (0..2).for_each(|_| scene.call());
    scene.server.record.take();
    assert!(scene.turn().is_pending());
    assert_eq!(scene.server.record.take(), [], "nothing is written yet");
    scene.server.answer(1);
    let Poll::Ready(why) = scene.turn() else { panic!("it goes on out of step") };
    assert_eq!(why.kind(), Kind::Protocol);
    for slot in &scene.slots {
        let told = slot.poll(&Context::from_waker(Waker::noop()));
        let Poll::Ready(Err(NoReply::Ended(error))) = told else { panic!("{told:?}") };
        assert_eq!(error.outcome(), Outcome::NotSent);
    }
}

#[test]
fn connection_ends_cleanly_after_burst_and_rest() {
    let mut scene = Scene::with_callers();
    let large = format!("${}\r\n{}\r\n", 300_000, "x".repeat(300_000));
    (0..CALLERS).for_each(|_| scene.server.send(large.as_bytes()));
    while !lock(&scene.server.replies).is_empty() {
        assert!(scene.turn().is_pending());
    }
    // Bytes that were read are decoded in pieces.
    for _ in 0..CALLERS {
        assert!(scene.turn().is_pending());
    }
    assert_eq!(scene.outcomes(), [Some(true); CALLERS]);
    // Long enough for the connection to give its memory back.
    scene.pass(Duration::from_millis(2500));
    assert!(scene.turn().is_pending());
    scene.link.shut(Error::new(Kind::Closed, "closed"));
    assert!(scene.turn().is_ready());
}

/// A caller whose executor is broken.
struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("this waker panics");
    }
}

#[test]
fn panicking_waker_shifts_no_replies() {
    let mut scene = Scene::with_callers();
    let panicking = Waker::from(Arc::new(PanickingWaker));
    scene.slots[3].arm(&Context::from_waker(&panicking));
    (0..CALLERS).for_each(|number| scene.server.send(format!(":{number}\r\n").as_bytes()));
    for _ in 0..CALLERS {
        assert!(scene.turn().is_pending(), "the connection outlives a caller's panic");
    }
    for (number, slot) in scene.slots.iter().enumerate() {
        let reply = slot.poll(&Context::from_waker(Waker::noop()));
        let Poll::Ready(Ok(Reply::One(Value::Int(reply)))) = reply else { panic!("{number}: {reply:?}") };
        assert_eq!(reply, number as i64);
    }
}

/// Returns the most bytes that the driver reads in one turn while this reply arrives.
fn most_in_a_turn(reply: &[u8]) -> usize {
    let mut scene = Scene::with_callers();
    scene.server.send(reply);
    scene.server.answer(CALLERS - 1);
    let mut most = 0;
    while !lock(&scene.server.replies).is_empty() {
        let before = lock(&scene.server.replies).len();
        assert!(scene.turn().is_pending());
        most = most.max(before - lock(&scene.server.replies).len());
    }
    for _ in 0..CALLERS {
        assert!(scene.turn().is_pending());
    }
    assert_eq!(scene.outcomes(), [Some(true); CALLERS]);
    most
}

#[test]
fn large_reply_is_taken_over_many_turns() {
    let (array, string) = (":1\r\n".repeat(1 << 20), "x".repeat(8 << 20));
    let array = most_in_a_turn(format!("*{}\r\n{array}", 1 << 20).as_bytes());
    let string = most_in_a_turn(format!("${}\r\n{string}\r\n", string.len()).as_bytes());
    // A string is copied; a list is built value by value.
    assert!(array <= 64 << 10 && string <= 512 << 10, "{array} bytes of a list, {string} of a string");
}

#[test]
fn replies_after_large_one_delivered_at_end() {
    let mut scene = Scene::with_callers();
    scene.server.send(format!("*15000\r\n{}", ":1\r\n".repeat(15_000)).as_bytes());
    scene.server.answer(CALLERS - 1);
    // The whole buffer is grown first.
    while !lock(&scene.server.replies).is_empty() {
        assert!(scene.turn().is_pending());
    }
    scene.link.shut(Error::new(Kind::Lost, "another master is followed"));
    assert!(scene.turn().is_ready());
    assert_eq!(scene.outcomes(), [Some(true); CALLERS]);
}
