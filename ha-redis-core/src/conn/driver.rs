//! The task that does a connection's I/O: writes what callers have staged, hands replies to their slots,
//! and keeps the time.

mod replies;
mod timekeeping;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::closing::CloseReport;
use crate::config::RedisConfig;
use crate::conn::link::{DriverStep, Link, ReplySlot, Request};
use crate::conn::raw_connection::ConnectionParts;
use crate::conn::reply_reader::ReplyReader;
use crate::coop_budget::CoopBudget;
use crate::error::{Error, Kind, Outcome};
use crate::proto::{InFlight, Secrets};
use crate::retry::RetryBudget;
use crate::runtime::{Runtime, Timer, Transport};
use crate::sync::{Seen, Snapshot};

pub(crate) use timekeeping::unresponsive;

/// How much a busy connection may read before other tasks get their turn.
const READS_PER_TURN: usize = 16;
/// With more calls in flight than this, callers get their replies in shares, and what those of one share send next is
/// written before the next share is handed out: so the server and the callers work concurrently. With a single share
/// they would alternate.
const BUSY: usize = 24;
/// The number of shares that the calls in flight are divided into.
const SHARES: usize = 8;
/// The largest share: the local run queue of a Tokio worker holds 256 tasks; the rest go to the shared injection
/// queue.
const MAX_SHARE: usize = 224;

/// With at most this many calls in flight, consecutive batches of one call mean that yielding gathers no more callers.
const FEW: usize = 16;
/// What is written at once, so that the server may begin with the first part of a burst.
const MAX_WRITE: usize = 64 << 10;

/// Fewer bytes than this are no sign of progress while a reply is pending: they may only keep the connection alive.
const MOVEMENT: usize = 1 << 10;

/// The maximum grace for a server to answer a slow upload, or to finish a reply that is being skipped, in multiples of the reply timeout.
const MAX_GRACE: u32 = 3;

/// The times a connection keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// A server is silent when replies are pending and its connection has made no progress for this long.
    pub(crate) reply: Duration,
    /// A connection that has been idle for this long gets a health check. Zero turns the checks off.
    pub(crate) health_check: Duration,
}

impl Timeouts {
    pub(crate) fn of(config: &RedisConfig) -> Self {
        Self { reply: config.socket_timeout(), health_check: config.health_check_interval() }
    }
}

/// What to do when the server falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnSilence {
    /// End the connection.
    End,
    /// Tell the callers, take nothing new, and leave the decision to the task that keeps the link.
    Report,
}

/// The result of one attempt to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteProgress {
    /// The transport has taken and flushed bytes.
    Bytes,
    /// There was nothing to write, or the transport takes nothing for now and wakes the task when it does.
    Nothing,
    /// Other tasks have their turn first: what they stage joins the batch.
    Deferred,
}

/// Does the I/O of one connection until it ends; the output says why.
pub(crate) struct Driver {
    link: Arc<Link>,
    transport: Box<dyn Transport>,
    runtime: Arc<dyn Runtime>,
    /// The current times, and those that the driver keeps until it looks at its clock again.
    live_timeouts: Arc<Snapshot<Timeouts>>,
    timeouts: Seen<Timeouts>,
    on_silence: OnSilence,
    budget: Arc<RetryBudget>,
    /// Limits what one turn decodes, in bytes and values, wanted or not.
    coop_budget: CoopBudget,

    reader: ReplyReader,
    in_flight: InFlight<Arc<ReplySlot>>,
    arrivals: Vec<Request>,

    output: Vec<u8>,
    /// How much of `output` the transport has taken, and of the whole stream.
    output_taken: usize,
    written: u64,
    /// Whether the transport may buffer bytes until it is flushed.
    unflushed: bool,
    /// Since when the transport has not taken all of `output` at once.
    write_blocked_since: Option<Instant>,
    /// Whether the task has yielded, so that other tasks may stage more.
    has_yielded: bool,
    /// The number of requests in the next batch, and in the one before.
    batch: usize,
    batch_before: usize,

    /// Created at the first poll: a timer belongs to the runtime that creates it, which must be that of the driver's task,
    /// not that of a caller.
    timer: Option<Box<dyn Timer>>,
    timer_at: Instant,
    /// The time of the last read.
    alive_at: Instant,
    /// The time of the read before.
    alive_before: Instant,
    /// Since when an unfinished reply has been skipped.
    skipping_since: Option<Instant>,
    /// How many bytes have moved since the last reply.
    moved: usize,
    /// Whether the link has been told that the server is silent.
    silent: bool,
    /// When the health check was sent last.
    checked_at: Instant,
    /// Whether nothing was read since memory was given back.
    at_rest: bool,
    /// Passwords, to be hidden where the server repeats them in place of a reply.
    pub(crate) secrets: Secrets,
    /// Why the driver has ended. Every caller has its outcome then.
    ended: Option<Error>,
}

