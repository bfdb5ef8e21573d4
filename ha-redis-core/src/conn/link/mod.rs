//! The half of a connection that callers share: they encode calls into it and leave a slot for the reply.

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
use std::sync::atomic::AtomicU64;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use event_listener::Event;

use crate::address::Address;
use crate::closing::CloseReport;
use crate::conn::watchdog;
use crate::error::{Error, Kind};
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

/// A larger write buffer shrinks again when it is no longer needed.
const MAX_IDLE_BUFFER: usize = 64 << 10;

/// The capacity of a connection; callers beyond it wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Calls without a reply.
    pub(crate) commands: usize,
    /// Encoded bytes that are not written. A single command may be larger.
    pub(crate) bytes: usize,
}

/// A connection as callers use it. Its [driver](crate::conn::driver) does the I/O.
pub(crate) struct Link {
    pub(crate) generation: Generation,
    pub(crate) address: Address,
    pub(crate) opened: Instant,
    /// The server's ID of the connection, if it reported one.
    pub(crate) connection_id: Option<i64>,
    /// How many connections had been abandoned when this one was [fenced](crate::node::fence).
    pub(crate) fences: u64,
    /// Which credentials it has logged in with.
    pub(crate) login_version: AtomicU64,
    /// The number of its TLS session, 0 without TLS.
    pub(crate) tls_session: u64,
    state: Mutex<State>,
    /// Notifies the task of the connection when the server falls silent or replies again.
    silence_changed: Event,
}

struct State {
    gate: Gate,
    /// True if replies are pending and there has been no progress for so long that no calls are accepted for now.
    silent: bool,
    /// How many times the server has fallen silent.
    silences: u32,
    /// True if another connection takes its place.
    outdated: bool,
    /// True until the driver has looked at its settings and its clock again.
    settings_changed: bool,
    bounds: Bounds,
    /// True while one caller uses the connection exclusively.
    checked_out: bool,
    staged: Staged,
    requests: Vec<Request>,
    /// Requests without a reply, taken by the driver or not.
    pending: usize,
    /// How many replies have arrived.
    answered: u64,
    /// Callers that wait for capacity.
    queue: WaitQueue,
    /// The calls that the end of the connection cut off.
    cut: CloseReport,
    /// True if the connection ended while replies were pending.
    ended_with_pending: bool,
    /// When the watchdog first found requests that the driver has not taken.
    stalled_since: Option<Instant>,
    /// The waker of the driver while it waits for work.
    driver: Option<Waker>,
}

/// What the driver has to do next.
#[derive(Debug)]
pub(crate) enum DriverStep {
    /// Continue. `has_staged` is true if there are bytes to take.
    Continue { has_staged: bool },
    /// End now.
    End(Error),
}

