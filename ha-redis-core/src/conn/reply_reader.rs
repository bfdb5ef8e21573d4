//! What was read from a connection and is not decoded yet.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use redis::Value;

use crate::coop_budget::Decoded;
use crate::proto::{DecodeError, Decoder, Incoming, Limits};
use crate::runtime::Transport;

/// How large the buffer is at first, and at most on a connection whose reads fill it.
const SMALLEST: usize = 4 << 10;
const LARGEST: usize = 64 << 10;
/// So many bytes of a list are decoded at once. They may be three thousand values, which take a tenth of a millisecond.
const PIECE: usize = 8 << 10;

/// The read buffer of a connection, the part of it that is still to be decoded, and the decoder.
///
/// The three move together, so that no value is ever decoded twice, or from bytes that are not there any more.
pub(crate) struct ReplyReader {
    buffer: Vec<u8>,
    /// Where in the buffer stands what has come and is not decoded yet.
    unread: Range<usize>,
    decoder: Decoder,
    /// How many bytes the last [`ReplyReader::next`] took.
    taken: usize,
}

impl ReplyReader {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { buffer: vec![0; SMALLEST], unread: 0..0, decoder: Decoder::with_limits(limits), taken: 0 }
    }

    /// From here on, between two values, replies may be as large as these limits allow.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.decoder.set_limits(limits);
    }

    /// The next value, if all of it has been read. Its bytes are left behind before it is returned, whatever the
    /// caller does with it. One that is not `wanted` may be read over; see [`Decoder::decode_wanted`].
    ///
    /// `None` while the reader is not [empty](ReplyReader::is_empty): a piece of a large value was decoded, and the next
    /// call goes on with it.
    #[inline]
    pub(crate) fn next(&mut self, wanted: &dyn Fn(Incoming) -> bool) -> Result<Option<Value>, DecodeError> {
        let unread = &self.buffer[self.unread.clone()];
        let mut bytes = if unread.len() <= PIECE { unread } else { self.piece_of(unread) };
        let before = bytes.len();
        let value = self.decoder.decode_wanted(&mut bytes, wanted);
        self.taken = before - bytes.len();
        self.unread.start += self.taken;
        value
    }

    /// What of it is decoded at once: of a string, or many small values, all that there is.
    fn piece_of<'a>(&self, unread: &'a [u8]) -> &'a [u8] {
        let is_list = !self.decoder.is_idle() || matches!(unread[0], b'*' | b'%' | b'~' | b'|' | b'>');
        if is_list { &unread[..PIECE] } else { unread }
    }

    /// What the last [`ReplyReader::next`] took.
    #[inline]
    pub(crate) fn decoded(&mut self) -> Decoded {
        Decoded { bytes: self.taken, parts: self.decoder.take_parts() }
    }

    /// How many bytes have been read and not decoded.
    #[inline]
    pub(crate) fn unread(&self) -> usize {
        self.unread.len()
    }

    /// The values to come answer another request than those before.
    #[inline]
    pub(crate) fn begin_answer(&mut self) {
        self.decoder.begin_answer();
    }

    /// What has begun and is not complete.
    pub(crate) fn half_read(&self) -> Option<Incoming> {
        self.decoder.half_read()
    }

    /// Whether everything that was read has been decoded.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }

    /// Whether nothing is left of what was read, and no value is half decoded.
    pub(crate) fn is_between_values(&self) -> bool {
        self.unread.is_empty() && self.decoder.is_idle()
    }

    /// Reads once; 0 is the end of the stream. Everything read before must have been decoded.
    pub(crate) fn poll_read(
        &mut self,
        transport: &mut dyn Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.unread.is_empty(), "a read would overwrite what is still to be decoded");
        if self.unread.end == self.buffer.len() && self.buffer.len() < LARGEST {
            // The last read filled it, so there is more to come.
            self.buffer = vec![0; 4 * self.buffer.len()];
        }
        self.unread = 0..0;
        let read = ready!(transport.poll_read(cx, &mut self.buffer))?;
        self.unread = 0..read;
        Poll::Ready(Ok(read))
    }

    /// Gives back the memory that a burst has grown. What is still to be decoded stays.
    pub(crate) fn shrink(&mut self) {
        if self.unread.is_empty() && self.buffer.len() > SMALLEST {
            (self.buffer, self.unread) = (vec![0; SMALLEST], 0..0);
        }
    }
}
