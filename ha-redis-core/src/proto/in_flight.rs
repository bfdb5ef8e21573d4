//! Which reply belongs to which command, and how long each may take.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use redis::Value;

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
    /// How long after the request reaches the connection; `None` for a command that blocks for ever.
    pub(crate) within: Option<Duration>,
    /// The deadline of the whole call.
    pub(crate) by: Option<Instant>,
}

/// The requests that a connection owes a reply, in the order in which they were written.
#[derive(Debug)]
pub(crate) struct InFlight<W> {
    queue: VecDeque<Entry<W>>,
    /// The replies so far of the request at the head of the queue.
    partial: Vec<Value>,
    /// The offset in the stream of written bytes at which the request at the head begins.
    head_offset: u64,
    /// No entry expires before this. Entries that leave the queue do not move it, so it may lie too early.
    next_expiry: Option<Instant>,
}

#[derive(Debug)]
struct Entry<W> {
    /// `None` once the waiter has been told that its time is over.
    waiter: Option<W>,
    shape: Shape,
    bytes: usize,
    since: Instant,
    expires: Option<Instant>,
}

/// A reply that nothing asked for.
#[derive(Debug, PartialEq)]
pub(crate) struct Unsolicited;

impl<W> InFlight<W> {
    pub(crate) fn new() -> Self {
        Self { queue: VecDeque::new(), partial: Vec::new(), head_offset: 0, next_expiry: None }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes a request whose bytes follow those of the requests before it.
    pub(crate) fn push(&mut self, request: Request<W>, now: Instant) {
        let Request { waiter, shape, bytes, bound } = request;
        let expires = earlier(bound.within.and_then(|within| now.checked_add(within)), bound.by);
        self.next_expiry = earlier(self.next_expiry, expires);
        self.queue.push_back(Entry { waiter: Some(waiter), shape, bytes, since: now, expires });
    }

    /// Hands on the next value from the server. `Ok(Some(..))` says that a request is answered; its waiter is
    /// `None` when it does not wait any more.
    #[inline]
    pub(crate) fn on_value(&mut self, value: Value) -> Result<Option<(Option<W>, Reply)>, Unsolicited> {
        let shape = self.queue.front().ok_or(Unsolicited)?.shape;
        let reply = if shape == Shape::One {
            Reply::One(value)
        } else {
            if self.partial.is_empty() {
                // What was asked for is in memory many times over: this room is no risk.
                self.partial.reserve_exact(shape.replies() as usize);
            }
            self.partial.push(value);
            if self.partial.len() < shape.replies() as usize {
                return Ok(None);
            }
            Reply::Many(std::mem::take(&mut self.partial))
        };
        Ok(self.pop().map(|entry| (entry.waiter, reply)))
    }

    fn pop(&mut self) -> Option<Entry<W>> {
        let entry = self.queue.pop_front()?;
        self.head_offset += entry.bytes as u64;
        Some(entry)
    }

    /// When [`InFlight::expire`] is due.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry
    }

    /// The waiters whose time is over. Their replies are still owed, and dropped when they come.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<W> {
        let mut expired = Vec::new();
        self.next_expiry = None;
        for entry in self.queue.iter_mut().filter(|entry| entry.waiter.is_some()) {
            if entry.expires.is_some_and(|expires| expires <= now) {
                expired.extend(entry.waiter.take());
            } else {
                self.next_expiry = earlier(self.next_expiry, entry.expires);
            }
        }
        expired
    }

    /// When a server that shows no sign of life after `alive_at` is to be taken for dead: it owes a reply, and
    /// has been silent for `patience`, or for the longer time that the command allows. `None` when it owes
    /// nothing, or may let the command wait for ever.
    pub(crate) fn dead_at(&self, alive_at: Instant, patience: Duration) -> Option<Instant> {
        let head = self.queue.front()?;
        Some((head.since.max(alive_at) + patience).max(head.expires?))
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
        let mut queue = InFlight::new();
        queue.push(request(1, Shape::One, None), now);
        queue.push(request(2, Shape::Many(2), None), now);
        assert_eq!(queue.on_value(Value::Int(1)), Ok(Some((Some(1), Reply::One(Value::Int(1))))));
        assert_eq!(queue.on_value(Value::Int(2)), Ok(None));
        let both = Reply::Many(vec![Value::Int(2), Value::Int(3)]);
        assert_eq!(queue.on_value(Value::Int(3)), Ok(Some((Some(2), both))));
        assert_eq!(queue.on_value(Value::Okay), Err(Unsolicited));
    }

    #[test]
    fn limits_of_any_order_are_kept_and_late_replies_stay_in_step() {
        let start = Instant::now();
        let mut queue = InFlight::new();
        queue.push(request(1, Shape::One, Some(5 * SECOND)), start);
        queue.push(request(2, Shape::One, Some(SECOND)), start);
        queue.push(request(3, Shape::One, None), start);
        assert_eq!(queue.next_expiry(), Some(start + SECOND));
        assert_eq!(queue.expire(start + SECOND), vec![2]);
        assert_eq!(queue.next_expiry(), Some(start + 5 * SECOND));
        queue.on_value(Value::Int(1)).unwrap();
        assert_eq!(queue.on_value(Value::Int(2)), Ok(Some((None, Reply::One(Value::Int(2))))));
        assert_eq!(queue.on_value(Value::Int(3)), Ok(Some((Some(3), Reply::One(Value::Int(3))))));
    }

    #[test]
    fn the_deadline_of_a_call_counts_from_before_it_reached_the_connection() {
        let start = Instant::now();
        let mut queue = InFlight::new();
        let bound = ReplyBound { within: Some(5 * SECOND), by: Some(start + 2 * SECOND) };
        queue.push(Request { waiter: 1, shape: Shape::One, bytes: 10, bound }, start + SECOND);
        assert_eq!(queue.next_expiry(), Some(start + 2 * SECOND));
    }

    #[test]
    fn a_silent_server_is_dead_when_it_owes_what_it_should_have_sent() {
        let start = Instant::now();
        let dead_at = |limit: Option<Duration>, alive_at: Instant| {
            let mut queue = InFlight::new();
            queue.push(request(1, Shape::One, limit), start);
            queue.dead_at(alive_at, 5 * SECOND)
        };
        assert_eq!(InFlight::<u32>::new().dead_at(start, SECOND), None, "it owes nothing");
        assert_eq!(dead_at(Some(5 * SECOND), start), Some(start + 5 * SECOND));
        assert_eq!(dead_at(Some(SECOND), start), Some(start + 5 * SECOND), "a caller's hurry kills nobody");
        assert_eq!(dead_at(Some(5 * SECOND), start + SECOND), Some(start + 6 * SECOND));
        assert_eq!(dead_at(Some(60 * SECOND), start), Some(start + 60 * SECOND), "it may let it wait");
        assert_eq!(dead_at(None, start), None, "even for ever");
    }

    #[test]
    fn what_was_written_whole_may_have_been_applied() {
        let now = Instant::now();
        let outcomes = |written: u64| {
            let mut queue = InFlight::new();
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
