//! A parsed file, whatever its format.

use std::collections::BTreeMap;

use secrecy::SecretString;

/// A value of a file, and the line on which it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

/// Any scalar may be a password until its key is known, so all of them are secrets here.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A text or a number.
    Text(SecretString),
    Bool(bool),
    Null,
    List(Vec<Node>),
    Table(Table),
}

/// The entries of a table.
pub(crate) type Table = BTreeMap<String, Node>;

/// Files nest no deeper than a list of pairs in a named configuration needs, with some room.
pub(crate) const MAX_DEPTH: usize = 8;

/// Why a file cannot be parsed. The message never quotes the file, which may contain a password.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) message: String,
}

/// A text, and where its lines begin.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    pub(crate) text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = text.match_indices('\n').map(|(end, _)| end + 1);
        Self { text, starts: std::iter::once(0).chain(starts).collect() }
    }

    /// Returns the number of the line on which this byte stands.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// Returns the error for what stands at this byte.
    pub(crate) fn error(&self, offset: usize, message: impl Into<String>) -> SyntaxError {
        let line = self.line(offset);
        let before = self.text.get(self.starts[line - 1]..offset).unwrap_or_default();
        SyntaxError { line, column: before.chars().count() + 1, message: message.into() }
    }
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(SecretString::from(text.into()))
    }
}
