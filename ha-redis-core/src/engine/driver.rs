//! The task that does a connection's I/O: writes what callers have staged, hands replies to their slots,
//! and keeps the time.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::closing::CloseReport;
use crate::engine::coop_budget::CoopBudget;
use crate::engine::dialog::Parts;
use crate::engine::reply_reader::ReplyReader;
use crate::error::{Error, Kind, Outcome};
use crate::link::{Link, Orders, Request, Slot};
use crate::proto::{DecodeError, InFlight, Incoming, OverLimit, Reply, Skipped};
use crate::retry::RetryBudget;
use crate::runtime::{Runtime, Timer, Transport};

/// How much a busy connection may read before other tasks get their turn.
const READS_PER_TURN: usize = 16;
/// With more calls in flight than this, callers get their replies in shares, and what those of one share send next is
/// written before the next share is handed out: so server and callers work at the same time. With one share for all
/// they would take turns.
const BUSY: usize = 24;
/// How many shares that is, of what is in flight.
const SHARES: usize = 8;
/// The largest share: a worker of Tokio has room for 256 tasks at hand, and all beyond go to a queue that the workers
/// share.
const MAX_SHARE: usize = 224;
/// A connection that has been idle for so long gives back the memory that a burst has grown.
const AT_REST: Duration = Duration::from_secs(1);

/// With no more calls in flight than this, batches of one call are no accident.
const FEW: usize = 16;
/// What is written at once, so that the server may begin with the first part of a burst.
const MAX_WRITE: usize = 64 << 10;

/// Less than this says nothing about a server that owes a reply: it may be no more than what keeps a connection.
const MOVEMENT: usize = 1 << 10;

/// A server has no more than so many times its usual time to answer a slow upload, and to end a reply that nobody gets.
const MAX_GRACE: u32 = 3;

/// The times a connection keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// A server that owes replies and lets nothing move for so long is silent.
    pub(crate) reply: Duration,
    /// A connection that has been idle for so long is asked whether it lives. Zero: never.
    pub(crate) health_check: Duration,
}

/// What comes of a server's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnSilence {
    /// The connection ends.
    End,
    /// Callers are told, nothing new is taken, and whoever looks after the link decides.
    Report,
}

/// Carries one connection until it ends; the output says why.
pub(crate) struct Driver {
    link: Arc<Link>,
    transport: Box<dyn Transport>,
    runtime: Arc<dyn Runtime>,
    patience: Patience,
    on_silence: OnSilence,
    budget: Arc<RetryBudget>,
    /// What of a turn is left for bytes that are nobody's reply: they count as no replies, and tiny ones take much time.
    coop_budget: CoopBudget,

    reader: ReplyReader,
    in_flight: InFlight<Arc<Slot>>,
    arrivals: Vec<Request>,

    output: Vec<u8>,
    /// How much of `output` the transport has taken, and of the whole stream.
    output_taken: usize,
    written: u64,
    /// Whether the transport may hold back bytes until it is flushed.
    unflushed: bool,
    /// Since when the transport takes the bytes of `output` only bit by bit, if it does.
    jammed_since: Option<Instant>,
    /// Whether other tasks are having their turn, or had it just now.
    gone_round: bool,
    /// The requests of the batch that is written next, and of the one before.
    batch: usize,
    batch_before: usize,

    /// Made at the first poll: a timer belongs to the runtime on which it is made, and that is where the task of this
    /// driver runs, not where a caller asked for the connection.
    timer: Option<Box<dyn Timer>>,
    timer_at: Instant,
    /// When something was read last.
    alive_at: Instant,
    /// The same, as it was before the last read.
    alive_before: Instant,
    /// Since when a reply has been read over that has not ended.
    read_over_since: Option<Instant>,
    /// Bytes that have moved since the last reply.
    moved: usize,
    /// Whether the link has been told that the server is silent.
    silent: bool,
    /// When it was last asked for one.
    checked_at: Instant,
    /// Whether nothing has come since memory was given back.
    at_rest: bool,
    /// Why it has ended. Every caller has been told what became of its command: nothing is left to do.
    ended: Option<Error>,
}

