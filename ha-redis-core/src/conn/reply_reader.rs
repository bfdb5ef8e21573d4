//! The read buffer of a connection, and its decoder.

use std::io;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use redis::Value;

use crate::coop_budget::Decoded;
use crate::proto::{DecodeError, Decoder, Incoming, Limits};
use crate::runtime::Transport;

/// The size of the buffer at first, and its maximum on a connection whose reads fill it.
const MIN_BUFFER: usize = 4 << 10;
const MAX_BUFFER: usize = 64 << 10;
/// How many bytes of a list are decoded at once. They may be a thousand values, which take up to half a
/// millisecond.
const MAX_PIECE: usize = 4 << 10;

/// The read buffer of a connection, the range of it that is not decoded, and the decoder.
///
/// The three advance together, so that no value is decoded twice, or from bytes that were overwritten.
pub(crate) struct ReplyReader {
    buffer: Vec<u8>,
    /// The range of the buffer that is not decoded.
    unread: Range<usize>,
    decoder: Decoder,
    /// How many bytes the last [`ReplyReader::next`] took.
    taken: usize,
}

impl ReplyReader {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { buffer: vec![0; MIN_BUFFER], unread: 0..0, decoder: Decoder::with_limits(limits), taken: 0 }
    }

    /// Replaces the limits of replies, between two values.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.decoder.set_limits(limits);
    }

    /// Returns the next value, if all of it has been read. Its bytes are consumed before it is returned, whatever the
    /// caller does with it. A value that is not `wanted` may be skipped; see [`Decoder::decode_wanted`].
    ///
    /// Returns `None` while the reader is not [empty](ReplyReader::is_empty) if a piece of a large value was decoded;
    /// the next call continues with it.
    #[inline]
    pub(crate) fn next(&mut self, wanted: &dyn Fn(Incoming) -> bool) -> Result<Option<Value>, DecodeError> {
        let unread = &self.buffer[self.unread.clone()];
        let mut bytes = if unread.len() <= MAX_PIECE { unread } else { self.piece_of(unread) };
        let before = bytes.len();
        let value = self.decoder.decode_wanted(&mut bytes, wanted);
        self.taken = before - bytes.len();
        self.unread.start += self.taken;
        value
    }

    /// Returns what is decoded at once: all there is of a string or of many small values, a piece of a list.
    fn piece_of<'a>(&self, unread: &'a [u8]) -> &'a [u8] {
        let is_list = !self.decoder.is_idle() || matches!(unread[0], b'*' | b'%' | b'~' | b'|' | b'>');
        if is_list { &unread[..MAX_PIECE] } else { unread }
    }

    /// Returns what the last [`ReplyReader::next`] took.
    #[inline]
    pub(crate) fn decoded(&mut self) -> Decoded {
        Decoded { bytes: self.taken, parts: self.decoder.take_parts() }
    }

    /// Returns how many bytes have been read and not decoded.
    #[inline]
    pub(crate) fn unread(&self) -> usize {
        self.unread.len()
    }

    /// Marks that the following values answer another request.
    #[inline]
    pub(crate) fn begin_answer(&mut self) {
        self.decoder.begin_answer();
    }

    /// Returns the type of the incomplete value.
    pub(crate) fn half_read(&self) -> Option<Incoming> {
        self.decoder.half_read()
    }

    /// Returns true if everything that was read has been decoded.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }

    /// Returns true if everything that was read has been decoded and no value is incomplete.
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
        if self.unread.end == self.buffer.len() && self.buffer.len() < MAX_BUFFER {
            // The last read filled the buffer, so more is likely to come.
            self.buffer = vec![0; 4 * self.buffer.len()];
        }
        self.unread = 0..0;
        let read = ready!(transport.poll_read(cx, &mut self.buffer))?;
        self.unread = 0..read;
        Poll::Ready(Ok(read))
    }

    /// Frees the memory that a burst has taken. Bytes that are not decoded stay.
    pub(crate) fn shrink(&mut self) {
        if self.unread.is_empty() && self.buffer.len() > MIN_BUFFER {
            (self.buffer, self.unread) = (vec![0; MIN_BUFFER], 0..0);
        }
    }
}
