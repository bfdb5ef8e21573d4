//! Reads `.env` files.
//!
//! A line is `NAME=value`, maybe after `export`. A value in single quotes is taken as it is. In double quotes `\n`,
//! `\r`, `\t`, `\"` and `\\` are escapes. Both may contain line breaks. Without quotes, the value ends before a `#` that
//! follows a space. Nothing is substituted: a `$` is a dollar sign, as passwords have them.

use std::path::Path;

use ha_redis_core::config::Problem;
use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;

use crate::variables::{Variable, VariableValue};

/// Returns the variables of a file, and its mistakes, which quote nothing.
pub(crate) fn parse(path: &Path, text: &str) -> (Vec<Variable>, Vec<Problem>) {
    let mut reader = Reader { rest: text, line: 1 };
    let (mut variables, mut problems) = (Vec::new(), Vec::new());
    while reader.skip_to_assignment() {
        let origin = format!("{}:{}", path.display(), reader.line);
        match reader.assignment() {
            Ok((name, value)) => variables.push(Variable { name, value: VariableValue::Text(value), origin }),
            Err(allowed) => {
                let problem = Problem::new("syntax", allowed, "correct the line");
                problems.push(problem.hidden().with_origin(origin));
                reader.skip_line();
            }
        }
    }
    (variables, problems)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    /// Skips blank lines and comments. Returns false at the end.
    fn skip_to_assignment(&mut self) -> bool {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.take(blank);
            match self.rest.chars().next() {
                None => return false,
                Some('#') => self.skip_line(),
                Some(_) => return true,
            }
        }
    }

    fn assignment(&mut self) -> Result<(String, SecretString), &'static str> {
        if let Some(name) = self.rest.strip_prefix("export").filter(|name| name.starts_with([' ', '\t'])) {
            self.take(self.rest.len() - name.trim_start_matches([' ', '\t']).len());
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let name = self.take(self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len()));
        self.skip_spaces();
        if name.is_empty() || !self.rest.starts_with('=') {
            return Err("NAME=value");
        }
        self.take(1);
        self.skip_spaces();
        let value = match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            _ => self.plain(),
        };
        Ok((name.to_owned(), value))
    }

    fn quoted(&mut self, quote: char) -> Result<SecretString, &'static str> {
        let body = &self.rest[1..];
        // With this capacity the text is not moved, and leaves no copy behind.
        let mut value = Zeroizing::new(String::with_capacity(body.len()));
        let mut chars = body.char_indices();
        let end = loop {
            match chars.next() {
                None => return Err("a quote at the end of the value"),
                Some((at, c)) if c == quote => break at,
                Some((_, '\\')) if quote == '"' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, c @ ('"' | '\\' | '$'))) => value.push(c),
                    Some((_, c)) => value.extend(['\\', c]),
                    None => return Err("a quote at the end of the value"),
                },
                Some((_, c)) => value.push(c),
            }
        };
        self.take(end + 2);
        self.skip_spaces();
        if !self.rest.is_empty() && !self.rest.starts_with(['\n', '\r', '#']) {
            return Err("nothing but a comment behind the closing quote");
        }
        self.skip_line();
        Ok(value.as_str().into())
    }

    fn plain(&mut self) -> SecretString {
        let line = self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
        let comment = line.char_indices().find(|(at, c)| *c == '#' && line[..*at].ends_with([' ', '\t']));
        let is_all = line.starts_with('#');
        let value = if is_all { "" } else { comment.map_or(line, |(at, _)| &line[..at]) };
        value.trim_end().into()
    }

    fn skip_spaces(&mut self) {
        self.take(self.rest.len() - self.rest.trim_start_matches([' ', '\t']).len());
    }

    fn skip_line(&mut self) {
        self.take(self.rest.find('\n').map_or(self.rest.len(), |end| end + 1));
    }

    /// Takes this many bytes, and counts their lines.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    /// Returns the names, values and origins in a text, and the mistakes.
    fn read(text: &str) -> (Vec<(String, String, String)>, Vec<String>) {
        let (variables, problems) = parse(Path::new(".env"), text);
        let variables = variables.into_iter().map(|variable| match variable.value {
            VariableValue::Text(text) => (variable.name, text.expose_secret().to_owned(), variable.origin),
            value => panic!("{value:?}"),
        });
        (variables.collect(), problems.iter().map(ToString::to_string).collect())
    }

    fn values(text: &str) -> Vec<String> {
        read(text).0.into_iter().map(|(_, value, _)| value).collect()
    }

    #[test]
    fn reads_values() {
        for (line, value) in [
            ("A=b", "b"),
            ("A = b c ", "b c"),
            ("export  A=b", "b"),
            ("A=", ""),
            ("A=#", ""),
            ("A=a#b", "a#b"),
            ("A=a #b", "a"),
            ("A=pa$word${x}", "pa$word${x}"),
            ("A='pa$ \"#\\n'", "pa$ \"#\\n"),
            (r#"A="a\"b\\c\nd\$e\f" # comment"#, "a\"b\\c\nd$e\\f"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("A=b\r", "b"),
            ("A=ü=", "ü="),
        ] {
            assert_eq!(values(line), [value], "{line}");
            assert_eq!(values(&format!("# first\n\n{line}\nB=c\n")), [value, "c"], "{line}");
        }
        assert!(values("").is_empty());
    }

    #[test]
    fn names_lines() {
        let (variables, problems) = read("A='1\n2'\nB\nC=\"x\" y\n\nD=4\nE='open\nF=6");
        let origins: Vec<_> =
            variables.iter().map(|(name, _, origin)| (name.as_str(), origin.as_str())).collect();
        assert_eq!(origins, [("A", ".env:1"), ("D", ".env:6"), ("F", ".env:8")]);
        assert_eq!(
            problems,
            [
                "`syntax` from .env:3: found <hidden>, expected NAME=value; correct the line",
                "`syntax` from .env:4: found <hidden>, expected nothing but a comment behind the closing quote; \
                 correct the line",
                "`syntax` from .env:7: found <hidden>, expected a quote at the end of the value; correct the line",
            ]
        );
    }
}
