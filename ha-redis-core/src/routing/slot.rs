//! The hash slot of a key.

use std::error::Error;
use std::fmt;

/// A hash slot: one of the 16384 parts into which a cluster divides all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u16);

impl Slot {
    /// The number of slots.
    pub const COUNT: u16 = 16384;

    /// Returns the slot with this number, if there is one.
    pub const fn new(number: u16) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// Returns the slot of a key: that of its hash tag, if it has one.
    ///
    /// ```
    /// use ha_redis_core::routing::Slot;
    ///
    /// assert_eq!(Slot::of(b"{user1000}.following"), Slot::of(b"{user1000}.followers"));
    /// assert_eq!(Slot::of(b"123456789").number(), 12739);
    /// ```
    pub fn of(key: &[u8]) -> Self {
        Self(crc16(hash_tag(key)) % Self::COUNT)
    }

    /// Returns the number of the slot.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// The error for a number that is no slot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSlot(u16);

impl fmt::Display for InvalidSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid hash slot {}: expected less than {}", self.0, Slot::COUNT)
    }
}

impl Error for InvalidSlot {}

impl TryFrom<u16> for Slot {
    type Error = InvalidSlot;

    fn try_from(number: u16) -> Result<Self, InvalidSlot> {
        Self::new(number).ok_or(InvalidSlot(number))
    }
}

impl From<Slot> for u16 {
    fn from(slot: Slot) -> Self {
        slot.0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns the part of a key that is hashed: what is between the first `{` and the first `}` behind it, or the whole key
/// if nothing is.
fn hash_tag(key: &[u8]) -> &[u8] {
    let tag = || {
        let start = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key[start..].iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &key[start..start + length])
    };
    tag().unwrap_or(key)
}

/// CRC-16/XMODEM: the polynomial 0x1021, starting with 0, most significant bit first.
fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = crc16_table();
    bytes.iter().fold(0, |crc, byte| {
        let [high, low] = crc.to_be_bytes();
        u16::from_be_bytes([low, 0]) ^ TABLE[usize::from(high ^ byte)]
    })
}

const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn check_value_of_crc() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(crc16(b""), 0);
    }

    #[test]
    fn slot_of_key_as_cluster_keyslot_replies() {
        for (key, slot) in [
            ("", 0),
            ("foo", 12182),
            ("bar", 5061),
            ("hello", 866),
            ("somekey", 11058),
            ("foo{hash_tag}", 2515),
            ("bar{hash_tag}", 2515),
            ("123456789", 12739),
        ] {
            assert_eq!(Slot::of(key.as_bytes()).number(), slot, "{key}");
        }
    }

    #[test]
    fn hash_tag_is_between_the_first_braces() {
        for (key, tag) in [
            ("{a}b", "a"),
            ("a{b}c{d}", "b"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("}a{b}", "b"),
            ("{a", "{a"),
            ("a}b", "a}b"),
            ("{}", "{}"),
            ("{", "{"),
            ("}{", "}{"),
            ("", ""),
        ] {
            assert_eq!(hash_tag(key.as_bytes()), tag.as_bytes(), "{key}");
        }
    }

    #[test]
    fn slots_by_number() {
        assert_eq!(Slot::new(16383).map(Slot::number), Some(16383));
        assert_eq!(Slot::new(16384), None);
        assert_eq!(Slot::try_from(16383).map(u16::from), Ok(16383));
        let error = Slot::try_from(16384).unwrap_err();
        assert_eq!(error.to_string(), "invalid hash slot 16384: expected less than 16384");
    }

    /// The definition of the checksum, bit by bit.
    fn crc16_by_bits(bytes: &[u8]) -> u16 {
        let mut crc = 0_u16;
        for byte in bytes {
            for bit in (0..8).rev() {
                let carry = (crc >> 15) ^ u16::from((byte >> bit) & 1);
                crc = (crc << 1) ^ (carry * 0x1021);
            }
        }
        crc
    }

    proptest! {
        #[test]
        fn any_key_has_a_slot_and_its_tag_decides(
            key in any::<Vec<u8>>(),
            tag in "[^{}]{1,9}",
            before in "[^{]*",
            after in any::<Vec<u8>>(),
        ) {
            prop_assert!(Slot::of(&key).number() < Slot::COUNT);
            prop_assert_eq!(crc16(&key), crc16_by_bits(&key));
            let tagged = [before.as_bytes(), b"{", tag.as_bytes(), b"}", &after].concat();
            prop_assert_eq!(Slot::of(&tagged), Slot::of(tag.as_bytes()));
        }
    }
}
