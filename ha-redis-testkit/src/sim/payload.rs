//! The texts that callers send. Each contains the number of its call, and some are large.

use std::fmt;

/// A text that is unique to a call, and that reveals a mixture with another text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) call: u64,
    /// How many letters follow the number.
    pub(super) padding: usize,
}

impl Payload {
    /// Parses a text. Returns `None` for a text that no caller has sent.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (call, padding) = text.split_once(':')?;
        let payload = Self { call: call.parse().ok()?, padding: padding.len() };
        padding.bytes().all(|letter| letter == payload.letter()).then_some(payload)
    }

    /// Returns the call whose number the text begins with. Servers need only this part.
    pub(super) fn call_of(text: &str) -> Option<u64> {
        text.split(':').next()?.parse().ok()
    }

    fn letter(self) -> u8 {
        b'a' + (self.call % 26) as u8
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let padding = char::from(self.letter()).to_string().repeat(self.padding);
        write!(f, "{}:{padding}", self.call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_parses_and_mixture_does_not() {
        let payload = Payload { call: 28, padding: 3 };
        assert_eq!(payload.to_string(), "28:ccc");
        assert_eq!(Payload::read("28:ccc"), Some(payload));
        assert_eq!(Payload::read("28:cdc"), None);
        assert_eq!(Payload::call_of("28:cc"), Some(28));
    }
}
