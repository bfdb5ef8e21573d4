//! Which reply belongs to which command, and how long each may take.
//!
//! There are two bounds. The *deadline* of a call is a point in time at which its caller waits no more. A request is
//! *late* when nothing has moved on its connection for as long as the server may keep silent: a large value that takes
//! its time is not late, nor is what waits behind it.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use redis::Value;

use super::OverLimit;
use crate::background_drop::drop_values;
use crate::error::Outcome;

/// How many replies a request is answered with.
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

/// The whole answer to a request.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    One(Value),
    Many(Vec<Value>),
}

/// A request on its way to the server. `W` is whoever waits for it.
#[derive(Debug)]
pub(crate) struct Request<W> {
    pub(crate) waiter: W,
    pub(crate) shape: Shape,
    /// Its encoded length.
    pub(crate) bytes: usize,
    pub(crate) bound: ReplyBound,
}

/// When a reply must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplyBound {
    /// How long the server may keep silent about it; `None` for a command that blocks for ever.
    pub(crate) within: Option<Duration>,
    /// The deadline of the whole call.
    pub(crate) by: Option<Instant>,
}

/// Who waited for an answer, unless it waits no more, and the answer: the whole of it, or the limit that it is over.
pub(crate) type Answered<W> = (Option<W>, Result<Reply, OverLimit>);

/// The requests that a connection owes a reply, in the order in which they were written.
#[derive(Debug)]
pub(crate) struct InFlight<W> {
    queue: VecDeque<Entry<W>>,
    /// What has come of the answer to the request at the head of the queue.
    partial: Partial,
    /// The offset in the stream of written bytes at which the request at the head begins.
    head_offset: u64,
    /// No deadline lies before this. Entries that leave the queue do not move it, so it may lie too early.
    next_deadline: Option<Instant>,
    silence: Silence,
}

#[derive(Debug)]
struct Entry<W> {
    /// `None` once the waiter has been told that its time is over.
    waiter: Option<W>,
    shape: Shape,
    patience: Patience,
    bytes: usize,
    since: Instant,
    deadline: Option<Instant>,
}

/// Since when nothing has moved on the connection, and who knows of it.
#[derive(Debug)]
struct Silence {
    since: Instant,
    /// Until the request that ends at this offset is answered, `since` may lie ahead.
    uploaded: u64,
    /// How many requests at the head of the queue have been told that they are late.
    told: usize,
}

/// How long a server may keep silent about a request, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Patience(u32);

impl Patience {
    const ENDLESS: Self = Self(u32::MAX);

    fn new(within: Option<Duration>) -> Self {
        let millis = within.and_then(|within| u32::try_from(within.as_millis()).ok());
        millis.map_or(Self::ENDLESS, Self)
    }

    fn after(self, instant: Instant) -> Option<Instant> {
        (self != Self::ENDLESS).then(|| instant + Duration::from_millis(self.0.into()))
    }
}

/// A part of the answer to a request that is answered with several replies.
#[derive(Debug, Default)]
struct Partial {
    /// How many replies have come.
    come: u32,
    /// Those replies, unless they are not to be handed on.
    replies: Vec<Value>,
    over: Option<OverLimit>,
}

/// A reply that nothing asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Unsolicited;

impl<W> InFlight<W> {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            partial: Partial::default(),
            head_offset: 0,
            next_deadline: None,
            silence: Silence { since: now, uploaded: 0, told: 0 },
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The offset in the stream of written bytes at which the next request to be answered begins.
    pub(crate) fn head_offset(&self) -> u64 {
        self.head_offset
    }

    /// Takes a request whose bytes follow those of the requests before it.
    pub(crate) fn push(&mut self, request: Request<W>, now: Instant) {
        let Request { waiter, shape, bytes, bound } = request;
        self.next_deadline = earlier(self.next_deadline, bound.by);
        let patience = Patience::new(bound.within);
        let entry = Entry { waiter: Some(waiter), shape, patience, bytes, since: now, deadline: bound.by };
        self.queue.push_back(entry);
    }

