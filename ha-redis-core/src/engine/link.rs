//! The half of a connection that callers share: they encode into it and leave a slot for the reply.

use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use event_listener::{Event, EventListener};
use redis::{Cmd, Pipeline};

use crate::address::Address;
use crate::engine::slot::Slot;
use crate::error::Error;
use crate::pool::Generation;
use crate::proto::{self, Shape};
use crate::sync::lock;

/// A request whose reply goes to a [`Slot`].
pub(crate) type Request = proto::Request<Arc<Slot>>;

/// How many commands a connection may owe replies at once; callers beyond that wait.
const MAX_COMMANDS: usize = 65_536;
/// How many encoded bytes may wait for the socket; callers beyond that wait. One command may be larger.
const MAX_STAGED_BYTES: usize = 16 << 20;
/// A write buffer that a burst has grown beyond this is given back once it is written.
const KEPT_BUFFER: usize = 64 << 10;

/// What a caller wants to have sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
}

impl Call<'_> {
    fn shape(self) -> Shape {
        let commands = |pipeline: &Pipeline| u32::try_from(pipeline.len()).unwrap_or(u32::MAX);
        match self {
            Self::Command(_) => Shape::One,
            Self::Pipeline(pipeline) if pipeline.is_transaction() => Shape::Atomic(commands(pipeline) + 2),
            Self::Pipeline(pipeline) => Shape::Many(commands(pipeline)),
        }
    }

    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Command(command) => command.write_packed_command(out),
            Self::Pipeline(pipeline) => {
                if pipeline.is_transaction() {
                    out.extend_from_slice(b"*1\r\n$5\r\nMULTI\r\n");
                }
                pipeline.cmd_iter().for_each(|command| command.write_packed_command(out));
                if pipeline.is_transaction() {
                    out.extend_from_slice(b"*1\r\n$4\r\nEXEC\r\n");
                }
            }
        }
    }
}

/// A connection as its users see it. Its [driver](crate::engine::driver) does the I/O.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) generation: Generation,
    pub(crate) address: Address,
    pub(crate) opened: Instant,
    state: Mutex<State>,
    /// Notified when there is room again, or no hope for it.
    room: Event,
}

#[derive(Debug)]
struct State {
    gate: Gate,
    staged: Staged,
    /// Requests whose replies are owed, taken by the driver or not.
    owed: usize,
    /// Callers that wait for room, in order. While there are any, nobody may pass them.
    waiting: usize,
    /// The driver, when it waits for work.
    driver: Option<Waker>,
}

/// What callers have encoded and the driver has not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub(crate) bytes: Vec<u8>,
    pub(crate) requests: Vec<Request>,
}

#[derive(Clone, Debug)]
enum Gate {
    Open,
    /// Nothing new is taken for now: a failover is under way and may be aborted.
    Held,
    /// Nothing new is taken ever again; what is owed may still come.
    Draining(Error),
    /// The driver has ended, or is to end now.
    Shut(Error),
}

/// Why a link takes no command. Nothing of it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The link is held or at its end.
    NotOpen,
    /// The bounds are reached.
    Full,
}

/// What the driver is to do.
#[derive(Debug)]
pub(crate) enum Orders {
    /// Go on. `staged`: there are bytes to take.
    Carry { staged: bool },
    /// End now.
    End(Error),
}

impl Link {
    pub(crate) fn new(generation: Generation, address: Address, opened: Instant) -> Self {
        let state = State { gate: Gate::Open, staged: Staged::default(), owed: 0, waiting: 0, driver: None };
        Self { generation, address, opened, state: Mutex::new(state), room: Event::new() }
    }

    /// Encodes a call and leaves `slot` for its reply. `queued` says that the caller has waited for room.
    pub(crate) fn submit(
        &self,
        call: Call<'_>,
        slot: &Arc<Slot>,
        limit: Option<Duration>,
        queued: bool,
    ) -> Result<(), NotTaken> {
        let mut state = lock(&self.state);
        if !matches!(state.gate, Gate::Open) {
            return Err(NotTaken::NotOpen);
        }
        if state.is_full() || (state.waiting > 0 && !queued) {
            return Err(NotTaken::Full);
        }
        let before = state.staged.bytes.len();
        call.encode(&mut state.staged.bytes);
        let bytes = state.staged.bytes.len() - before;
        state.staged.requests.push(Request { waiter: Arc::clone(slot), shape: call.shape(), bytes, limit });
        state.owed += 1;
        let driver = state.driver.take();
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(())
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(lock(&self.state).gate, Gate::Open)
    }

    /// Whether no reply is owed.
    pub(crate) fn is_quiet(&self) -> bool {
        lock(&self.state).owed == 0
    }

