//! The half of a connection that callers share: they encode into it and leave a slot for the reply.

mod call;
mod carrying;
mod gate;
#[cfg(all(test, shuttle))]
mod permutations;
mod prepared;
mod slot;
mod staged;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use event_listener::Event;

use crate::address::Address;
use crate::closing::CloseReport;
use crate::conn::watchdog;
use crate::error::Error;
use crate::generation::Generation;
use crate::proto::{self, ReplyBound};
use crate::runtime::Runtime;
use crate::sync::{Mutex, lock, wake};
use crate::time::Elapsed;
use crate::wait_queue::{Ticket, WaitQueue};

pub(crate) use call::Call;
use gate::Gate;
pub(crate) use gate::SubmitError;
use prepared::{Obstacle, Prepared};
pub(crate) use slot::{NoReply, ReplySlot};
use staged::Staged;

/// A request whose reply goes to a [`ReplySlot`].
pub(crate) type Request = proto::Request<Arc<ReplySlot>>;

/// A write buffer that a burst has grown beyond this shrinks again when it is not needed any more.
const KEPT_BUFFER: usize = 64 << 10;

/// How much a connection takes; callers beyond that wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Commands that are owed a reply.
    pub(crate) commands: usize,
    /// Encoded bytes that wait for the socket. One command may be larger.
    pub(crate) bytes: usize,
}

/// A connection as its users see it. Its [driver](crate::conn::driver) does the I/O.
pub(crate) struct Link {
    pub(crate) generation: Generation,
    pub(crate) address: Address,
    pub(crate) opened: Instant,
    /// The number by which the server knows the connection, if it said so.
    pub(crate) connection_id: Option<i64>,
    /// How many connections had been given up when this one was [fenced](crate::node::fence).
    pub(crate) fences: u64,
    state: Mutex<State>,
    /// Whoever looks after the connection waits here for it to fall silent, or to be heard again.
    silence_changed: Event,
}

struct State {
    gate: Gate,
    /// The server owes replies, and nothing has moved for so long that it takes nothing new for now.
    silent: bool,
    /// How often it has fallen silent.
    silences: u32,
    bounds: Bounds,
    /// One caller has the connection to itself: nothing is sent on it but what that caller sends.
    lent: bool,
    staged: Staged,
    requests: Vec<Request>,
    /// Requests whose replies are owed, taken by the driver or not.
    owed: usize,
    /// How many replies have come.
    answered: u64,
    /// Callers who wait for room.
    queue: WaitQueue,
    /// What the end of the connection cut off.
    cut: CloseReport,
    /// Whether it ended while the server owed replies.
    owing: bool,
    /// When the watchdog first found requests that the driver has not taken.
    stalled_since: Option<Instant>,
    /// The driver, when it waits for work.
    driver: Option<Waker>,
}

/// What the driver is to do.
#[derive(Debug)]
pub(crate) enum DriverStep {
    /// Go on. `staged`: there are bytes to take.
    Carry { staged: bool },
    /// End now.
    End(Error),
}

impl Link {
    pub(crate) fn new(generation: Generation, address: Address, opened: Instant, bounds: Bounds) -> Self {
        let state = State {
            gate: Gate::Open,
            silent: false,
            silences: 0,
            bounds,
            lent: false,
            staged: Staged::default(),
            requests: Vec::new(),
            owed: 0,
            answered: 0,
            queue: WaitQueue::default(),
            cut: CloseReport::default(),
            owing: false,
            stalled_since: None,
            driver: None,
        };
        Self {
            generation,
            address,
            opened,
            connection_id: None,
            fences: 0,
            state: Mutex::new(state),
            silence_changed: Event::new(),
        }
    }

    /// Encodes a call and leaves `slot` for its reply.
    pub(crate) fn submit(
        &self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
    ) -> Result<(), SubmitError> {
        let has_room = |state: &State| !state.is_full() && state.queue.is_empty();
        self.submit_where(call, slot, bound, has_room)
    }

