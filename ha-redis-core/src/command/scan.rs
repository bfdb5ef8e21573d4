//! Scans: commands that are repeated with the cursor of the previous reply, until that is 0.

use std::hash::{DefaultHasher, Hash, Hasher};

use redis::{Cmd, Value};

use super::{Upper, arguments, number, upper};

/// A step of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanStep {
    /// A hash of the command and of the key, if it has one.
    scan: u64,
    cursor: u64,
}

/// Whether a step is the first of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scan {
    /// The cursor is 0: any server can start.
    Starts,
    /// The cursor only has a meaning for the server process that returned it.
    Continues,
}

impl ScanStep {
    pub(crate) fn kind(self) -> Scan {
        if self.cursor == 0 { Scan::Starts } else { Scan::Continues }
    }

    /// Returns the step after this one, which was answered by `reply`; `None` if it was the last.
    pub(crate) fn next(self, reply: &Value) -> Option<Self> {
        let Value::Array(parts) = reply else { return None };
        let cursor = match parts.first()? {
            Value::Int(cursor) => u64::try_from(*cursor).ok(),
            Value::BulkString(digits) => number(Some(digits)),
            _ => None,
        };
        cursor.filter(|cursor| *cursor != 0).map(|cursor| Self { cursor, ..self })
    }
}

/// Returns the step of a scan that `cmd` is, or `None` if it is none.
pub(crate) fn scan_step(cmd: &Cmd) -> Option<ScanStep> {
    let name = upper(arguments(cmd).next()?);
    let position = cursor_position(&name)?;
    // The cursor of a scan that an iterator drives is only in the encoded command.
    let packed = cmd.get_packed_command();
    let cursor = number(packed_argument(&packed, position)).unwrap_or(0);
    let mut scan = DefaultHasher::new();
    name.hash(&mut scan);
    if position > 1 {
        packed_argument(&packed, 1).hash(&mut scan);
    }
    Some(ScanStep { scan: scan.finish(), cursor })
}

/// Returns the position of the cursor among the arguments. The dumps of the filters continue in the same way.
fn cursor_position(name: &Upper) -> Option<usize> {
    match &**name {
        b"SCAN" => Some(1),
        b"SSCAN" | b"HSCAN" | b"ZSCAN" | b"BF.SCANDUMP" | b"CF.SCANDUMP" => Some(2),
        _ => None,
    }
}

fn packed_argument(packed: &[u8], index: usize) -> Option<&[u8]> {
    let line = |bytes: &[u8]| bytes.windows(2).position(|end| end == b"\r\n");
    let mut rest = packed.get(line(packed)? + 2..)?;
    for at in 0..=index {
        let end = line(rest)?;
        let length: usize = std::str::from_utf8(rest.get(1..end)?).ok()?.parse().ok()?;
        let argument = rest.get(end + 2..)?.get(..length)?;
        if at == index {
            return Some(argument);
        }
        rest = rest.get(end + 2 + length + 2..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{Placement, command, placement};
    use super::*;

    fn kind(cmd: &Cmd) -> Option<Scan> {
        scan_step(cmd).map(ScanStep::kind)
    }

    #[test]
    fn scan_continues_from_nonzero_cursor() {
        for (text, expected) in [
            ("GET 1", None),
            ("SCAN 0 COUNT 5", Some(Scan::Starts)),
            ("scan 10", Some(Scan::Continues)),
            ("SCAN 18446744073709551615", Some(Scan::Continues)),
            ("HSCAN 7 0", Some(Scan::Starts)),
            ("ZSCAN 0 7", Some(Scan::Continues)),
            ("SSCAN", Some(Scan::Starts)),
            ("BF.SCANDUMP b 5", Some(Scan::Continues)),
            ("cf.scandump c 0", Some(Scan::Starts)),
        ] {
            assert_eq!(kind(&command(text)), expected, "{text}");
            assert_eq!(placement(&command(text)) == Placement::Scan, expected.is_some(), "{text}");
        }
        assert_eq!(kind(redis::cmd("SCAN").cursor_arg(12)), Some(Scan::Continues));
        assert_eq!(kind(redis::cmd("SSCAN").arg("a\r\n$1").cursor_arg(0)), Some(Scan::Starts));
    }

    #[test]
    fn next_step_from_reply() {
        let step = |text| scan_step(&command(text)).unwrap();
        let reply = |cursor| Value::Array(vec![cursor, Value::Array(vec![])]);
        let bulk = |digits: &str| reply(Value::BulkString(digits.into()));
        assert_eq!(step("SCAN 0 COUNT 5").next(&bulk("17")), Some(step("scan 17 MATCH a*")));
        assert_eq!(step("HSCAN h 17").next(&reply(Value::Int(3))), Some(step("hscan h 3")));
        assert_ne!(step("HSCAN h 17"), step("HSCAN H 17"), "another key");
        assert_ne!(step("HSCAN h 17"), step("SSCAN h 17"), "another command");
        for last in [bulk("0"), bulk("x"), reply(Value::Int(-1)), Value::Nil, Value::Array(vec![])] {
            assert_eq!(step("SCAN 17").next(&last), None, "{last:?}");
        }
    }
}
