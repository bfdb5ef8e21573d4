//! Matches replies with requests, and tracks how long each may take.
//!
//! There are two bounds. The *deadline* of a call is the point in time at which its caller stops waiting. A request
//! is *late* when its connection has made no progress for as long as the server may be silent: a large value that
//! arrives slowly is not late, nor are the replies behind it.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use redis::Value;

use super::OverLimit;
use crate::background_drop::drop_values;
use crate::error::Outcome;

/// How many replies a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A command: one reply.
    One,
    /// A pipeline: as many replies as commands, each of which runs by itself.
    Many(u32),
    /// MULTI, the commands and EXEC: this many replies, and nothing runs before EXEC has arrived.
    Atomic(u32),
}

impl Shape {
    fn replies(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Many(replies) | Self::Atomic(replies) => replies,
        }
    }
}

/// The complete answer to a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    One(Value),
    Many(Vec<Value>),
}

/// A request on its way to the server. `W` is the handle of its caller.
#[derive(Debug)]
pub(crate) struct Request<W> {
    pub(crate) waiter: W,
    pub(crate) shape: Shape,
    /// The encoded length.
    pub(crate) bytes: usize,
    pub(crate) bound: ReplyBound,
}

/// When a reply must have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplyBound {
    /// How long the server may be silent; `None` for a command that blocks forever.
    pub(crate) within: Option<Duration>,
    /// The deadline of the whole call.
    pub(crate) by: Option<Instant>,
}

/// The caller, unless it has stopped waiting, and the answer: all replies, or the limit that they exceed.
pub(crate) type Answered<W> = (Option<W>, Result<Reply, OverLimit>);

/// The requests of a connection that wait for replies, in the order in which they were written.
#[derive(Debug)]
pub(crate) struct InFlight<W> {
    queue: VecDeque<Entry<W>>,
    /// The replies so far to the request at the head of the queue.
    partial: Partial,
    /// The offset in the stream of written bytes at which the request at the head begins.
    head_offset: u64,
    /// No deadline is earlier than this. Entries that leave the queue do not update it, so it may be too early.
    next_deadline: Option<Instant>,
    silence: Silence,
}

#[derive(Debug)]
struct Entry<W> {
    /// `None` once the deadline has passed and the waiter was taken out.
    waiter: Option<W>,
    shape: Shape,
    silence_limit: SilenceLimit,
    bytes: usize,
    since: Instant,
    deadline: Option<Instant>,
}

/// Since when the connection has made no progress, and how many requests were reported late.
#[derive(Debug)]
struct Silence {
    since: Instant,
    /// `since` may be in the future until the request that ends at this offset is answered.
    uploaded: u64,
    /// How many requests at the head of the queue were reported late.
    reported: usize,
}

/// How long a server may be silent about a request, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SilenceLimit(u32);

impl SilenceLimit {
    const UNLIMITED: Self = Self(u32::MAX);

    fn new(within: Option<Duration>) -> Self {
        let millis = within.and_then(|within| u32::try_from(within.as_millis()).ok());
        millis.map_or(Self::UNLIMITED, Self)
    }

    fn after(self, instant: Instant) -> Option<Instant> {
        (self != Self::UNLIMITED).then(|| instant + Duration::from_millis(self.0.into()))
    }
}

/// A part of the replies to a pipeline.
#[derive(Debug, Default)]
struct Partial {
    /// How many replies have arrived.
    count: u32,
    /// Those replies, unless they will not be returned.
    replies: Vec<Value>,
    over: Option<OverLimit>,
}

/// A reply without a request.
#[derive(Debug, PartialEq)]
pub(crate) struct Unsolicited;

impl<W> InFlight<W> {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            partial: Partial::default(),
            head_offset: 0,
            next_deadline: None,
            silence: Silence { since: now, uploaded: 0, reported: 0 },
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the offset in the stream of written bytes at which the next request to be answered begins.
    pub(crate) fn head_offset(&self) -> u64 {
        self.head_offset
    }

    /// Adds a request whose bytes follow those of the requests before it.
    pub(crate) fn push(&mut self, request: Request<W>, now: Instant) {
        let Request { waiter, shape, bytes, bound } = request;
        self.next_deadline = earlier(self.next_deadline, bound.by);
        let silence_limit = SilenceLimit::new(bound.within);
        let deadline = bound.by;
        let entry = Entry { waiter: Some(waiter), shape, silence_limit, bytes, since: now, deadline };
        self.queue.push_back(entry);
    }

