//! The name by which the nodes of a cluster know each other.

use std::fmt;

/// The ID of a node: 40 hexadecimal digits, drawn when the node is new. It outlives restarts and changes of address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId([u8; 20]);

impl NodeId {
    /// Reads an ID. `None` if the text is anything but 40 lowercase hexadecimal digits.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let digits: &[u8; 40] = text.try_into().ok()?;
        let mut id = [0; 20];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_id_round_trips() {
        let text = "07c37dfeb235213a872192d90877d0cd55635b91";
        let id = NodeId::parse(text.as_bytes()).unwrap();
        assert_eq!((id.to_string(), format!("{id:?}")), (text.to_owned(), text.to_owned()));
    }

    #[test]
    fn other_texts_are_no_node_id() {
        for text in
            ["", "07c3", &"0".repeat(39), &"0".repeat(41), &"g".repeat(40), &"A".repeat(40), &" ".repeat(40)]
        {
            assert_eq!(NodeId::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn ids_are_ordered_like_their_text() {
        let id = |first: char| NodeId::parse(format!("{first}{}", "0".repeat(39)).as_bytes()).unwrap();
        assert!(id('0') < id('9') && id('9') < id('a') && id('a') < id('f'));
    }
}
