//! Parses YAML. A plain scalar is taken as it is written, so `no` is a switch for a switch and a text for a text.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput};

use super::node::{MAX_DEPTH, Node, SyntaxError, Table, Value};

pub(super) fn parse(text: &str) -> Result<Table, SyntaxError> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut root = None;
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => break,
            (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
            (Event::DocumentStart(_), at) if root.is_some() => {
                return Err(wrong(&at, "a second document"));
            }
            (Event::DocumentStart(_), at) => {
                let event = reader.next()?;
                root = Some((reader.node(event, 0)?, at));
            }
            (_, at) => return Err(wrong(&at, "no document")),
        }
    }
    match root {
        None => Ok(Table::new()),
        Some((Node { value: Value::Table(table), .. }, _)) => Ok(table),
        Some((Node { value: Value::Null, .. }, _)) => Ok(Table::new()),
        Some((_, at)) => Err(wrong(&at, "not a mapping")),
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Marker), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start)),
            Some(Err(error)) => Err(syntax(&error)),
            None => Ok((Event::StreamEnd, Marker::default())),
        }
    }

    fn node(&mut self, (event, at): (Event<'a>, Marker), depth: usize) -> Result<Node, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(wrong(&at, "values nest too deep"));
        }
        let value = match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                return Err(wrong(&at, "tags are not supported"));
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) => plain(&text),
            Event::Scalar(text, ..) => Value::text(text),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.table(depth)?,
            Event::Alias(_) => return Err(wrong(&at, "aliases are not supported")),
            _ => return Err(wrong(&at, "a value is missing")),
        };
        Ok(Node { line: at.line(), value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn table(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut table = Table::new();
        loop {
            let (key, at) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Table(table)),
                (Event::Scalar(key, ..), at) => (key.into_owned(), at),
                (_, at) => return Err(wrong(&at, "a key that is no text")),
            };
            let event = self.next()?;
            let node = self.node(event, depth + 1)?;
            if table.insert(key, Node { line: at.line(), ..node }).is_some() {
                return Err(wrong(&at, "this key occurs twice"));
            }
        }
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => Value::text(text),
    }
}

fn syntax(error: &ScanError) -> SyntaxError {
    // One message quotes a character.
    let message = error.info().split(": `").next().unwrap_or_default();
    wrong(error.marker(), message)
}

/// Columns are counted from 1, as editors do.
fn wrong(at: &Marker, message: &str) -> SyntaxError {
    SyntaxError { line: at.line().max(1), column: at.col() + 1, message: message.to_owned() }
}