    /// Returns true if somebody waits for the next reply. `is_waiting` returns false for a waiter that has gone away.
    pub(crate) fn is_awaited(&self, is_waiting: impl Fn(&W) -> bool) -> bool {
        let waiter = self.queue.front().and_then(|entry| entry.waiter.as_ref());
        self.partial.over.is_none() && waiter.is_some_and(is_waiting)
    }

    /// Removes the request at the head if it gets a single reply. Returns its waiter, which is `None` if it has
    /// stopped waiting.
    #[inline]
    pub(crate) fn pop_single(&mut self) -> Option<Option<W>> {
        let is_single = self.queue.front().is_some_and(|entry| entry.shape == Shape::One);
        if is_single { self.pop().map(|entry| entry.waiter) } else { None }
    }

    /// Assigns the next reply from the server. Returns `Ok(Some(..))` when a request has all its replies.
    #[inline]
    pub(crate) fn on_value(&mut self, value: Value) -> Result<Option<Answered<W>>, Unsolicited> {
        let shape = self.queue.front().ok_or(Unsolicited)?.shape;
        if shape == Shape::One {
            return Ok(self.pop().map(|entry| (entry.waiter, Ok(Reply::One(value)))));
        }
        if self.is_awaited(|_| true) {
            if self.partial.replies.is_empty() {
                // The pipeline itself takes far more memory, so reserving for its replies is no risk.
                self.partial.replies.reserve_exact(shape.replies() as usize);
            }
            self.partial.replies.push(value);
        }
        Ok(self.on_part(shape))
    }

    /// Records that the next reply was skipped: it exceeds a limit, or nobody waits for it.
    pub(crate) fn on_skipped(&mut self, over: Option<OverLimit>) -> Result<Option<Answered<W>>, Unsolicited> {
        let entry = self.queue.front_mut().ok_or(Unsolicited)?;
        if over.is_none() && self.partial.over.is_none() {
            entry.waiter = None;
        }
        self.partial.over = self.partial.over.or(over);
        drop_values(mem::take(&mut self.partial.replies));
        let shape = entry.shape;
        Ok(self.on_part(shape))
    }

    /// Counts one more reply to the request at the head.
    fn on_part(&mut self, shape: Shape) -> Option<Answered<W>> {
        self.partial.count += 1;
        if self.partial.count < shape.replies() {
            return None;
        }
        let Partial { replies, over, .. } = mem::take(&mut self.partial);
        let answer = over.map_or(Ok(Reply::Many(replies)), Err);
        self.pop().map(|entry| (entry.waiter, answer))
    }

    fn pop(&mut self) -> Option<Entry<W>> {
        let entry = self.queue.pop_front()?;
        self.silence.reported = self.silence.reported.saturating_sub(1);
        self.head_offset += entry.bytes as u64;
        Some(entry)
    }

    /// Returns when [`InFlight::expire`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// Takes out the waiters whose deadline has passed. Their replies are still expected, and dropped when they
    /// arrive.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<W> {
        let mut expired = Vec::new();
        self.next_deadline = None;
        for entry in self.queue.iter_mut().filter(|entry| entry.waiter.is_some()) {
            if entry.deadline.is_some_and(|deadline| deadline <= now) {
                expired.extend(entry.waiter.take());
            } else {
                self.next_deadline = earlier(self.next_deadline, entry.deadline);
            }
        }
        expired
    }

    /// Records progress: a reply or enough of one has arrived, or the server has taken written bytes. Nothing is late
    /// now.
    #[inline]
    pub(crate) fn moved(&mut self, at: Instant) {
        let is_answered = self.silence.uploaded <= self.head_offset;
        self.silence.since = if is_answered { at } else { at.max(self.silence.since) };
        self.silence.reported = 0;
    }

    /// Records that a slow upload, up to this offset, may be in transit until then: silence is counted only from then
    /// on, unless the server answers the whole upload earlier.
    pub(crate) fn uploaded(&mut self, until: Instant, offset: u64) {
        self.silence.since = until;
        self.silence.uploaded = offset;
    }

    /// Returns when the next request is late if there is no progress until then. `None` if no reply is expected, or
    /// if the request at the head may block forever.
    pub(crate) fn late_at(&self) -> Option<Instant> {
        let (head, next) = (self.queue.front()?, self.queue.get(self.silence.reported)?);
        // Requests behind a blocking command have to wait for it.
        head.silence_limit.max(next.silence_limit).after(next.since.max(self.silence.since))
    }

    /// Returns the waiters of all requests that have become late, each once until there is progress. They may
    /// continue to wait: their replies may still arrive.
    pub(crate) fn late(&mut self, now: Instant) -> Vec<&W> {
        let before = self.silence.reported;
        while self.late_at().is_some_and(|at| at <= now) {
            self.silence.reported += 1;
        }
        self.queue.range(before..self.silence.reported).filter_map(|entry| entry.waiter.as_ref()).collect()
    }

    /// Frees the memory that a burst has taken; the queue is empty.
    pub(crate) fn give_back(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// Empties the queue. Returns what became of each request when `written` bytes of the stream had been given to
    /// the socket.
    pub(crate) fn settle(&mut self, written: u64) -> Vec<(W, Outcome)> {
        let mut settled = Vec::with_capacity(self.queue.len());
        loop {
            let start = self.head_offset;
            let Some(entry) = self.pop() else { return settled };
            let complete = self.head_offset <= written;
            // The server runs neither an incomplete command nor a transaction without its EXEC.
            let begun = matches!(entry.shape, Shape::Many(_)) && start < written;
            let outcome = if complete || begun { Outcome::MaybeApplied } else { Outcome::NotSent };
            settled.extend(entry.waiter.map(|waiter| (waiter, outcome)));
        }
    }
}