    /// Whether anybody waits for the next reply. `is_there` says of a waiter whether it has not gone.
    pub(crate) fn is_awaited(&self, is_there: impl Fn(&W) -> bool) -> bool {
        let waiter = self.queue.front().and_then(|entry| entry.waiter.as_ref());
        self.partial.over.is_none() && waiter.is_some_and(is_there)
    }

    /// The request at the head, if one reply is all of its answer. Whoever waited for it, if it waits still.
    #[inline]
    pub(crate) fn pop_single(&mut self) -> Option<Option<W>> {
        let is_single = self.queue.front().is_some_and(|entry| entry.shape == Shape::One);
        if is_single { self.pop().map(|entry| entry.waiter) } else { None }
    }

    /// Hands on the next reply from the server. `Ok(Some(..))` says that a request is answered.
    #[inline]
    pub(crate) fn on_value(&mut self, value: Value) -> Result<Option<Answered<W>>, Unsolicited> {
        let shape = self.queue.front().ok_or(Unsolicited)?.shape;
        if shape == Shape::One {
            return Ok(self.pop().map(|entry| (entry.waiter, Ok(Reply::One(value)))));
        }
        if self.is_awaited(|_| true) {
            if self.partial.replies.is_empty() {
                // What was asked for is in memory many times over: this room is no risk.
                self.partial.replies.reserve_exact(shape.replies() as usize);
            }
            self.partial.replies.push(value);
        }
        Ok(self.on_part(shape))
    }

    /// The next reply from the server was read over: it is over a limit, or nobody waits for it.
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

    /// One reply more has come of those that answer the request at the head.
    fn on_part(&mut self, shape: Shape) -> Option<Answered<W>> {
        self.partial.come += 1;
        if self.partial.come < shape.replies() {
            return None;
        }
        let Partial { replies, over, .. } = mem::take(&mut self.partial);
        let answer = over.map_or(Ok(Reply::Many(replies)), Err);
        self.pop().map(|entry| (entry.waiter, answer))
    }

    fn pop(&mut self) -> Option<Entry<W>> {
        let entry = self.queue.pop_front()?;
        self.silence.told = self.silence.told.saturating_sub(1);
        self.head_offset += entry.bytes as u64;
        Some(entry)
    }

    /// When [`InFlight::expire`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// The waiters whose deadline has come. Their replies are still owed, and dropped when they come.
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

    /// A reply has come, or enough of one, or the server has taken what was written: nothing is late now.
    #[inline]
    pub(crate) fn moved(&mut self, at: Instant) {
        let is_answered = self.silence.uploaded <= self.head_offset;
        self.silence.since = if is_answered { at } else { at.max(self.silence.since) };
        self.silence.told = 0;
    }

    /// What took long to write, up to this offset, may be under way until then: the server's silence begins no earlier,
    /// unless it answers all that.
    pub(crate) fn uploaded(&mut self, until: Instant, offset: u64) {
        self.silence.since = until;
        self.silence.uploaded = offset;
    }

    /// When the next request is late, if nothing moves until then. `None` when nothing is owed, or what is at the head
    /// may block for ever.
    pub(crate) fn late_at(&self) -> Option<Instant> {
        let (head, next) = (self.queue.front()?, self.queue.get(self.silence.told)?);
        // What stands behind a command that blocks has to wait for it.
        head.patience.max(next.patience).after(next.since.max(self.silence.since))
    }

    /// The waiters of all requests that have become late, each once until something moves again. They may go on
    /// waiting: their replies may still come.
    pub(crate) fn late(&mut self, now: Instant) -> Vec<&W> {
        let before = self.silence.told;
        while self.late_at().is_some_and(|at| at <= now) {
            self.silence.told += 1;
        }
        self.queue.range(before..self.silence.told).filter_map(|entry| entry.waiter.as_ref()).collect()
    }

    /// Gives back the memory that a burst has grown; the queue is empty.
    pub(crate) fn give_back(&mut self) {
        self.queue.shrink_to_fit();
    }