    /// As [`Link::submit`], waiting in turn for room until `until`.
    pub(crate) async fn submit_in_turn(
        &self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
        runtime: &dyn Runtime,
        until: Instant,
    ) -> Result<(), SubmitError> {
        let mut ticket = Ticket::new(&self.state, State::find_queue);
        let mut prepared = Prepared::default();
        loop {
            let submit = |state: &mut State, is_served: bool, cx: &mut Context<'_>| {
                if is_served {
                    slot.arm(cx);
                }
                match state.submit(call, slot, bound, &mut prepared, is_served) {
                    Err(Obstacle::SubmitError(SubmitError::Full)) => None,
                    submitted => Some(submitted),
                }
            };
            match ticket.wait(runtime, until, submit).await {
                Err(Elapsed) => return Err(SubmitError::Full),
                Ok(Err(obstacle)) => prepared.overcome(obstacle, call)?,
                Ok(Ok(driver)) => {
                    on_staged(driver);
                    return Ok(());
                }
            }
        }
    }

    /// As [`Link::submit`], past the bounds and those who wait for room: for the client's own questions, which say
    /// nothing about the server when callers have filled the connection.
    pub(crate) fn submit_past_bounds(
        &self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
    ) -> Result<(), SubmitError> {
        self.submit_where(call, slot, bound, |_| true)
    }

    /// Asks for a sign of life, for which nobody waits: without one the connection is found to be dead in time.
    pub(crate) fn check_health(&self, limit: Duration) {
        let (ping, slot) = (redis::cmd("PING"), Arc::default());
        let bound = ReplyBound { within: Some(limit), by: None };
        // A connection that takes nothing now is not asked.
        let _ = self.submit_where(Call::Command(&ping), &slot, bound, |state| !state.lent);
    }

    #[inline]
    fn submit_where(
        &self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
        has_room: impl Fn(&State) -> bool,
    ) -> Result<(), SubmitError> {
        let mut state = lock(&self.state);
        if state.takes_everything()
            && has_room(&state)
            && let Some(bytes) = state.staged.encode(call)
        {
            let driver = state.push(call, slot, bound, bytes);
            drop(state);
            on_staged(driver);
            return Ok(());
        }
        drop(state);
        self.submit_prepared(call, slot, bound, has_room)
    }

    /// What is not on the common way: refusing, and what is to be prepared.
    #[cold]
    fn submit_prepared(
        &self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
        has_room: impl Fn(&State) -> bool,
    ) -> Result<(), SubmitError> {
        let mut prepared = Prepared::default();
        loop {
            let mut state = lock(&self.state);
            let has_room = has_room(&state);
            let submitted = state.submit(call, slot, bound, &mut prepared, has_room);
            drop(state);
            match submitted {
                Err(obstacle) => prepared.overcome(obstacle, call)?,
                Ok(driver) => {
                    on_staged(driver);
                    return Ok(());
                }
            }
        }
    }

    /// Whether it takes commands, if only reads.
    pub(crate) fn is_open(&self) -> bool {
        let state = lock(&self.state);
        state.gate.is_open() && !state.silent
    }

    /// Whether nothing moves although replies are owed.
    pub(crate) fn is_silent(&self) -> bool {
        lock(&self.state).silent
    }

    /// Waits until the server falls silent once more than `seen` times; it may answer again by then.
    pub(crate) async fn fell_silent(&self, seen: &mut u32) {
        self.silence(|state| (state.silences > *seen).then(|| *seen = state.silences)).await;
    }

    /// Waits until the server is not silent.
    pub(crate) async fn heard_again(&self) {
        self.silence(|state| (!state.silent).then_some(())).await;
    }

    async fn silence(&self, mut check: impl FnMut(&State) -> Option<()>) {
        loop {
            let listener = self.silence_changed.listen();
            if check(&lock(&self.state)).is_some() {
                return;
            }
            listener.await;
        }
    }

    /// Whether replies are owed.
    pub(crate) fn owes_replies(&self) -> bool {
        lock(&self.state).owed > 0
    }

    /// How many replies have come: a sign of life, for whoever looks twice.
    pub(crate) fn answered(&self) -> u64 {
        lock(&self.state).answered
    }

    /// Gives the connection to one caller. False when it takes no commands.
    pub(crate) fn check_out(&self) -> bool {
        let mut state = lock(&self.state);
        state.lent = state.gate.is_open() && !state.silent;
        state.lent
    }

    /// Takes the connection back from its caller. False when it is at its end.
    pub(crate) fn check_in(&self) -> bool {
        let mut state = lock(&self.state);
        state.lent = false;
        !state.gate.is_at_end()
    }

    /// Takes nothing new until [`Link::release`].
    pub(crate) fn hold(&self) {
        let mut state = lock(&self.state);
        if state.gate.is_open() {
            state.gate = Gate::Held;
        }
    }

    pub(crate) fn release(&self, read_only: Option<Error>) {
        let mut state = lock(&self.state);
        if matches!(state.gate, Gate::Held) {
            state.gate = read_only.map_or(Gate::Open, Gate::ReadOnly);
        }
    }

    /// Takes only reads for this reason, or, without one, writes as well. A link that is held stays so.
    pub(crate) fn restrict(&self, why: Option<Error>) {
        let mut state = lock(&self.state);
        if state.gate.is_open() {
            state.gate = why.map_or(Gate::Open, Gate::ReadOnly);
        }
    }

    /// Takes nothing new; the connection ends when all that is owed has come.
    pub(crate) fn drain(&self, why: Error) {
        self.turn(|gate| match gate {
            Gate::Open | Gate::ReadOnly(_) | Gate::Held => Some(Gate::Draining(why)),
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
        let waiting = state.queue.notify_all();
        drop(state);
        waiting.into_iter().chain(driver).for_each(wake);
    }
}

impl State {
    /// Whether there is nothing that a call has to be asked for.
    fn takes_everything(&self) -> bool {
        matches!(self.gate, Gate::Open) && !self.silent
    }

    fn admit(&self, reads_only: bool) -> Result<(), SubmitError> {
        match self.silent && self.gate.is_open() {
            true => Err(SubmitError::Silent),
            false => self.gate.admit(reads_only),
        }
    }

    fn is_full(&self) -> bool {
        self.owed >= self.bounds.commands || self.staged.len() >= self.bounds.bytes
    }

    /// The queue for room. One at a time is served, since nobody knows how much room a call takes.
    fn find_queue(&mut self) -> (&mut WaitQueue, usize) {
        let available = usize::from(!self.is_full());
        (&mut self.queue, available)
    }

    /// Takes a call, and returns the driver if it is to be woken.
    fn submit(
        &mut self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
        prepared: &mut Prepared,
        has_room: bool,
    ) -> Result<Option<Waker>, Obstacle> {
        self.admit(prepared.reads_only).map_err(Obstacle::SubmitError)?;
        if !has_room {
            return Err(Obstacle::SubmitError(SubmitError::Full));
        }
        let bytes = match prepared.encoded.take() {
            None => self.staged.encode(call).ok_or(Obstacle::IsLarge)?,
            Some(encoded) => self.staged.append(encoded),
        };
        Ok(self.push(call, slot, bound, bytes))
    }

    /// Has the reply to a call that was staged, with so many bytes, go to `slot`. Returns the driver if it is to be woken.
    fn push(
        &mut self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
        bytes: usize,
    ) -> Option<Waker> {
        self.requests.push(Request { waiter: Arc::clone(slot), shape: call.shape(), bytes, bound });
        self.owed += 1;
        self.driver.take()
    }

    fn next_in_turn(&mut self) -> Option<Waker> {
        if self.queue.is_empty() || self.is_full() { None } else { self.queue.notify_one(1) }
    }
}

/// Has a request that was staged carried and watched. The lock is not held: this may start a thread, or run other tasks.
#[inline]
fn on_staged(driver: Option<Waker>) {
    watchdog::wake();
    if let Some(driver) = driver {
        wake(driver);
    }
}

/// Without what callers have staged: that is their data.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Link")
            .field("address", &self.address)
            .field("generation", &self.generation)
            .field("gate", &state.gate)
            .field("owed", &state.owed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
