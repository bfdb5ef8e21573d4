//! Parses JSON, with the line of each value, which serde_json tells of errors only.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::node::{Lines, MAX_DEPTH, Node, SyntaxError, Table, Value};

pub(super) fn parse(text: &str) -> Result<Table, SyntaxError> {
    let lines = Lines::new(text);
    let start = text.len() - text.trim_start().len();
    if !text[start..].starts_with('{') {
        return Err(lines.error(start, "not an object"));
    }
    // serde_json parses all of the text here. What is inside is only taken apart below.
    let members: Members<'_> = serde_json::from_str(text).map_err(|error| syntax(&error))?;
    table(&lines, members, 1)
}

/// Parses one value, as environment variables have them.
pub(crate) fn parse_value(text: &str) -> Result<Value, SyntaxError> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| syntax(&error))?;
    Ok(node(&Lines::new(text), raw, 1)?.value)
}

fn syntax(error: &serde_json::Error) -> SyntaxError {
    // Messages about syntax are fixed texts. Others could quote a value.
    let message = match error.is_syntax() || error.is_eof() {
        true => error.to_string(),
        false => "not an object".into(),
    };
    let message = message.split(" at line ").next().unwrap_or_default().to_owned();
    SyntaxError { line: error.line(), column: error.column().max(1), message }
}

fn table(lines: &Lines<'_>, members: Members<'_>, depth: usize) -> Result<Table, SyntaxError> {
    let mut table = Table::new();
    for (key, raw) in members.0 {
        if table.insert(key, node(lines, raw, depth)?).is_some() {
            return Err(lines.error(offset(lines, raw), "the key of this value occurs twice"));
        }
    }
    Ok(table)
}

fn node(lines: &Lines<'_>, raw: &RawValue, depth: usize) -> Result<Node, SyntaxError> {
    let at = offset(lines, raw);
    if depth > MAX_DEPTH {
        return Err(lines.error(at, "values nest too deep"));
    }
    // The text of the value has been parsed once, so this fails for escapes only that are no Unicode.
    let failed = |_| lines.error(at, "a string is not Unicode");
    let json = raw.get();
    let value = match json.as_bytes().first() {
        Some(b'{') => Value::Table(table(lines, serde_json::from_str(json).map_err(failed)?, depth + 1)?),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json).map_err(failed)?;
            Value::List(items.into_iter().map(|item| node(lines, item, depth + 1)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => Value::text(serde_json::from_str::<String>(json).map_err(failed)?),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => Value::text(json),
    };
    Ok(Node { line: lines.line(at), value })
}

/// Returns where a value, which is borrowed from the text, begins.
fn offset(lines: &Lines<'_>, raw: &RawValue) -> usize {
    (raw.get().as_ptr() as usize).saturating_sub(lines.text.as_ptr() as usize)
}

/// The members of an object in their order, duplicates included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
