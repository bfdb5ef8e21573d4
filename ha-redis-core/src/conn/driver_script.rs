//! Runs a driver between callers and a server that follow a script: any events of a connection, in any order, with any
//! ending. A property test and a fuzz target write the scripts.
//!
//! Invariants: nothing panics; every caller that waits is woken for exactly one outcome; a caller's reply is the one at
//! its position in the server's stream; a driver that is dropped decodes nothing.

use std::io;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use redis::{Value, cmd, pipe};

use crate::address::Address;
use crate::conn::driver::{Driver, OnSilence, Timeouts};
use crate::conn::link::{Bounds, Call, Link, NoReply, ReplySlot};
use crate::conn::raw_connection::ConnectionParts;
use crate::conn::reply_reader::ReplyReader;
use crate::error::{Error, Kind};
use crate::generation::Generation;
use crate::manual_runtime::ManualRuntime;
use crate::proto::{Decoder, Limits, Reply, ReplyBound};
use crate::retry::RetryBudget;
use crate::runtime::{Runtime, Transport};
use crate::sync::{Mutex, Snapshot, lock};

/// How long a server may be silent, a connection idle, and a caller waiting.
const PATIENCE: Timeouts = Timeouts { reply: Duration::from_secs(5), health_check: Duration::from_secs(10) };
const CALLER_WAITS: Duration = Duration::from_secs(7);
/// After this many turns a driver has ended, or waits for the rest of a reply; then time passes.
const PROMPT_TURNS: usize = 500;
const MAX_TURNS: usize = 2 * PROMPT_TURNS;

/// One event. Sizes are in bytes.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A caller sends this many commands, one or a pipeline, if the link takes them.
    Call {
        commands: u8,
    },
    /// The server answers this many commands, each with a value of this size.
    Answer {
        commands: u8,
        size: usize,
    },
    /// The server sends a push.
    Push,
    /// The server sends any bytes.
    Send(Vec<u8>),
    /// This many of the bytes that the server has sent arrive.
    Arrive(usize),
    /// From here on, the network takes this many bytes.
    Accept(usize),
    /// The driver's task is polled this often.
    SelectionContext(u8),
    /// Time passes.
    Pass(Duration),
    /// The watchdog runs, since the driver's task was not polled in time.
    Watchdog,
    Hold,
    Release,
    CheckOut,
    CheckIn,
    /// This caller is dropped.
    Cancel(u8),
    /// The waker of this caller panics from now on.
    BreakWaker(u8),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// The client is closed: replies that are owed still arrive.
    Close,
    /// Another master is followed.
    Shut,
    EndOfStream,
    Reset,
    Garbage,
    Unsolicited,
    WriteError,
    /// The runtime ends, and drops the driver.
    Dropped,
}

impl Ending {
    pub(crate) const ALL: [Self; 8] = [
        Self::Close,
        Self::Shut,
        Self::EndOfStream,
        Self::Reset,
        Self::Garbage,
        Self::Unsolicited,
        Self::WriteError,
        Self::Dropped,
    ];
}

/// Follows a script. Panics if an invariant does not hold.
pub(crate) fn follow(steps: &[Step], ending: Ending) {
    let mut scene = Scene::new();
    for step in steps {
        scene.step(step);
        scene.hear();
    }
    scene.end(ending);
    scene.check();
}

/// Returns the script that these bytes encode, and its ending.
pub(crate) fn read_script(bytes: &[u8]) -> (Vec<Step>, Ending) {
    let mut bytes = bytes.iter().copied();
    let ending = Ending::ALL[usize::from(bytes.next().unwrap_or_default()) % Ending::ALL.len()];
    let mut steps = Vec::new();
    while let Some(kind) = bytes.next() {
        let number = bytes.next().unwrap_or_default();
        // Small and large ones, up to 64 KiB.
        let size = (usize::from(number & 0xf) + 1) << (number >> 4).min(12);
        steps.push(match kind % 16 {
            0 | 1 => Step::Call { commands: number % 8 },
            2 => Step::Answer { commands: u8::MAX, size: number.into() },
            3 => Step::Answer { commands: 1, size },
            4 => Step::Push,
            5 => Step::Send(bytes.by_ref().take(usize::from(number)).collect()),
            6 => Step::Arrive(size),
            7 => Step::Accept(size),
            8 => Step::SelectionContext(number),
            9 => Step::Pass(Duration::from_millis(u64::from(number) * 20)),
            10 => Step::Watchdog,
            11 => Step::Hold,
            12 => Step::Release,
            13 if number % 2 == 0 => Step::CheckOut,
            13 => Step::CheckIn,
            14 => Step::Cancel(number),
            _ => Step::BreakWaker(number),
        });
    }
    (steps, ending)
}

