//! Makes text from a peer, and from a user, safe to print.
//!
//! All text from servers and Sentinels goes through here before it becomes part of an error or of a log line. So a
//! peer can neither forge log lines, nor send commands to a terminal, nor hide text, nor fill a log.

use std::borrow::Cow;

use redis::Value;

/// The maximum number of characters.
const MAX_CHARS: usize = 200;

/// Returns a reply as errors quote it. A large reply is not formatted as a whole: that may take many times its
/// memory.
pub(crate) fn describe(reply: &Value) -> String {
    match reply {
        Value::BulkString(bytes) => {
            let first = bytes.get(..MAX_CHARS).unwrap_or(bytes);
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

/// Returns the text of a reply, up to `max_bytes` of it. `None` if the reply is not text.
pub(crate) fn text_of(reply: &Value, max_bytes: usize) -> Option<&str> {
    let text = match reply {
        Value::BulkString(bytes) => std::str::from_utf8(bytes.get(..max_bytes).unwrap_or(bytes)).ok()?,
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.as_str(),
        _ => return None,
    };
    let end = (0..=max_bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Some(&text[..end])
}

/// Returns the text on one line, with control and invisible characters escaped, and cut if it is long.
pub(crate) fn printable(text: &str) -> String {
    let mut printed = String::new();
    let mut length = 0;
    for character in text.chars() {
        let mut buffer = [0; 4];
        let escaped = escaped(character.encode_utf8(&mut buffer));
        length += escaped.chars().count();
        if length > MAX_CHARS {
            printed.push('…');
            break;
        }
        printed.push_str(&escaped);
    }
    printed
}

/// Returns the whole text on one line, with control and invisible characters escaped: for what a user has set.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return text.into();
    }
    let escape = |character: char| match is_plain(character) {
        true => String::from(character),
        false => character.escape_default().collect(),
    };
    text.chars().map(escape).collect()
}

/// Returns true if [`printable`] leaves the text unchanged.
pub(crate) fn is_printable(text: &str) -> bool {
    text.chars().count() <= MAX_CHARS && text.chars().all(is_plain)
}

/// Returns true for a visible character that is not a control character and does not affect its neighbours.
pub(crate) fn is_plain(character: char) -> bool {
    let is_hidden = matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            // Zero-width characters and direction marks; line separators; embeddings, isolates and invisible
            // operators.
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            // Tags and variation selectors.
            | '\u{e0000}'..='\u{e0fff}'
    );
    !(character.is_control() || is_hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_reply_is_cut() {
        let large = Value::BulkString(vec![b'x'; 1 << 20]);
        assert_eq!(describe(&large).chars().count(), MAX_CHARS);
        assert_eq!(describe(&Value::Array(vec![large.clone(), large.clone()])), "a list of 2 values");
        assert_eq!(describe(&Value::Int(7)), "int(7)");
        assert_eq!(text_of(&large, 10), Some("xxxxxxxxxx"));
        assert_eq!(text_of(&Value::SimpleString("schlüssel".into()), 5), Some("schl"));
        assert_eq!(text_of(&Value::Nil, 5), None);
    }

    #[test]
    fn control_and_invisible_characters_escaped() {
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
    fn text_of_a_user_escaped_and_not_cut() {
        let long = "/run/".repeat(100);
        assert_eq!(escaped(&long), long);
        assert_eq!(escaped("/run/a\nb\u{202e}"), r"/run/a\nb\u{202e}");
    }

    #[test]
    fn long_text_is_cut() {
        let fits = "x".repeat(MAX_CHARS);
        assert_eq!(printable(&fits), fits);
        assert_eq!(printable(&format!("{fits}y")), format!("{fits}…"));
        assert_eq!(
            printable(&"\u{1b}".repeat(1 << 20)).chars().filter(|c| *c == '\\').count(),
            MAX_CHARS / 6
        );
        assert!(is_printable(&fits) && !is_printable(&format!("{fits}y")));
    }
}
