//! Scans: commands that are repeated with the cursor that the reply before gave, until that is 0.

use std::hash::{DefaultHasher, Hash, Hasher};

use redis::{Cmd, Value};

use super::{Upper, arguments, number, upper};

/// A step of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanStep {
    /// The command and the key, if it has one.
    what: u64,
    cursor: u64,
}

/// Whether a step is the first of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scan {
    /// Its cursor is 0: any server can begin.
    Begins,
    /// Its cursor means something only to the server process that gave it.
    GoesOn,
}

impl ScanStep {
    pub(crate) fn kind(self) -> Scan {
        if self.cursor == 0 { Scan::Begins } else { Scan::GoesOn }
    }

    /// The step behind this one, which was answered by `reply`; `None` when it was the last.
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

/// Which step of a scan `cmd` is, if it is one.
pub(crate) fn scan_step(cmd: &Cmd) -> Option<ScanStep> {
    let name = upper(arguments(cmd).next()?);
    let position = cursor_position(&name)?;
    // Only the encoded command tells the cursor of a scan that an iterator drives.
    let packed = cmd.get_packed_command();
    let cursor = number(packed_argument(&packed, position)).unwrap_or(0);
    let mut what = DefaultHasher::new();
    name.hash(&mut what);
    if position > 1 {
        packed_argument(&packed, 1).hash(&mut what);
    }
    Some(ScanStep { what: what.finish(), cursor })
}

/// Which argument of a scan is its cursor. The filters' dumps go on in the same way.
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
    fn a_scan_goes_on_from_a_cursor_that_is_not_zero() {
        for (text, expected) in [
            ("GET 1", None),
            ("SCAN 0 COUNT 5", Some(Scan::Begins)),
            ("scan 10", Some(Scan::GoesOn)),
            ("SCAN 18446744073709551615", Some(Scan::GoesOn)),
            ("HSCAN 7 0", Some(Scan::Begins)),
            ("ZSCAN 0 7", Some(Scan::GoesOn)),
            ("SSCAN", Some(Scan::Begins)),
            ("BF.SCANDUMP b 5", Some(Scan::GoesOn)),
            ("cf.scandump c 0", Some(Scan::Begins)),
        ] {
            assert_eq!(kind(&command(text)), expected, "{text}");
            assert_eq!(placement(&command(text)) == Placement::Scan, expected.is_some(), "{text}");
        }
        assert_eq!(kind(redis::cmd("SCAN").cursor_arg(12)), Some(Scan::GoesOn));
        assert_eq!(kind(redis::cmd("SSCAN").arg("a\r\n$1").cursor_arg(0)), Some(Scan::Begins));
    }

    #[test]
    fn a_reply_gives_the_next_step_of_the_same_scan() {
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
