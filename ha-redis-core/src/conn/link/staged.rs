//! The encoded calls that wait for the driver.

use std::collections::VecDeque;
use std::mem;

use crate::conn::link::call::{Call, MAX_SMALL_BYTES};

/// Bytes in the order in which they are written. Small calls are encoded into a common buffer; a large one keeps the
/// buffer into which it was encoded.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// The buffers up to the last large call.
    front: VecDeque<Vec<u8>>,
    front_len: usize,
    tail: Vec<u8>,
}

impl Staged {
    pub(super) fn len(&self) -> usize {
        self.front_len + self.tail.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Encodes a call after the others unless it is large. Returns its length.
    #[inline]
    pub(super) fn encode(&mut self, call: Call<'_>) -> Option<usize> {
        let before = self.tail.len();
        call.encode_small(&mut self.tail).then(|| self.tail.len() - before)
    }

    /// Adds an encoded call. Returns its length.
    pub(super) fn append(&mut self, encoded: Vec<u8>) -> usize {
        let length = encoded.len();
        if length <= MAX_SMALL_BYTES {
            self.tail.extend_from_slice(&encoded);
        } else {
            self.front_len += self.tail.len() + length;
            if !self.tail.is_empty() {
                self.front.push_back(mem::take(&mut self.tail));
            }
            self.front.push_back(encoded);
        }
        length
    }

    /// Returns the first buffer, and `spare`, an empty buffer, if it was not needed as a replacement.
    pub(super) fn take(&mut self, mut spare: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let Some(first) = self.front.pop_front() else {
            return (mem::replace(&mut self.tail, spare), Vec::new());
        };
        self.front_len -= first.len();
        if self.tail.capacity() == 0 {
            mem::swap(&mut self.tail, &mut spare);
        }
        (first, spare)
    }

    /// Removes the bytes of one call, which start at this offset.
    pub(super) fn remove(&mut self, mut at: usize, length: usize) {
        for index in 0..self.front.len() {
            let buffer = &mut self.front[index];
            if at < buffer.len() {
                buffer.drain(at..at + length);
                self.front_len -= length;
                if buffer.is_empty() {
                    self.front.remove(index);
                }
                return;
            }
            at -= buffer.len();
        }
        self.tail.drain(at..at + length);
    }

    /// Frees the memory that a burst has taken.
    pub(super) fn shrink(&mut self) {
        self.front.shrink_to_fit();
        self.tail.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(length: usize) -> redis::Cmd {
        redis::cmd("SET").arg("key").arg(vec![b'x'; length]).take()
    }

    fn pipeline(commands: usize) -> redis::Pipeline {
        let mut pipeline = redis::pipe();
        for number in 0..commands {
            pipeline.set(number, number);
        }
        pipeline
    }

    fn assert_is_large(call: Call<'_>) {
        let mut staged = Staged { tail: b"before".to_vec(), ..Staged::default() };
        assert_eq!(staged.encode(call), None);
        assert_eq!(staged.tail, b"before");
    }

    #[test]
    fn large_calls_are_not_encoded_in_place() {
        assert_is_large(Call::Command(&command(MAX_SMALL_BYTES)));
        assert_is_large(Call::Pipeline(&pipeline(10_000)));
        let mut transaction = redis::pipe();
        transaction.atomic();
        for _ in 0..10 {
            transaction.add_command(command(MAX_SMALL_BYTES / 10));
        }
        assert_is_large(Call::Pipeline(&transaction));
    }

    #[test]
    fn bytes_taken_in_order() {
        let (small, large, many) = (command(10), command(10 * MAX_SMALL_BYTES), pipeline(1_000));
        let calls =
            [Call::Command(&small), Call::Command(&large), Call::Pipeline(&many), Call::Command(&small)];
        for first in 0..calls.len() {
            let (mut staged, mut expected, mut taken) = (Staged::default(), Vec::new(), Vec::new());
            for call in calls.iter().cycle().skip(first).take(9) {
                let length = staged.encode(*call).unwrap_or_else(|| staged.append(call.encoded()));
                assert_eq!(length, call.encoded().len());
                expected.extend(call.encoded());
                assert_eq!(staged.len(), expected.len());
            }
            while !staged.is_empty() {
                taken.extend(staged.take(Vec::new()).0);
            }
            assert_eq!(taken, expected);
        }
    }

    #[test]
    fn any_call_can_be_removed() {
        let (small, large, many) = (command(10), command(2 * MAX_SMALL_BYTES), pipeline(1_000));
        let calls =
            [Call::Command(&small), Call::Command(&large), Call::Pipeline(&many), Call::Command(&large)];
        for removed in 0..calls.len() {
            let (mut staged, mut expected, mut taken) = (Staged::default(), Vec::new(), Vec::new());
            let (mut at, mut length) = (0, 0);
            for (number, call) in calls.iter().enumerate() {
                let encoded = call.encoded();
                if number == removed {
                    (at, length) = (staged.len(), encoded.len());
                } else {
                    expected.extend_from_slice(&encoded);
                }
                staged.append(encoded);
            }
            staged.remove(at, length);
            assert_eq!(staged.len(), expected.len());
            while !staged.is_empty() {
                taken.extend(staged.take(Vec::new()).0);
            }
            assert_eq!(taken, expected);
        }
    }

    #[test]
    fn large_call_is_not_copied() {
        let mut staged = Staged::default();
        let encoded = Call::Command(&command(MAX_SMALL_BYTES)).encoded();
        let place = encoded.as_ptr();
        staged.append(encoded);
        assert_eq!(staged.take(Vec::new()).0.as_ptr(), place);
    }
}