impl Driver {
    pub(crate) fn new(
        link: Arc<Link>,
        parts: ConnectionParts,
        runtime: Arc<dyn Runtime>,
        live_timeouts: Arc<Snapshot<Timeouts>>,
        on_silence: OnSilence,
        budget: Arc<RetryBudget>,
    ) -> Self {
        let now = runtime.now();
        Self {
            link,
            transport: parts.transport,
            runtime,
            timeouts: Seen::of(&live_timeouts),
            live_timeouts,
            on_silence,
            budget,
            coop_budget: CoopBudget::new(),
            reader: parts.reader,
            in_flight: InFlight::new(now),
            arrivals: Vec::new(),
            output: Vec::new(),
            output_taken: 0,
            written: 0,
            unflushed: false,
            write_blocked_since: None,
            has_yielded: false,
            batch: 0,
            batch_before: 0,
            timer: None,
            timer_at: now,
            alive_at: now,
            alive_before: now,
            skipping_since: None,
            moved: 0,
            silent: false,
            checked_at: now,
            at_rest: true,
            secrets: Secrets::default(),
            ended: None,
        }
    }

    /// Returns true if only tasks of the runtime may read the clock.
    pub(crate) fn is_simulated(&self) -> bool {
        self.runtime.is_simulated()
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if self.silent && self.in_flight.is_empty() {
            self.on_movement(self.runtime.now());
        }
        let mut had_yielded = std::mem::take(&mut self.has_yielded);
        let share = self.share();
        if had_yielded && share.is_some() {
            // What the callers of the last share have staged goes out before the next share of replies.
            if let Err(error) = self.write_staged(cx, 0, true) {
                return Poll::Ready(error);
            }
            had_yielded = false;
        }
        let share = share.unwrap_or(MAX_SHARE);
        let (mut reads, mut replies) = (0, 0);
        self.coop_budget.refill();
        loop {
            // Replies come first: they free callers, whose next commands then join the batch below. And they
            // are read even while a write is stuck, or client and server could block each other for ever.
            let answered = match self.read(cx, share - replies) {
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(answered)) => Some(answered),
                Poll::Pending => None,
            };
            let wrote = match self.write_staged(cx, answered.unwrap_or(0), std::mem::take(&mut had_yielded)) {
                Err(error) => return Poll::Ready(error),
                Ok(WriteProgress::Deferred) => return self.yield_now(cx),
                Ok(wrote) => wrote,
            };
            reads += usize::from(answered.is_some());
            replies += answered.unwrap_or(0);
            if reads >= READS_PER_TURN || replies >= share || self.coop_budget.is_spent() {
                return match self.keep_time_while_busy(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(error),
                    _ => self.yield_now(cx),
                };
            }
            if answered.is_some() || wrote == WriteProgress::Bytes {
                continue;
            }
            match self.keep_time(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(())) => {}
                Poll::Pending if self.link.park(cx) => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }

    /// Returns how many callers of a busy connection get their replies before they may run.
    fn share(&self) -> Option<usize> {
        let in_flight = self.in_flight.len();
        (in_flight > BUSY).then(|| (in_flight / SHARES).min(MAX_SHARE))
    }

    /// Yields, so that what other tasks stage joins the next write.
    fn yield_now<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        self.has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Returns true if yielding would not gather more callers: a single one, or a few that fetch large values.
    fn is_quiet(&self) -> bool {
        self.batch <= 1 && self.batch_before <= 1 && self.in_flight.len() <= FEW
    }

    /// Adds what callers have staged to the in-flight queue, with the time.
    fn admit(&mut self) {
        if !self.arrivals.is_empty() {
            let now = self.runtime.now();
            self.batch += self.arrivals.len();
            self.arrivals.drain(..).for_each(|request| self.in_flight.push(request, now));
        }
    }

    /// Reports what was answered to the link, and writes what callers have staged.
    fn write_staged(
        &mut self,
        cx: &mut Context<'_>,
        answered: usize,
        had_yielded: bool,
    ) -> Result<WriteProgress, Error> {
        let staged = match self.link.report(answered, &mut self.arrivals) {
            DriverStep::Continue { has_staged } => has_staged,
            DriverStep::End(error) => return Err(error),
        };
        self.admit();
        if staged && !had_yielded && self.has_written_all() && !self.is_quiet() {
            return Ok(WriteProgress::Deferred);
        }
        self.write(cx, staged)
    }