impl Link {
    pub(crate) fn new(generation: Generation, address: Address, opened: Instant, bounds: Bounds) -> Self {
        let state = State {
            gate: Gate::Open,
            silent: false,
            silences: 0,
            outdated: false,
            settings_changed: false,
            bounds,
            checked_out: false,
            staged: Staged::default(),
            requests: Vec::new(),
            pending: 0,
            answered: 0,
            queue: WaitQueue::default(),
            cut: CloseReport::default(),
            ended_with_pending: false,
            stalled_since: None,
            driver: None,
        };
        Self {
            generation,
            address,
            opened,
            connection_id: None,
            fences: 0,
            login_version: AtomicU64::new(0),
            tls_session: 0,
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
        let has_capacity = |state: &State| !state.is_full() && state.queue.is_empty();
        self.submit_where(call, slot, bound, has_capacity)
    }

    /// Like [`Link::submit`], waiting in the queue for capacity until `until`.
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
                Ok(Err(obstacle)) => prepared.resolve(obstacle, call)?,
                Ok(Ok(driver)) => {
                    on_staged(driver);
                    return Ok(());
                }
            }
        }
    }

    /// Like [`Link::submit`], ignoring the bounds and the queue: for the client's own commands. If these waited
    /// behind callers, their delay would say nothing about the server.
    pub(crate) fn submit_past_bounds(
        &self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
    ) -> Result<(), SubmitError> {
        self.submit_where(call, slot, bound, |_| true)
    }

    /// Like [`Link::submit_past_bounds`], unless a caller uses the connection exclusively: then it is
    /// [`SubmitError::Full`].
    pub(crate) fn submit_unless_checked_out(
        &self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
    ) -> Result<(), SubmitError> {
        self.submit_where(call, slot, bound, |state| !state.checked_out)
    }

    /// Sends a PING whose reply nobody waits for: if it stays away, the connection is found to be dead in time.
    pub(crate) fn check_health(&self, limit: Duration) {
        let (ping, slot) = (redis::cmd("PING"), Arc::default());
        let bound = ReplyBound { within: Some(limit), by: None };
        // It fails on a connection that accepts no calls now, which needs no check.
        let _ = self.submit_unless_checked_out(Call::Command(&ping), &slot, bound);
    }

    #[inline]
    fn submit_where(
        &self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
        has_capacity: impl Fn(&State) -> bool,
    ) -> Result<(), SubmitError> {
        let mut state = lock(&self.state);
        if state.is_unrestricted()
            && has_capacity(&state)
            && let Some(bytes) = state.staged.encode(call)
        {
            let driver = state.push(call, slot, bound, bytes);
            drop(state);
            on_staged(driver);
            return Ok(());
        }
        drop(state);
        self.submit_prepared(call, slot, bound, has_capacity)
    }

    /// The uncommon path: refusals, and calls that need preparation.
    #[cold]
    fn submit_prepared(
        &self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
        has_capacity: impl Fn(&State) -> bool,
    ) -> Result<(), SubmitError> {
        let mut prepared = Prepared::default();
        loop {
            let mut state = lock(&self.state);
            let has_capacity = has_capacity(&state);
            let submitted = state.submit(call, slot, bound, &mut prepared, has_capacity);
            drop(state);
            match submitted {
                Err(obstacle) => prepared.resolve(obstacle, call)?,
                Ok(driver) => {
                    on_staged(driver);
                    return Ok(());
                }
            }
        }
    }

    /// Returns true if calls are accepted, at least reads.
    pub(crate) fn is_open(&self) -> bool {
        let state = lock(&self.state);
        state.gate.is_open() && !state.silent
    }

    /// Returns true if there is no progress although replies are pending.
    pub(crate) fn is_silent(&self) -> bool {
        lock(&self.state).silent
    }

    /// Waits until the server has fallen silent more than `seen` times; it may have replied again by then.
    pub(crate) async fn fell_silent(&self, seen: &mut u32) {
        self.wait_for_silence(|state| (state.silences > *seen).then(|| *seen = state.silences)).await;
    }

    /// Waits until the server is not silent.
    pub(crate) async fn no_longer_silent(&self) {
        self.wait_for_silence(|state| (!state.silent).then_some(())).await;
    }

    async fn wait_for_silence(&self, mut check: impl FnMut(&State) -> Option<()>) {
        loop {
            let listener = self.silence_changed.listen();
            if check(&lock(&self.state)).is_some() {
                return;
            }
            listener.await;
        }
    }

    /// Has the driver look at its settings and its clock.
    pub(crate) fn wake_driver(&self) {
        let mut state = lock(&self.state);
        state.settings_changed = true;
        let driver = state.driver.take();
        drop(state);
        driver.into_iter().for_each(wake);
    }

    /// Gives it to no caller any more. It ends now, after the replies to the calls in flight, or when the caller that has it
    /// gives it back.
    pub(crate) fn replace(&self) {
        let mut state = lock(&self.state);
        state.outdated = true;
        let checked_out = state.checked_out;
        drop(state);
        if !checked_out {
            self.drain(outdated_error(&self.address));
        }
    }

    /// Returns true if another connection takes its place.
    pub(crate) fn is_outdated(&self) -> bool {
        lock(&self.state).outdated
    }

    /// Returns true if replies are pending.
    pub(crate) fn has_pending_replies(&self) -> bool {
        lock(&self.state).pending > 0
    }

    /// Returns how many replies have arrived. A larger number in a later call shows that the server is alive.
    pub(crate) fn answered(&self) -> u64 {
        lock(&self.state).answered
    }

    /// Gives the connection to one caller. Returns false if it accepts no calls.
    pub(crate) fn check_out(&self) -> bool {
        let mut state = lock(&self.state);
        state.checked_out = state.gate.is_open() && !state.silent && !state.outdated;
        state.checked_out
    }

    /// Takes the connection back from its caller. Returns false if it has ended, or if another one takes its place: then
    /// [`Link::replace`] ends it.
    pub(crate) fn check_in(&self) -> bool {
        let mut state = lock(&self.state);
        state.checked_out = false;
        !(state.gate.is_at_end() || state.outdated)
    }

    /// Accepts no calls until [`Link::release`].
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

    /// Accepts only reads, for this reason, or, without one, writes as well. A held link stays held.
    pub(crate) fn restrict(&self, why: Option<Error>) {
        let mut state = lock(&self.state);
        if state.gate.is_open() {
            state.gate = why.map_or(Gate::Open, Gate::ReadOnly);
        }
    }

    /// Accepts no new calls; the connection ends when all pending replies have arrived.
    pub(crate) fn drain(&self, why: Error) {
        self.change_gate(|gate| match gate {
            Gate::Open | Gate::ReadOnly(_) | Gate::Held => Some(Gate::Draining(why)),
            Gate::Draining(_) | Gate::Shut(_) => None,
        });
    }

    /// Ends the connection now. The outcome of pending calls depends on how much of each was written.
    pub(crate) fn shut(&self, why: Error) {
        self.change_gate(|gate| (!matches!(gate, Gate::Shut(_))).then_some(Gate::Shut(why)));
    }

    fn change_gate(&self, next: impl FnOnce(&Gate) -> Option<Gate>) {
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
    /// Returns true if every call is accepted, so that a call need not be examined.
    fn is_unrestricted(&self) -> bool {
        matches!(self.gate, Gate::Open) && !self.silent
    }

    fn admit(&self, reads_only: bool) -> Result<(), SubmitError> {
        match self.silent && self.gate.is_open() {
            true => Err(SubmitError::Silent),
            false => self.gate.admit(reads_only),
        }
    }

    fn is_full(&self) -> bool {
        self.pending >= self.bounds.commands || self.staged.len() >= self.bounds.bytes
    }

    /// Returns the queue for capacity. One waiter is served at a time, since the size of its call is unknown.
    fn find_queue(&mut self) -> (&mut WaitQueue, usize) {
        let available = usize::from(!self.is_full());
        (&mut self.queue, available)
    }

    /// Accepts a call. Returns the driver's waker if it must be woken.
    fn submit(
        &mut self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
        prepared: &mut Prepared,
        has_capacity: bool,
    ) -> Result<Option<Waker>, Obstacle> {
        self.admit(prepared.reads_only).map_err(Obstacle::SubmitError)?;
        if !has_capacity {
            return Err(Obstacle::SubmitError(SubmitError::Full));
        }
        let bytes = match prepared.encoded.take() {
            None => self.staged.encode(call).ok_or(Obstacle::IsLarge)?,
            Some(encoded) => self.staged.append(encoded),
        };
        Ok(self.push(call, slot, bound, bytes))
    }

    /// Records a staged call of `bytes` bytes, whose reply goes to `slot`. Returns the driver's waker if it must be
    /// woken.
    fn push(
        &mut self,
        call: Call<'_>,
        slot: &Arc<ReplySlot>,
        bound: ReplyBound,
        bytes: usize,
    ) -> Option<Waker> {
        self.requests.push(Request { waiter: Arc::clone(slot), shape: call.shape(), bytes, bound });
        self.pending += 1;
        self.driver.take()
    }

    fn next_waiter(&mut self) -> Option<Waker> {
        if self.queue.is_empty() || self.is_full() { None } else { self.queue.notify_one(1) }
    }
}

/// Returns the error of a connection that another one replaces.
pub(crate) fn outdated_error(address: &Address) -> Error {
    Error::new(Kind::Lost, format!("another connection to {address} takes over, with the new settings"))
}

/// Wakes the watchdog and the driver for a staged request. The lock is not held: this may start a thread or run other
/// tasks.
#[inline]
fn on_staged(driver: Option<Waker>) {
    watchdog::wake();
    if let Some(driver) = driver {
        wake(driver);
    }
}

/// Omits the staged bytes: they are the callers' data.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Link")
            .field("address", &self.address)
            .field("generation", &self.generation)
            .field("gate", &state.gate)
            .field("pending", &state.pending)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
