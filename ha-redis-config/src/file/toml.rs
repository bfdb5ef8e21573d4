//! Parses TOML.

use toml::de::{DeInteger, DeTable, DeValue};

use super::node::{Lines, Node, SyntaxError, Table, Value};

pub(super) fn parse(text: &str) -> Result<Table, SyntaxError> {
    let lines = Lines::new(text);
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        lines.error(offset, error.message())
    })?;
    Ok(table_of(&lines, table.get_ref()))
}

fn table_of(lines: &Lines<'_>, table: &DeTable<'_>) -> Table {
    let entries = table.iter().map(|(key, value)| {
        let node = Node { line: lines.line(key.span().start), value: value_of(lines, value.get_ref()) };
        (key.get_ref().to_string(), node)
    });
    entries.collect()
}

/// The parser limits how deep values nest.
fn value_of(lines: &Lines<'_>, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(string) => Value::text(&**string),
        DeValue::Integer(integer) => Value::text(decimal(integer)),
        DeValue::Float(float) => Value::text(float.as_str()),
        DeValue::Boolean(switch) => Value::Bool(*switch),
        DeValue::Datetime(time) => Value::text(time.to_string()),
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node {
                    line: lines.line(item.span().start),
                    value: value_of(lines, item.get_ref()),
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(table_of(lines, table)),
    }
}

/// Returns a number as settings are read, whatever its base.
fn decimal(integer: &DeInteger<'_>) -> String {
    match i128::from_str_radix(integer.as_str(), integer.radix()) {
        Ok(number) => number.to_string(),
        Err(_) => integer.as_str().to_owned(),
    }
}