    fn write(&mut self, cx: &mut Context<'_>, staged: bool) -> Result<WriteProgress, Error> {
        if staged && self.has_written_all() {
            self.link.take(&mut self.output, &mut self.arrivals);
            self.output_taken = 0;
            self.admit();
            self.batch_before = std::mem::take(&mut self.batch);
        }
        self.write_output(cx)?;
        if !self.unflushed {
            return Ok(WriteProgress::Nothing);
        }
        if self.has_written_all()
            && let Some(since) = self.write_blocked_since.take()
        {
            // What the network has taken may need as long again to reach the server.
            let now = self.runtime.now();
            self.on_movement(now);
            let grace = (now - since).min(MAX_GRACE * self.timeouts.value().reply);
            self.in_flight.uploaded(now + grace, self.written);
        }
        match self.transport.poll_flush(cx) {
            Poll::Pending => Ok(WriteProgress::Nothing),
            Poll::Ready(Err(error)) => Err(self.lost(error)),
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                Ok(WriteProgress::Bytes)
            }
        }
    }

    /// Writes as much of the output as the transport takes now.
    fn write_output(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let mut taken_now = 0;
        while self.output_taken < self.output.len() {
            let end = self.output.len().min(self.output_taken + MAX_WRITE);
            match self.transport.poll_write(cx, &self.output[self.output_taken..end]) {
                Poll::Pending => {
                    self.on_write_blocked(taken_now);
                    break;
                }
                Poll::Ready(Ok(0)) => return Err(self.lost(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(taken)) => {
                    self.output_taken += taken;
                    self.written += taken as u64;
                    taken_now += taken;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(self.lost(error)),
            }
        }
        Ok(())
    }

    /// The transport takes no more for now. Bytes that it takes after that are a sign of life; the first bytes only show
    /// that buffers were free.
    fn on_write_blocked(&mut self, taken: usize) {
        let now = self.runtime.now();
        if self.write_blocked_since.is_none() {
            self.write_blocked_since = Some(now);
            return;
        }
        self.moved += taken;
        if self.moved >= MOVEMENT {
            self.on_movement(now);
        }
    }

    fn has_written_all(&self) -> bool {
        self.output_taken == self.output.len()
    }

    fn lost(&self, cause: io::Error) -> Error {
        Error::caused(Kind::Lost, format!("lost the connection to {}", self.link.address), cause)
    }

    fn broken(&self, what: &str) -> Error {
        let what = self.secrets.hide(what);
        Error::new(Kind::Protocol, format!("closed the connection to {}: {what}", self.link.address))
    }

    /// Ends all waits however the driver ends, also when its runtime shuts down or its task panics. That may happen at any
    /// point of its work, so nothing is decoded here.
    pub(crate) fn drop_connection(&mut self) {
        if self.ended.is_none() {
            let why = Error::new(Kind::Lost, format!("the connection to {} was dropped", self.link.address));
            self.end(&why);
        }
    }

    /// Completes every caller that still waits with the outcome of its command.
    fn end(&mut self, why: &Error) {
        self.ended = Some(why.clone());
        let owing = !self.in_flight.is_empty();
        if owing {
            // Bytes of an abandoned connection must not reach the server after what their callers do next.
            self.transport.reset_on_drop();
        }
        // The gate closes first, so that nobody can stage after what is settled here.
        let still_staged = self.link.end(why.clone(), owing);
        let settled = self.in_flight.settle(self.written);
        let unsent = self.arrivals.drain(..).chain(still_staged);
        let unsent = unsent.map(|request| (request.waiter, Outcome::NotSent)).collect::<Vec<_>>();
        let mut cut = CloseReport::default();
        for (slot, outcome) in settled.into_iter().chain(unsent) {
            if is_awaited(&slot) {
                cut.count(outcome);
            }
            slot.complete(Err(why.clone().with_outcome(outcome)));
        }
        self.link.record_cut(cut);
    }
}

/// Cancelled calls and health checks hold no other reference to the slot.
fn is_awaited(slot: &Arc<ReplySlot>) -> bool {
    Arc::strong_count(slot) > 1
}

impl Future for Driver {
    type Output = Error;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Error> {
        let driver = self.get_mut();
        if let Some(why) = &driver.ended {
            return Poll::Ready(why.clone());
        }
        let end = driver.step(cx);
        if let Poll::Ready(why) = &end {
            // Replies that were read are valid, whatever ends the connection.
            driver.hand_out_rest();
            driver.end(why);
        }
        end
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.drop_connection();
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("link", &self.link).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