/// The replies of an incomplete answer may be large.
impl<W> Drop for InFlight<W> {
    fn drop(&mut self) {
        drop_values(mem::take(&mut self.partial.replies));
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn request(waiter: u32, shape: Shape, limit: Option<Duration>) -> Request<u32> {
        Request { waiter, shape, bytes: 10, bound: ReplyBound { within: limit, by: None } }
    }

    #[test]
    fn replies_in_order_of_requests() {
        let now = Instant::now();
        let mut queue = InFlight::new(Instant::now());
        queue.push(request(1, Shape::One, None), now);
        queue.push(request(2, Shape::Many(2), None), now);
        assert_eq!(queue.on_value(Value::Int(1)), Ok(Some((Some(1), Ok(Reply::One(Value::Int(1)))))));
        assert_eq!(queue.on_value(Value::Int(2)), Ok(None));
        let both = Reply::Many(vec![Value::Int(2), Value::Int(3)]);
        assert_eq!(queue.on_value(Value::Int(3)), Ok(Some((Some(2), Ok(both)))));
        assert_eq!(queue.on_value(Value::Okay), Err(Unsolicited));
    }

    fn by(waiter: u32, deadline: Instant) -> Request<u32> {
        let bound = ReplyBound { within: Some(SECOND), by: Some(deadline) };
        Request { waiter, shape: Shape::One, bytes: 10, bound }
    }

    #[test]
    fn skipped_reply_affects_its_request_only() {
        let now = Instant::now();
        let mut queue = InFlight::new(now);
        queue.push(request(1, Shape::One, None), now);
        queue.push(request(2, Shape::Many(3), None), now);
        queue.push(request(3, Shape::Many(2), None), now);
        queue.push(request(4, Shape::Many(2), None), now);
        let over = OverLimit::Bytes(1);
        assert_eq!(queue.on_skipped(Some(over)), Ok(Some((Some(1), Err(over)))));
        assert!(queue.is_awaited(|waiter| *waiter == 2) && !queue.is_awaited(|_| false));
        assert_eq!(queue.on_value(Value::Int(1)), Ok(None));
        assert_eq!(queue.on_skipped(Some(over)), Ok(None));
        assert!(!queue.is_awaited(|_| true), "the rest is not needed");
        assert_eq!(queue.on_value(Value::Int(3)), Ok(Some((Some(2), Err(over)))));
        // Nobody waits any longer.
        assert_eq!(queue.on_value(Value::Int(1)), Ok(None));
        assert!(matches!(queue.on_skipped(None), Ok(Some((None, _)))));
        let both = Reply::Many(vec![Value::Int(1), Value::Int(2)]);
        assert_eq!(queue.on_value(Value::Int(1)), Ok(None));
        assert_eq!(queue.on_value(Value::Int(2)), Ok(Some((Some(4), Ok(both)))));
        assert_eq!(queue.on_skipped(None), Err(Unsolicited));
    }

    #[test]
    fn expired_requests_keep_reply_order() {
        let start = Instant::now();
        let mut queue = InFlight::new(start);
        queue.push(by(1, start + 5 * SECOND), start);
        queue.push(by(2, start + SECOND), start);
        queue.push(request(3, Shape::One, None), start);
        assert_eq!(queue.next_deadline(), Some(start + SECOND));
        assert_eq!(queue.expire(start + SECOND), vec![2]);
        assert_eq!(queue.next_deadline(), Some(start + 5 * SECOND));
        queue.on_value(Value::Int(1)).unwrap();
        assert_eq!(queue.on_value(Value::Int(2)), Ok(Some((None, Ok(Reply::One(Value::Int(2)))))));
        assert_eq!(queue.on_value(Value::Int(3)), Ok(Some((Some(3), Ok(Reply::One(Value::Int(3)))))));
    }

    #[test]
    fn requests_late_without_progress() {
        let start = Instant::now();
        let at = |seconds: u32| start + seconds * SECOND;
        let mut queue = InFlight::new(start);
        assert_eq!(queue.late_at(), None, "no reply is expected");
        queue.push(request(1, Shape::One, Some(5 * SECOND)), start);
        queue.push(request(2, Shape::One, Some(5 * SECOND)), at(2));
        assert_eq!(queue.late_at(), Some(at(5)));
        queue.moved(at(3));
        assert_eq!(queue.late_at(), Some(at(8)), "both wait for progress");
        assert_eq!(queue.late(at(7)), Vec::<&u32>::new());
        queue.push(request(3, Shape::One, Some(5 * SECOND)), at(7));
        assert_eq!(queue.late(at(8)), [&1, &2]);
        assert_eq!(queue.late(at(8)), Vec::<&u32>::new(), "each is reported once");
        assert_eq!(queue.late_at(), Some(at(12)));
        queue.on_value(Value::Okay).unwrap();
        queue.moved(at(9));
        assert_eq!(queue.late(at(14)), [&2, &3], "a second silence is reported again");
    }

    #[test]
    fn slow_upload_delays_silence() {
        let start = Instant::now();
        let at = |seconds: u32| start + seconds * SECOND;
        let mut queue = InFlight::new(start);
        queue.push(request(1, Shape::One, Some(5 * SECOND)), start);
        queue.push(request(2, Shape::One, Some(5 * SECOND)), start);
        queue.moved(at(12));
        queue.uploaded(at(24), 20);
        assert_eq!(queue.late_at(), Some(at(29)));
        queue.on_value(Value::Okay).unwrap();
        queue.moved(at(13));
        assert_eq!(queue.late_at(), Some(at(29)), "the upload itself is not answered");
        queue.on_value(Value::Okay).unwrap();
        queue.moved(at(14));
        queue.push(request(3, Shape::One, Some(5 * SECOND)), at(14));
        assert_eq!(queue.late_at(), Some(at(19)));
    }

    #[test]
    fn requests_behind_blocking_command_are_not_late() {
        let start = Instant::now();
        let mut queue = InFlight::new(start);
        queue.push(request(1, Shape::One, Some(60 * SECOND)), start);
        queue.push(request(2, Shape::One, Some(5 * SECOND)), start);
        assert_eq!(queue.late_at(), Some(start + 60 * SECOND));
        let mut queue = InFlight::new(start);
        queue.push(request(1, Shape::One, None), start);
        queue.push(request(2, Shape::One, Some(SECOND)), start);
        assert_eq!(queue.late_at(), None, "even forever");
    }

    #[test]
    fn fully_written_request_may_be_applied() {
        let now = Instant::now();
        let outcomes = |written: u64| {
            let mut queue = InFlight::new(Instant::now());
            queue.push(request(0, Shape::One, None), now);
            queue.on_value(Value::Okay).unwrap();
            queue.push(request(1, Shape::One, None), now);
            queue.push(request(2, Shape::Many(2), None), now);
            queue.push(request(3, Shape::Atomic(4), None), now);
            queue.settle(written).into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>()
        };
        use Outcome::{MaybeApplied, NotSent};
        assert_eq!(outcomes(10), [NotSent, NotSent, NotSent]);
        assert_eq!(outcomes(19), [NotSent, NotSent, NotSent], "half a command does not run");
        assert_eq!(outcomes(20), [MaybeApplied, NotSent, NotSent]);
        assert_eq!(outcomes(21), [MaybeApplied, MaybeApplied, NotSent], "half a pipeline runs");
        assert_eq!(outcomes(39), [MaybeApplied, MaybeApplied, NotSent], "half a transaction does not run");
        assert_eq!(outcomes(40), [MaybeApplied, MaybeApplied, MaybeApplied]);
    }
}
