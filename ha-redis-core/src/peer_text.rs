//! Text that a peer has sent, made fit to be printed.
//!
//! What a server or a Sentinel writes goes through here before it becomes a part of an error or of a log line: nobody
//! else writes our lines, sends a terminal its own commands, hides one text behind another, or fills a log.

use redis::Value;

/// The most characters that are kept.
const LONGEST: usize = 200;

/// A reply as errors quote it, whatever its size. It is not formatted whole: that may take many times its memory.
pub(crate) fn describe(reply: &Value) -> String {
    match reply {
        Value::BulkString(bytes) => {
            let first = bytes.get(..LONGEST).unwrap_or(bytes);
            printable(&String::from_utf8_lossy(first))
        }
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => printable(text),
        Value::Array(items) | Value::Set(items) => format!("a list of {} values", items.len()),
        Value::Map(pairs) => format!("a map of {} pairs", pairs.len()),
        Value::Push { data, .. } => format!("a push of {} values", data.len()),
        Value::Attribute { .. } => "a value with attributes".to_owned(),
        scalar => printable(&format!("{scalar:?}")),
    }
}

/// The text of a reply, no more of it than `most` bytes. `None` if it is none.
pub(crate) fn text_of(reply: &Value, most: usize) -> Option<&str> {
    let text = match reply {
        Value::BulkString(bytes) => std::str::from_utf8(bytes.get(..most).unwrap_or(bytes)).ok()?,
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.as_str(),
        _ => return None,
    };
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Some(&text[..end])
}

/// The text on one line, with escapes in place of what a terminal obeys or does not show, and cut where it is long.
pub(crate) fn printable(text: &str) -> String {
    let mut printed = String::new();
    let mut length = 0;
    for character in text.chars() {
        let escaped: String = match is_plain(character) {
            true => character.into(),
            false => character.escape_default().collect(),
        };
        length += escaped.chars().count();
        if length > LONGEST {
            printed.push('…');
            break;
        }
        printed.push_str(&escaped);
    }
    printed
}

/// Whether [`printable`] leaves the text as it is.
pub(crate) fn is_printable(text: &str) -> bool {
    text.chars().count() <= LONGEST && text.chars().all(is_plain)
}

/// Whether a character stands for itself: it is no control character, it is seen, and it changes nothing around it.
fn is_plain(character: char) -> bool {
    let is_hidden = matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            // Of no width, and marks of direction; separators of lines; embeddings, isolates and invisible operators.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            // Tags and more selectors of variants.
            | '\u{e0000}'..='\u{e0fff}'
    );
    !(character.is_control() || is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_reply_is_neither_quoted_nor_read_whole() {
        let large = Value::BulkString(vec![b'x'; 1 << 20]);
        assert_eq!(describe(&large).chars().count(), LONGEST);
        assert_eq!(describe(&Value::Array(vec![large.clone(), large.clone()])), "a list of 2 values");
        assert_eq!(describe(&Value::Int(7)), "int(7)");
        assert_eq!(text_of(&large, 10), Some("xxxxxxxxxx"));
        assert_eq!(text_of(&Value::SimpleString("schlüssel".into()), 5), Some("schl"));
        assert_eq!(text_of(&Value::Nil, 5), None);
    }

    #[test]
    fn what_a_terminal_obeys_or_hides_is_escaped() {
        assert_eq!(printable("ERR no such key `schlüssel`, 鍵"), "ERR no such key `schlüssel`, 鍵");
        assert_eq!(printable("a\r\n2026 INFO forged"), r"a\r\n2026 INFO forged");
        assert_eq!(printable("\u{1b}[2J\u{7}\u{0}\u{9b}x"), r"\u{1b}[2J\u{7}\u{0}\u{9b}x");
        assert_eq!(
            printable("a\u{202e}b\u{200b}c\u{2066}d\u{feff}"),
            r"a\u{202e}b\u{200b}c\u{2066}d\u{feff}"
        );
        assert_eq!(printable("a\u{2028}b\u{2029}"), r"a\u{2028}b\u{2029}");
        assert!(is_printable("ERR no") && !is_printable("ERR\nno"));
    }

    #[test]
    fn what_is_long_is_cut() {
        let fits = "x".repeat(LONGEST);
        assert_eq!(printable(&fits), fits);
        assert_eq!(printable(&format!("{fits}y")), format!("{fits}…"));
        assert_eq!(printable(&"\u{1b}".repeat(1 << 20)).chars().filter(|c| *c == '\\').count(), LONGEST / 6);
        assert!(is_printable(&fits) && !is_printable(&format!("{fits}y")));
    }
}