    /// Ends the queue: what became of each request when `written` bytes of the stream had been given to the
    /// socket.
    pub(crate) fn settle(&mut self, written: u64) -> Vec<(W, Outcome)> {
        let mut settled = Vec::with_capacity(self.queue.len());
        loop {
            let start = self.head_offset;
            let Some(entry) = self.pop() else { return settled };
            let complete = self.head_offset <= written;
            // The server runs nothing of a command it has half, nor of a transaction without its EXEC.
            let begun = matches!(entry.shape, Shape::Many(_)) && start < written;
            let outcome = if complete || begun { Outcome::MaybeApplied } else { Outcome::NotSent };
            settled.extend(entry.waiter.map(|waiter| (waiter, outcome)));
        }
    }
}

/// What has come of an answer that will not be complete may be large.
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
    fn replies_go_to_their_requests_in_order() {
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
    fn a_reply_that_was_read_over_is_its_requests_own_matter() {
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
        assert!(!queue.is_awaited(|_| true), "nothing of the rest is needed");
        assert_eq!(queue.on_value(Value::Int(3)), Ok(Some((Some(2), Err(over)))));
        // Nobody waits any more.
        assert_eq!(queue.on_value(Value::Int(1)), Ok(None));
        assert!(matches!(queue.on_skipped(None), Ok(Some((None, _)))));
        let both = Reply::Many(vec![Value::Int(1), Value::Int(2)]);
        assert_eq!(queue.on_value(Value::Int(1)), Ok(None));
        assert_eq!(queue.on_value(Value::Int(2)), Ok(Some((Some(4), Ok(both)))));
        assert_eq!(queue.on_skipped(None), Err(Unsolicited));
    }

    #[test]
    fn deadlines_in_any_order_are_kept_and_their_replies_stay_in_step() {
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
    fn requests_are_late_when_nothing_moves() {
        let start = Instant::now();
        let at = |seconds: u32| start + seconds * SECOND;
        let mut queue = InFlight::new(start);
        assert_eq!(queue.late_at(), None, "nothing is owed");
        queue.push(request(1, Shape::One, Some(5 * SECOND)), start);
        queue.push(request(2, Shape::One, Some(5 * SECOND)), at(2));
        assert_eq!(queue.late_at(), Some(at(5)));
        queue.moved(at(3));
        assert_eq!(queue.late_at(), Some(at(8)), "both wait for what moves");
        assert_eq!(queue.late(at(7)), Vec::<&u32>::new());
        queue.push(request(3, Shape::One, Some(5 * SECOND)), at(7));
        assert_eq!(queue.late(at(8)), [&1, &2]);
        assert_eq!(queue.late(at(8)), Vec::<&u32>::new(), "each is told once");
        assert_eq!(queue.late_at(), Some(at(12)));
        queue.on_value(Value::Okay).unwrap();
        queue.moved(at(9));
        assert_eq!(queue.late(at(14)), [&2, &3], "a second silence is told anew");
    }

    #[test]
    fn slow_upload_has_as_long_again_until_it_is_answered() {
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
    fn requests_behind_a_blocking_command_wait_for_it() {
        let start = Instant::now();
        let mut queue = InFlight::new(start);
        queue.push(request(1, Shape::One, Some(60 * SECOND)), start);
        queue.push(request(2, Shape::One, Some(5 * SECOND)), start);
        assert_eq!(queue.late_at(), Some(start + 60 * SECOND));
        let mut queue = InFlight::new(start);
        queue.push(request(1, Shape::One, None), start);
        queue.push(request(2, Shape::One, Some(SECOND)), start);
        assert_eq!(queue.late_at(), None, "even for ever");
    }

    #[test]
    fn what_was_written_whole_may_have_been_applied() {
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
        assert_eq!(outcomes(19), [NotSent, NotSent, NotSent], "half a command is not run");
        assert_eq!(outcomes(20), [MaybeApplied, NotSent, NotSent]);
        assert_eq!(outcomes(21), [MaybeApplied, MaybeApplied, NotSent], "half a pipeline is");
        assert_eq!(outcomes(39), [MaybeApplied, MaybeApplied, NotSent], "half a transaction is not");
        assert_eq!(outcomes(40), [MaybeApplied, MaybeApplied, MaybeApplied]);
    }
}