    /// A place in the queue for room.
    pub(crate) fn queue_for_room(&self) -> Place<'_> {
        let mut state = lock(&self.state);
        state.waiting += 1;
        Place { link: self, listener: Some(self.room.listen()) }
    }

    /// Takes nothing new until [`Link::release`].
    pub(crate) fn hold(&self) {
        let mut state = lock(&self.state);
        if matches!(state.gate, Gate::Open) {
            state.gate = Gate::Held;
        }
    }

    #[cfg(feature = "sentinel")]
    pub(crate) fn release(&self) {
        let mut state = lock(&self.state);
        if matches!(state.gate, Gate::Held) {
            state.gate = Gate::Open;
        }
        drop(state);
        self.room.notify(usize::MAX);
    }

    /// Takes nothing new; the connection ends when all that is owed has come.
    pub(crate) fn drain(&self, why: Error) {
        self.turn(|gate| match gate {
            Gate::Open | Gate::Held => Some(Gate::Draining(why)),
            Gate::Draining(_) | Gate::Shut(_) => None,
        });
    }

    /// Ends the connection now. What is owed is settled by what of it was written.
    pub(crate) fn shut(&self, why: Error) {
        self.turn(|gate| (!matches!(gate, Gate::Shut(_))).then_some(Gate::Shut(why)));
    }

    fn turn(&self, next: impl FnOnce(&Gate) -> Option<Gate>) {
        let mut state = lock(&self.state);
        let Some(gate) = next(&state.gate) else { return };
        state.gate = gate;
        let driver = state.driver.take();
        drop(state);
        self.room.notify(usize::MAX);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    // What follows is for the driver.

    /// Books `answered` replies, hands over the requests that have come since, and says what to do next.
    pub(crate) fn report(&self, answered: usize, requests: &mut Vec<Request>) -> Orders {
        let mut state = lock(&self.state);
        state.owed -= answered;
        requests.append(&mut state.staged.requests);
        let orders = match &state.gate {
            Gate::Draining(why) if state.owed == 0 => Orders::End(why.clone()),
            Gate::Shut(why) => Orders::End(why.clone()),
            _ => Orders::Carry { staged: !state.staged.bytes.is_empty() },
        };
        let wake = state.admits();
        drop(state);
        if wake > 0 && answered > 0 {
            self.room.notify_additional(wake.min(answered));
        }
        orders
    }

    /// Swaps the staged bytes for the buffer that was written, and hands over their requests.
    pub(crate) fn take(&self, written: &mut Vec<u8>, requests: &mut Vec<Request>) {
        written.clear();
        if written.capacity() > KEPT_BUFFER {
            *written = Vec::new();
        }
        let mut state = lock(&self.state);
        std::mem::swap(&mut state.staged.bytes, written);
        requests.append(&mut state.staged.requests);
        let wake = state.admits();
        drop(state);
        if wake > 0 {
            self.room.notify_additional(wake);
        }
    }

    /// Has the driver's task woken by whatever comes next. False when it has come already.
    pub(crate) fn park(&self, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.state);
        let ends = match state.gate {
            Gate::Open | Gate::Held => false,
            Gate::Draining(_) => state.owed == 0,
            Gate::Shut(_) => true,
        };
        if ends || !state.staged.requests.is_empty() {
            return false;
        }
        state.driver = Some(cx.waker().clone());
        true
    }

    /// The driver has ended: closes the gate for good and returns what was never taken.
    pub(crate) fn end(&self, why: Error) -> Vec<Request> {
        let mut state = lock(&self.state);
        state.gate = Gate::Shut(why);
        state.owed = 0;
        let staged = std::mem::take(&mut state.staged);
        drop(state);
        self.room.notify(usize::MAX);
        staged.requests
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.owed >= MAX_COMMANDS || self.staged.bytes.len() >= MAX_STAGED_BYTES
    }

    /// How many of those who wait for room may try again.
    fn admits(&self) -> usize {
        if self.is_full() { 0 } else { self.waiting.min(MAX_COMMANDS - self.owed) }
    }
}

/// A caller's place in the queue for room on a link; dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    link: &'a Link,
    listener: Option<EventListener>,
}

impl Place<'_> {
    /// Waits for this caller's turn, which may be a false alarm: submit and see.
    pub(crate) async fn turn(&mut self) {
        if let Some(listener) = self.listener.take() {
            listener.await;
        }
        self.listener = Some(self.link.room.listen());
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.link.state);
        state.waiting -= 1;
        let pass_on = state.waiting > 0 && !state.is_full();
        drop(state);
        if pass_on {
            self.link.room.notify_additional(1);
        }
    }
}
