//! Reading from the server: replies for callers, and what nobody waits for.

use std::io;
use std::task::{Context, Poll, ready};

use super::{Driver, MAX_GRACE, MOVEMENT, is_awaited};
use crate::coop_budget::Decoded;
use crate::error::{Error, Kind, Outcome};
use crate::proto::{DecodeError, Incoming, OverLimit, Reply, Skipped};

impl Driver {
    /// Reads, unless bytes of the last read are left, and hands out replies. Returns how many requests were answered.
    pub(super) fn read(&mut self, cx: &mut Context<'_>, share: usize) -> Poll<Result<usize, Error>> {
        if self.reader.is_empty() {
            // A busy connection may never poll its timer. Deadlines before the last read have passed for certain; replies
            // to later ones may be in the next read, if this process was suspended.
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
        // Undecoded bytes may be pushes, which are no sign of life.
        let moved = self.moved.saturating_sub(self.reader.unread());
        if answered.as_ref().is_ok_and(|answered| *answered > 0) || moved >= MOVEMENT {
            self.on_movement(self.alive_at);
        }
        Poll::Ready(answered)
    }

    /// Completes the slots of callers with the replies that were read, at most `share` of them.
    pub(super) fn hand_out(&mut self, share: usize) -> Result<usize, Error> {
        const UNASKED: &str = "the server sent a reply without a request";
        let mut answered = 0;
        while answered < share && !self.coop_budget.is_spent() {
            // Nobody wants pushes, or the reply to a cancelled call.
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
                    // The common case: a request with one reply.
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
                    self.skipping_since = None;
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

    /// Returns true if nothing was written that a reply could answer. Requests in flight may not be written yet.
    pub(super) fn is_unasked(&self) -> bool {
        self.written <= self.in_flight.head_offset()
    }

    /// Hands out all replies that were read, at the end of the connection.
    pub(super) fn hand_out_rest(&mut self) {
        loop {
            self.coop_budget.refill();
            let ended = self.hand_out(usize::MAX).is_err();
            if ended || self.reader.is_empty() {
                return;
            }
        }
    }

    /// The decoded bytes belong to a push: no sign of life.
    fn on_push(&mut self, decoded: Decoded) {
        self.moved = self.moved.saturating_sub(decoded.bytes);
        self.coop_budget.spend_value();
    }

    /// The decoded bytes belong to a skipped reply. They count as a sign of life for a while, since a large reply takes
    /// time, but not for ever, since it may never end.
    fn on_read_over(&mut self, decoded: Decoded) {
        self.coop_budget.spend_value();
        let since = *self.skipping_since.get_or_insert(self.alive_at);
        if since + MAX_GRACE * self.timeouts.value().reply < self.alive_at {
            self.moved = self.moved.saturating_sub(decoded.bytes);
        }
    }

    pub(super) fn too_large(&self, over: OverLimit) -> Error {
        let message = format!("the reply of {} was skipped: {over}", self.link.address);
        Error::new(Kind::ReplyTooLarge, message).with_outcome(Outcome::Ran)
    }
}
