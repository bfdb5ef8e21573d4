//! What comes from the server: replies, for those who wait for them, and what nobody waits for.

use std::io;
use std::task::{Context, Poll, ready};

use super::{Driver, MAX_GRACE, MOVEMENT, is_awaited};
use crate::coop_budget::Decoded;
use crate::error::{Error, Kind, Outcome};
use crate::proto::{DecodeError, Incoming, OverLimit, Reply, Skipped};

impl Driver {
    /// Hands out what has come, after a read if nothing is left of the last one; how many requests were answered.
    pub(super) fn read(&mut self, cx: &mut Context<'_>, share: usize) -> Poll<Result<usize, Error>> {
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

    /// Gives the replies that have come to those who wait for them, at most so many.
    pub(super) fn hand_out(&mut self, share: usize) -> Result<usize, Error> {
        const UNASKED: &str = "it sent a reply that nothing asked for";
        let mut answered = 0;
        while answered < share && !self.coop_budget.is_spent() {
            // Pushes are nobody's, and nor is the reply to a caller who has gone.
            let in_flight = &self.in_flight;
            let wanted = |incoming| incoming == Incoming::Reply && in_flight.is_awaited(is_awaited);
            let next = self.reader.next(&wanted);
            let decoded = self.reader.decoded();
            self.coop_budget.spend_decoded(decoded);
            let progress = match next {
                Ok(None) => match self.reader.half_read() {
                    Some(Incoming::Reply) if self.is_unasked() => return Err(self.broken(UNASKED)),
                    Some(Incoming::Push) => {
                        self.on_push(decoded);
                        break;
                    }
                    Some(Incoming::Reply) if !wanted(Incoming::Reply) => {
                        self.on_read_over(decoded);
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
                    self.on_push(decoded);
                    continue;
                }
                Err(DecodeError::Skipped(_)) if self.is_unasked() => return Err(self.broken(UNASKED)),
                Err(DecodeError::Skipped(Skipped { over, .. })) => {
                    self.on_read_over(decoded);
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
    pub(super) fn is_unasked(&self) -> bool {
        self.written <= self.in_flight.head_offset()
    }

    /// Gives out all replies that have come, at the end of the connection.
    pub(super) fn hand_out_rest(&mut self) {
        loop {
            self.coop_budget.refill();
            let ended = self.hand_out(usize::MAX).is_err();
            if ended || self.reader.is_empty() {
                return;
            }
        }
    }

    /// What has been decoded belongs to a push. Nobody waits for it.
    fn on_push(&mut self, decoded: Decoded) {
        self.moved = self.moved.saturating_sub(decoded.bytes);
        self.coop_budget.spend_value();
    }

    /// What has been decoded belongs to a reply that nobody gets. For a while it counts as life,
    /// since a large one may take its time; but it may never end.
    fn on_read_over(&mut self, decoded: Decoded) {
        self.coop_budget.spend_value();
        let since = *self.read_over_since.get_or_insert(self.alive_at);
        if since + MAX_GRACE * self.timeouts.reply < self.alive_at {
            self.moved = self.moved.saturating_sub(decoded.bytes);
        }
    }

    pub(super) fn too_large(&self, over: OverLimit) -> Error {
        let message = format!("the reply of {} was read over: {over}", self.link.address);
        Error::new(Kind::ReplyTooLarge, message).with_outcome(Outcome::Ran)
    }
}
