//! Encodes commands as the bytes that are sent.

use redis::{Arg, Cmd};

const CRLF: &[u8] = b"\r\n";

/// Appends `command` to `out`. The bytes are those of redis-rs's own encoder, which visits each argument twice. Stops
/// and returns false if the arguments would make `out` longer than `end`.
pub(crate) fn encode(command: &Cmd, out: &mut Vec<u8>, end: usize) -> bool {
    if command.in_scan_mode() {
        // Only redis-rs knows the position of the cursor.
        command.write_packed_command(out);
        return out.len() <= end;
    }
    let args = command.args_iter();
    push_number(out, b'*', args.len());
    for arg in args {
        let Arg::Simple(bytes) = arg else { continue };
        if out.len() + bytes.len() > end {
            return false;
        }
        push_number(out, b'$', bytes.len());
        out.reserve(bytes.len() + CRLF.len());
        out.extend_from_slice(bytes);
        out.extend_from_slice(CRLF);
    }
    true
}

/// Appends a line of a marker and a number.
#[inline(always)]
fn push_number(out: &mut Vec<u8>, marker: u8, number: usize) {
    let digit = |number: usize| b'0' + number as u8;
    if number < 10 {
        out.extend_from_slice(&[marker, digit(number), b'\r', b'\n']);
    } else if number < 100 {
        out.extend_from_slice(&[marker, digit(number / 10), digit(number % 10), b'\r', b'\n']);
    } else {
        push_digits(out, marker, number);
    }
}

fn push_digits(out: &mut Vec<u8>, marker: u8, number: usize) {
    // The number of digits of the largest number.
    let mut digits = [0; 20];
    let (mut first, mut rest) = (digits.len(), number);
    while rest > 0 {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.push(marker);
    out.extend_from_slice(&digits[first..]);
    out.extend_from_slice(CRLF);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_as_redis(command: &Cmd) {
        let mut out = b"before".to_vec();
        assert!(encode(command, &mut out, usize::MAX));
        let mut expected = b"before".to_vec();
        command.write_packed_command(&mut expected);
        assert_eq!(out, expected);
    }

    #[test]
    fn encodes_like_redis_rs() {
        assert_as_redis(&Cmd::new());
        for length in [0, 1, 9, 10, 99, 100, 101, 999, 1_000, 65_536] {
            assert_as_redis(redis::cmd("SET").arg("key").arg(vec![b'x'; length]));
        }
        for arguments in [8, 9, 99, 1_000] {
            assert_as_redis(redis::cmd("MGET").arg(vec!["key"; arguments]));
        }
        assert_as_redis(redis::cmd("SCAN").cursor_arg(42).arg("COUNT").arg(10));
    }
}