impl Driver {
    pub(crate) fn new(
        link: Arc<Link>,
        parts: Parts,
        runtime: Arc<dyn Runtime>,
        patience: Patience,
        on_silence: OnSilence,
        budget: Arc<RetryBudget>,
    ) -> Self {
        let now = runtime.now();
        Self {
            link,
            transport: parts.transport,
            runtime,
            patience,
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
            jammed_since: None,
            gone_round: false,
            batch: 0,
            batch_before: 0,
            timer: None,
            timer_at: now,
            alive_at: now,
            alive_before: now,
            read_over_since: None,
            moved: 0,
            silent: false,
            checked_at: now,
            at_rest: true,
            ended: None,
        }
    }

    /// Whether nothing but the tasks of its runtime may look at the time.
    pub(crate) fn is_simulated(&self) -> bool {
        self.runtime.is_simulated()
    }

    /// Keeps the bounds of calls in the place of a task that does not run: what was due at `overdue`. Whether replies
    /// are owed.
    pub(crate) fn keep_bounds(&mut self, now: Instant, overdue: Instant) -> bool {
        if self.ended.is_some() {
            return false;
        }
        self.expire(overdue);
        let is_silent = self.in_flight.late_at().is_some_and(|at| at <= overdue);
        let stalled = self.link.expire_staged(now, overdue);
        if is_silent || !stalled.is_empty() {
            self.on_overdue(overdue);
        }
        for slot in stalled {
            let message = format!(
                "nothing was sent to {}: the runtime of the client does not run its tasks; do not block it, and drive it \
                 for as long as the client is used",
                self.link.address
            );
            slot.complete(Err(Error::new(Kind::Timeout, message)));
        }
        self.link.owes()
    }