/// The network, and the server behind it.
struct Wire {
    /// All bytes that the server has sent, how many have arrived, and how many were read.
    sent: Vec<u8>,
    arrived: usize,
    read: usize,
    /// The result of a read when nothing is left.
    end: Option<Option<io::ErrorKind>>,
    accepts: usize,
    write_fails: bool,
    commands: Decoder,
    received: Vec<u8>,
    /// The sender of each complete command. The client itself sends PING.
    senders: Vec<Option<usize>>,
    answered: usize,
    /// Whether the server has sent bytes that were no reply.
    lies: bool,
}

impl Wire {
    fn new() -> Self {
        Self {
            sent: Vec::new(),
            arrived: 0,
            read: 0,
            end: None,
            accepts: usize::MAX,
            write_fails: false,
            commands: Decoder::new(),
            received: Vec::new(),
            senders: Vec::new(),
            answered: 0,
            lies: false,
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        let mut unread = &self.received[..];
        while let Some(command) = self.commands.decode(&mut unread).expect("what is written is RESP") {
            let Value::Array(words) = command else { panic!("no command: {command:?}") };
            self.senders.push(match &words[..] {
                [_, Value::BulkString(sender)] => {
                    Some(String::from_utf8_lossy(sender).parse().expect("a number"))
                }
                _ => None,
            });
        }
        self.received = unread.to_vec();
    }

    fn answer(&mut self, commands: usize, size: usize) {
        let from = self.answered;
        self.answered = self.senders.len().min(from.saturating_add(commands));
        for number in from..self.answered {
            let mut text = format!("{number}:");
            text.extend(std::iter::repeat_n('x', size.saturating_sub(text.len())));
            self.sent.extend_from_slice(format!("${}\r\n{text}\r\n", text.len()).as_bytes());
        }
    }

    /// Returns the values in the bytes that have arrived, as far as these are RESP.
    fn replies(&self) -> Vec<Value> {
        let (mut decoder, mut bytes) = (Decoder::new(), &self.sent[..self.arrived]);
        let values = std::iter::from_fn(|| decoder.decode(&mut bytes).ok().flatten());
        values.filter(|value| !matches!(value, Value::Push { .. })).collect()
    }
}

struct WireTransport(Arc<Mutex<Wire>>);

impl Transport for WireTransport {
    fn poll_read(&mut self, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut wire = lock(&self.0);
        let unread = &wire.sent[wire.read..wire.arrived];
        let read = unread.len().min(buf.len());
        buf[..read].copy_from_slice(&unread[..read]);
        wire.read += read;
        match wire.end {
            None if read == 0 => Poll::Pending,
            Some(Some(error)) if read == 0 => Poll::Ready(Err(error.into())),
            _ => Poll::Ready(Ok(read)),
        }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = lock(&self.0);
        if wire.write_fails {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let taken = buf.len().min(wire.accepts);
        if taken == 0 {
            return Poll::Pending;
        }
        wire.accepts -= taken;
        wire.receive(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Caller {
    /// `None` once the caller was dropped.
    slot: Option<Arc<ReplySlot>>,
    commands: usize,
    alert: Arc<Alert>,
    outcome: Option<Result<Reply, Error>>,
}

#[derive(Default)]
struct Alert {
    woken: AtomicBool,
    panics: AtomicBool,
}

impl Wake for Alert {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        if self.panics.load(Ordering::Relaxed) {
            // This skips the panic hook, which prints or ends a fuzzer.
            resume_unwind(Box::new("this waker panics"));
        }
    }
}

impl Caller {
    /// Takes what it was woken for.
    fn hear(&mut self) {
        let Some(slot) = &self.slot else { return };
        if !self.alert.woken.swap(false, Ordering::Relaxed) {
            return;
        }
        let waker = Waker::from(Arc::clone(&self.alert));
        // Again after an outcome, to be woken by a second one.
        while let Poll::Ready(told) = slot.poll(&Context::from_waker(&waker)) {
            let outcome = match told {
                Err(NoReply::Late) => continue,
                Err(NoReply::Ended(error)) => Err(error),
                Ok(reply) => Ok(reply),
            };
            assert!(self.outcome.is_none(), "a second outcome: {outcome:?} after {:?}", self.outcome);
            self.outcome = Some(outcome);
        }
    }
}

struct Scene {
    runtime: Arc<ManualRuntime>,
    wire: Arc<Mutex<Wire>>,
    link: Arc<Link>,
    /// `None` once it has ended.
    driver: Option<Driver>,
    callers: Vec<Caller>,
}

impl Scene {
    fn new() -> Self {
        let runtime = Arc::new(ManualRuntime::new());
        let wire = Arc::new(Mutex::new(Wire::new()));
        let bounds = Bounds { commands: 200, bytes: 1 << 20 };
        let link = Link::new(Generation::default(), Address::tcp("localhost", 1), runtime.now(), bounds);
        let link = Arc::new(link);
        let transport = Box::new(WireTransport(Arc::clone(&wire)));
        let parts = ConnectionParts {
            transport,
            reader: ReplyReader::new(Limits::default()),
            connection_id: None,
            fences: 0,
            login_version: 0,
            tls_session: 0,
        };
        let budget = Arc::new(RetryBudget::new(100, 10));
        let driver = Driver::new(
            Arc::clone(&link),
            parts,
            runtime.clone(),
            Arc::new(Snapshot::new(PATIENCE)),
            OnSilence::Report,
            budget,
        );
        Self { runtime, wire, link, driver: Some(driver), callers: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Call { commands } => self.call(usize::from(commands)),
            Step::Answer { commands, size } => lock(&self.wire).answer(commands.into(), size),
            Step::Push => lock(&self.wire).sent.extend_from_slice(b">2\r\n+invalidate\r\n_\r\n"),
            Step::Send(ref bytes) => self.lie(bytes),
            Step::Arrive(size) => {
                let mut wire = lock(&self.wire);
                wire.arrived = wire.sent.len().min(wire.arrived.saturating_add(size));
            }
            Step::Accept(size) => lock(&self.wire).accepts = size,
            Step::SelectionContext(times) => (0..times).for_each(|_| self.turn()),
            Step::Pass(time) => self.runtime.pass(time),
            Step::Watchdog => {
                let now = self.runtime.now();
                self.driver.iter_mut().for_each(|driver| _ = driver.keep_bounds(now, now));
            }
            Step::Hold => self.link.hold(),
            #[cfg(feature = "sentinel")]
            Step::Release => self.link.release(None),
            #[cfg(not(feature = "sentinel"))]
            Step::Release => {}
            Step::CheckOut => _ = self.link.check_out(),
            Step::CheckIn => _ = self.link.check_in(),
            Step::Cancel(caller) => {
                self.callers.get_mut(usize::from(caller)).into_iter().for_each(|caller| caller.slot = None);
            }
            Step::BreakWaker(caller) => {
                let caller = self.callers.get(usize::from(caller));
                caller.into_iter().for_each(|caller| caller.alert.panics.store(true, Ordering::Relaxed));
            }
        }
    }

    fn call(&mut self, commands: usize) {
        let (number, slot, alert) =
            (self.callers.len(), Arc::new(ReplySlot::default()), Arc::new(Alert::default()));
        slot.arm(&Context::from_waker(&Waker::from(Arc::clone(&alert))));
        let echo = cmd("ECHO").arg(number).to_owned();
        let mut pipeline = pipe();
        (0..commands).for_each(|_| _ = pipeline.add_command(echo.clone()));
        let call = if commands > 1 { Call::Pipeline(&pipeline) } else { Call::Command(&echo) };
        let by = Some(self.runtime.now() + CALLER_WAITS);
        let bound = ReplyBound { within: Some(PATIENCE.reply), by };
        if self.link.submit(call, &slot, bound).is_ok() {
            self.callers.push(Caller { slot: Some(slot), commands: commands.max(1), alert, outcome: None });
        }
    }

    fn lie(&mut self, bytes: &[u8]) {
        let mut wire = lock(&self.wire);
        wire.sent.extend_from_slice(bytes);
        wire.lies = true;
    }

    fn turn(&mut self) {
        let Some(driver) = &mut self.driver else { return };
        if Pin::new(driver).poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            self.driver = None;
        }
    }

    fn hear(&mut self) {
        self.callers.iter_mut().for_each(Caller::hear);
    }

    fn end(&mut self, ending: Ending) {
        match ending {
            Ending::Close => self.link.drain(Error::new(Kind::Closed, "closed")),
            Ending::Shut => self.link.shut(Error::new(Kind::Lost, "another master is followed")),
            Ending::EndOfStream => lock(&self.wire).end = Some(None),
            Ending::Reset => lock(&self.wire).end = Some(Some(io::ErrorKind::ConnectionReset)),
            Ending::Garbage => self.lie(b"\0garbage\r\n"),
            // More than all replies that may be owed.
            Ending::Unsolicited => self.lie(&b"+OK\r\n".repeat(2_000)),
            Ending::WriteError => {
                lock(&self.wire).write_fails = true;
                self.call(1);
            }
            Ending::Dropped => return self.drop_driver(),
        }
        for turn in 0..=MAX_TURNS {
            if self.driver.is_none() {
                return;
            }
            self.serve(ending, turn);
            self.turn();
            self.hear();
        }
        panic!("the driver does not end");
    }

    /// What the server and the network do while the driver is to end.
    fn serve(&mut self, ending: Ending, turn: usize) {
        let mut wire = lock(&self.wire);
        match ending {
            Ending::Close => {
                wire.accepts = usize::MAX;
                wire.answer(usize::MAX, 1);
                wire.arrived = wire.sent.len();
            }
            Ending::Garbage | Ending::Unsolicited => wire.arrived = wire.sent.len(),
            _ => {}
        }
        if turn > PROMPT_TURNS {
            // Nothing of what would end it may have come through.
            wire.end = Some(Some(io::ErrorKind::TimedOut));
            self.runtime.pass(Duration::from_millis(100));
        }
    }

    fn drop_driver(&mut self) {
        let answered = |scene: &Self| {
            scene.callers.iter().filter(|caller| matches!(caller.outcome, Some(Ok(_)))).count()
        };
        let before = answered(self);
        self.driver = None;
        self.hear();
        assert_eq!(answered(self), before, "replies were decoded while the driver was dropped");
    }

    fn check(mut self) {
        self.hear();
        let wire = lock(&self.wire);
        let mut replies = vec![Vec::new(); self.callers.len()];
        for (sender, reply) in wire.senders.iter().zip(wire.replies()) {
            sender.iter().for_each(|sender| replies[*sender].push(reply.clone()));
        }
        for (number, caller) in self.callers.iter().enumerate().filter(|(_, caller)| caller.slot.is_some()) {
            let got = match &caller.outcome {
                None => panic!("caller {number} was told nothing"),
                Some(Err(_)) => continue,
                Some(Ok(Reply::One(value))) => std::slice::from_ref(value),
                Some(Ok(Reply::Many(values))) => values,
            };
            let is_whole = replies[number].len() == caller.commands;
            // A server that answers before it was asked, by a lie, has no true reply.
            assert!(is_whole || wire.lies, "caller {number} got a reply that the server did not send");
            // By Debug where not-a-number, which does not equal itself, is in it.
            let is_same = || got == replies[number] || format!("{got:?}") == format!("{:?}", replies[number]);
            assert!(!is_whole || is_same(), "caller {number} got another's reply");
        }
    }
}