    fn on_overdue(&mut self, overdue: Instant) {
        if self.ends_on_silence() {
            let why = unresponsive(&self.link.address, self.patience.reply);
            // Wakes the task, which ends once its runtime is driven again.
            self.link.shut(why.clone());
            self.end(&why);
        } else {
            self.report_silence(overdue);
        }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if self.silent && self.in_flight.is_empty() {
            self.on_movement(self.runtime.now());
        }
        let mut been_round = std::mem::take(&mut self.gone_round);
        let share = self.share();
        if been_round && share.is_some() {
            // What the last share's callers have staged, before the next share.
            if let Poll::Ready(Err(error)) = self.carry(cx, 0, true) {
                return Poll::Ready(error);
            }
            been_round = false;
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
            let wrote = match self.carry(cx, answered.unwrap_or(0), std::mem::take(&mut been_round)) {
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            if self.gone_round {
                return Poll::Pending;
            }
            reads += usize::from(answered.is_some());
            replies += answered.unwrap_or(0);
            if reads >= READS_PER_TURN || replies >= share || self.coop_budget.is_spent() {
                return match self.keep_time_while_busy(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(error),
                    _ => self.go_round(cx),
                };
            }
            if answered.is_some() || wrote {
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

    /// How many callers of a busy connection get their replies before those have had their turn.
    fn share(&self) -> Option<usize> {
        let in_flight = self.in_flight.len();
        (in_flight > BUSY).then(|| (in_flight / SHARES).min(MAX_SHARE))
    }

    /// Gives other tasks their turn: what they stage joins the next write.
    fn go_round<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        self.gone_round = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hands out what has come, after a read if nothing is left of the last one; how many requests were answered.
    fn read(&mut self, cx: &mut Context<'_>, share: usize) -> Poll<Result<usize, Error>> {
        if self.reader.is_empty() {
            // A busy connection may never come to wait for its timer. What was due when the last read began has not come
            // with it; what became due while this process was held up may have come, and is still to be read.
            self.expire(self.alive_before);
            match ready!(self.reader.poll_read(&mut *self.transport, cx)) {
                Err(error) => return Poll::Ready(Err(self.lost(error))),
                Ok(0) => {
                    let closed = "the server closed the connection";
                    return Poll::Ready(Err(self.lost(io::Error::new(io::ErrorKind::UnexpectedEof, closed))));
                }
                Ok(read) => self.moved += read,
            }
            self.alive_before = std::mem::replace(&mut self.alive_at, self.runtime.now());
            self.at_rest = false;
        }
        let answered = self.hand_out(share);
        // What is still to be decoded may be pushes.
        let moved = self.moved.saturating_sub(self.reader.unread());
        if answered.as_ref().is_ok_and(|answered| *answered > 0) || moved >= MOVEMENT {
            self.on_movement(self.alive_at);
        }
        Poll::Ready(answered)
    }

    /// What is owed is not late: a reply has come, or enough of one, or the server takes what is written.
    #[inline]
    fn on_movement(&mut self, now: Instant) {
        self.moved = 0;
        self.in_flight.moved(now);
        if self.silent {
            self.silent = false;
            self.link.set_silent(false);
        }
    }

    /// Gives the replies that have come to those who wait for them, at most so many.
    fn hand_out(&mut self, share: usize) -> Result<usize, Error> {
        const UNASKED: &str = "it sent a reply that nothing asked for";
        let mut answered = 0;
        while answered < share && !self.coop_budget.is_spent() {
            // Pushes are nobody's, and nor is the reply to a caller who has gone.
            let in_flight = &self.in_flight;
            let wanted = |incoming| incoming == Incoming::Reply && in_flight.is_awaited(is_awaited);
            let before = self.reader.unread();
            let progress = match self.reader.next(&wanted) {
                Ok(None) => match self.reader.half_read() {
                    Some(Incoming::Reply) if self.is_unasked() => return Err(self.broken(UNASKED)),
                    Some(Incoming::Push) => {
                        self.on_push(before);
                        break;
                    }
                    Some(Incoming::Reply) if !wanted(Incoming::Reply) => {
                        self.on_read_over(before);
                        break;
                    }
                    _ => break,
                },
                Ok(Some(_)) if self.is_unasked() => return Err(self.broken(UNASKED)),
                Ok(Some(value)) => match self.in_flight.pop_single() {
                    // Most requests have one reply, and are spared what the others need.
                    Some(slot) => {
                        answered += 1;
                        self.reader.begin_answer();
                        if let Some(slot) = slot {
                            slot.complete(Ok(Reply::One(value)));
                        }
                        continue;
                    }
                    None => self.in_flight.on_value(value),
                },
                Err(DecodeError::Skipped(Skipped { incoming: Incoming::Push, .. })) => {
                    self.on_push(before);
                    continue;
                }
                Err(DecodeError::Skipped(_)) if self.is_unasked() => return Err(self.broken(UNASKED)),
                Err(DecodeError::Skipped(Skipped { over, .. })) => {
                    self.on_read_over(before);
                    self.read_over_since = None;
                    self.in_flight.on_skipped(over)
                }
                Err(DecodeError::NotResp(error)) => return Err(self.broken(&error.to_string())),
            };
            let Ok(progress) = progress else { return Err(self.broken(UNASKED)) };
            let Some((slot, reply)) = progress else { continue };
            answered += 1;
            self.reader.begin_answer();
            if let Some(slot) = slot {
                slot.complete(reply.map_err(|over| self.too_large(over)));
            }
        }
        self.budget.fill(answered);
        Ok(answered)
    }

    /// Whether nothing was written that a reply could answer. Requests may be in flight that are not written yet.
    fn is_unasked(&self) -> bool {
        self.written <= self.in_flight.head_offset()
    }

    /// Gives out all replies that have come, at the end of the connection.
    fn hand_out_rest(&mut self) {
        loop {
            self.coop_budget.refill();
            if self.hand_out(usize::MAX).is_err() || !self.coop_budget.is_spent() {
                return;
            }
        }
    }

    /// What has been decoded since so much was unread belongs to a push. Nobody waits for it.
    fn on_push(&mut self, unread_before: usize) {
        let decoded = unread_before - self.reader.unread();
        self.moved = self.moved.saturating_sub(decoded);
        self.coop_budget.spend_decoded(decoded);
    }

    /// What has been decoded since so much was unread belongs to a reply that nobody gets. For a while it counts as life,
    /// since a large one may take its time; but it may never end.
    fn on_read_over(&mut self, unread_before: usize) {
        let decoded = unread_before - self.reader.unread();
        self.coop_budget.spend_decoded(decoded);
        let since = *self.read_over_since.get_or_insert(self.alive_at);
        if since + MAX_GRACE * self.patience.reply < self.alive_at {
            self.moved = self.moved.saturating_sub(decoded);
        }
    }

    /// Whether waiting for more callers is in vain, as it is for a lone one, and for a few who fetch large values.
    fn is_quiet(&self) -> bool {
        self.batch <= 1 && self.batch_before <= 1 && self.in_flight.len() <= FEW
    }

    /// Stamps what callers have staged with the time.
    fn admit(&mut self) {
        if !self.arrivals.is_empty() {
            let now = self.runtime.now();
            self.batch += self.arrivals.len();
            self.arrivals.drain(..).for_each(|request| self.in_flight.push(request, now));
        }
    }

    /// Books what was answered and writes what callers have staged, unless going round first is worth it. Ready when
    /// something was written.
    fn carry(&mut self, cx: &mut Context<'_>, answered: usize, been_round: bool) -> Poll<Result<(), Error>> {
        let staged = match self.link.report(answered, &mut self.arrivals) {
            Orders::Carry { staged } => staged,
            Orders::End(error) => return Poll::Ready(Err(error)),
        };
        self.admit();
        if staged && !been_round && self.has_written_all() && !self.is_quiet() {
            // More callers may be about to stage.
            return self.go_round(cx);
        }
        self.write(cx, staged)
    }

    /// Writes what there is. Ready when something was written.
    fn write(&mut self, cx: &mut Context<'_>, staged: bool) -> Poll<Result<(), Error>> {
        if staged && self.has_written_all() {
            self.link.take(&mut self.output, &mut self.arrivals);
            self.output_taken = 0;
            self.admit();
            self.batch_before = std::mem::take(&mut self.batch);
        }
        let mut taken_now = 0;
        while self.output_taken < self.output.len() {
            let end = self.output.len().min(self.output_taken + MAX_WRITE);
            match self.transport.poll_write(cx, &self.output[self.output_taken..end]) {
                Poll::Pending => {
                    self.on_jam(taken_now);
                    break;
                }
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(self.lost(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(taken)) => {
                    self.output_taken += taken;
                    self.written += taken as u64;
                    taken_now += taken;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.lost(error))),
            }
        }
        if !self.unflushed {
            return Poll::Pending;
        }
        if self.has_written_all()
            && let Some(since) = self.jammed_since.take()
        {
            // What the network has swallowed may take as long again to reach the server.
            let now = self.runtime.now();
            self.on_movement(now);
            let grace = (now - since).min(MAX_GRACE * self.patience.reply);
            self.in_flight.uploaded(now + grace, self.written);
        }
        match self.transport.poll_flush(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.lost(error))),
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The transport takes no more for now. That it took something after it was jammed before is a sign of life; the
    /// first time it shows no more than free buffers.
    fn on_jam(&mut self, taken: usize) {
        let now = self.runtime.now();
        if self.jammed_since.is_none() {
            self.jammed_since = Some(now);
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

    /// Does what is due and sets the timer for what comes next. Pending when nothing was due.
    fn keep_time(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.timer.is_none() || self.next_due().is_some_and(|due| due < self.timer_at) {
            self.set_timer();
        }
        if self.timer.as_mut().is_some_and(|timer| timer.poll(cx).is_pending()) {
            return Poll::Pending;
        }
        let now = self.runtime.now();
        self.expire(now);
        if self.in_flight.late_at().is_some_and(|at| at <= now) {
            if self.ends_on_silence() {
                return Poll::Ready(Err(unresponsive(&self.link.address, self.patience.reply)));
            }
            self.report_silence(now);
        }
        if self.check_at().is_some_and(|at| at <= now) {
            self.check_health(now);
        }
        if self.rest_at().is_some_and(|at| at <= now) {
            self.rest();
        }
        self.set_timer();
        Poll::Ready(Ok(()))
    }

    /// A server that always has more to say leaves no time for [`Driver::keep_time`]. None of it is a reply that is late
    /// since before the last read.
    fn keep_time_while_busy(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.in_flight.late_at() {
            Some(at) if at <= self.alive_before => self.keep_time(cx),
            _ => Poll::Pending,
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let due = [self.in_flight.next_deadline(), self.in_flight.late_at(), self.check_at(), self.rest_at()];
        due.into_iter().flatten().min()
    }

    fn set_timer(&mut self) {
        // With nothing due the timer rests; the next request sets it anew.
        let rest = self.runtime.now() + Duration::from_secs(3600);
        self.timer_at = self.next_due().unwrap_or(rest);
        match &mut self.timer {
            Some(timer) => timer.reset(self.timer_at),
            None => self.timer = Some(self.runtime.timer(self.timer_at)),
        }
    }

    /// Nobody looks after a connection that is closing.
    fn ends_on_silence(&self) -> bool {
        self.on_silence == OnSilence::End || self.link.is_closing()
    }

    /// Tells those whose replies are late, and takes nothing new until something moves.
    fn report_silence(&mut self, now: Instant) {
        if !self.silent {
            self.silent = true;
            self.link.set_silent(true);
        }
        self.in_flight.late(now).into_iter().for_each(|slot| slot.tell_late());
    }

    fn check_at(&self) -> Option<Instant> {
        let idle = self.in_flight.is_empty() && !self.patience.health_check.is_zero();
        idle.then(|| self.alive_at.max(self.checked_at) + self.patience.health_check)
    }

    fn rest_at(&self) -> Option<Instant> {
        let all_done = self.in_flight.is_empty() && self.reader.is_empty() && self.has_written_all();
        (all_done && !self.at_rest).then(|| self.alive_at + AT_REST)
    }

    /// Gives back the memory that a burst has grown.
    fn rest(&mut self) {
        self.at_rest = true;
        self.reader.shrink();
        (self.output, self.output_taken) = (Vec::new(), 0);
        self.arrivals = Vec::new();
        self.in_flight.give_back();
        self.link.give_back();
    }

    fn check_health(&mut self, now: Instant) {
        self.checked_at = now;
        self.link.check_health(self.patience.reply);
    }

    fn expire(&mut self, now: Instant) {
        if self.in_flight.next_deadline().is_none_or(|at| now < at) {
            return;
        }
        let mut cut = CloseReport::default();
        for slot in self.in_flight.expire(now) {
            if is_awaited(&slot) {
                cut.count(Outcome::MaybeApplied);
            }
            let message = format!("{} did not answer in time", self.link.address);
            let error = Error::new(Kind::Timeout, message).with_outcome(Outcome::MaybeApplied);
            slot.complete(Err(error));
        }
        if self.link.is_closing() {
            self.link.record_cut(cut);
        }
    }

    fn lost(&self, cause: io::Error) -> Error {
        Error::caused(Kind::Lost, format!("lost the connection to {}", self.link.address), cause)
    }

    fn broken(&self, what: &str) -> Error {
        Error::new(Kind::Protocol, format!("gave up the connection to {}: {what}", self.link.address))
    }

    /// However the driver ends, nobody is left waiting: also when its runtime shuts down under it, or a panic ends its
    /// task. That may be any moment of its work, so nothing is decoded here.
    pub(crate) fn drop_connection(&mut self) {
        if self.ended.is_none() {
            let why = Error::new(Kind::Lost, format!("the connection to {} was dropped", self.link.address));
            self.end(&why);
        }
    }

    fn too_large(&self, over: OverLimit) -> Error {
        let message = format!("the reply of {} was read over: {over}", self.link.address);
        Error::new(Kind::ReplyTooLarge, message).with_outcome(Outcome::Ran)
    }

    /// Tells every caller that still waits what became of its command.
    fn end(&mut self, why: &Error) {
        self.ended = Some(why.clone());
        let owing = !self.in_flight.is_empty();
        if owing {
            // What was given up must not reach the server later, behind what its callers do next.
            self.transport.reset_on_drop();
        }
        // The gate closes first, so that nobody can stage behind what is settled here.
        let never_taken = self.link.end(why.clone(), owing);
        let settled = self.in_flight.settle(self.written);
        let unsent = self.arrivals.drain(..).chain(never_taken);
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

/// A server owes replies, and nothing has moved on its connection for so long.
pub(crate) fn unresponsive(address: &Address, patience: Duration) -> Error {
    let message = format!("{address} is unresponsive: nothing has moved on its connection for {patience:?}");
    Error::new(Kind::Timeout, message)
}

/// Of a caller that has gone away, and of a check, nobody else holds the slot.
fn is_awaited(slot: &Arc<Slot>) -> bool {
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
            // What has come has come, whatever ends the connection.
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
