//! How long a command lets the server block it.

use std::time::Duration;

use redis::Cmd;

use super::{Args, Placement, arguments, number, placement, upper};

/// The shortest timeout that is sent: zero would mean forever.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// The argument that limits how long the server may block a command.
#[derive(Clone, Copy)]
pub(super) struct Timeout {
    /// Its position among the arguments; the name is at 0.
    position: usize,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// Returns the timeout argument of a command, given with its name; `None` if the command does not block.
pub(super) fn timeout<'a>(args: impl Args<'a>) -> Option<Timeout> {
    use Unit::{Milliseconds, Seconds};
    let last = || args.clone().skip(1).count();
    let (position, unit) = match &*upper(args.clone().next()?) {
        b"BLPOP" | b"BRPOP" | b"BRPOPLPUSH" | b"BZPOPMIN" | b"BZPOPMAX" => (last(), Seconds),
        b"BLMOVE" | b"BLMOVEM" => (5, Seconds),
        b"BLMPOP" | b"BZMPOP" => (1, Seconds),
        b"WAIT" | b"WAITAOF" => (last(), Milliseconds),
        b"XREAD" | b"XREADGROUP" => (block_option(args.clone(), 1)?, Milliseconds),
        b"TS.READ" => (block_option(args.clone(), 3)?, Milliseconds),
        _ => return None,
    };
    Some(Timeout { position, unit })
}

/// Returns the position of the value of `BLOCK` in `[GROUP group consumer] [COUNT count] [BLOCK milliseconds …] …
/// STREAMS …` after the first `skipped` arguments. The last one counts.
fn block_option<'a>(args: impl Args<'a>, skipped: usize) -> Option<usize> {
    let mut options = args.enumerate().skip(skipped);
    let mut found = None;
    while let Some((position, option)) = options.next() {
        match &*upper(option) {
            b"BLOCK" => {
                found = Some(position + 1);
                options.next();
            }
            b"COUNT" => drop(options.next()),
            b"GROUP" => drop(options.nth(1)),
            b"STREAMS" => break,
            _ => {}
        }
    }
    found
}

impl Timeout {
    /// Returns the value. `None` means forever: zero, and any text that is not a plain number, since servers also
    /// parse hexadecimal ones, and round `-0.0001` to zero. They refuse invalid values immediately, on any
    /// connection.
    pub(super) fn read<'a>(self, mut args: impl Args<'a>) -> Option<Duration> {
        let argument = args.nth(self.position);
        let time = match self.unit {
            Unit::Seconds => Duration::try_from_secs_f64(number(argument)?).ok()?,
            Unit::Milliseconds => Duration::from_millis(number(argument)?),
        };
        Some(time).filter(|time| !time.is_zero())
    }
}

/// Returns a blocking command with the rest of its time after it has waited for `waited`. `None` if it waits forever
/// or not at all.
pub(crate) fn with_time_left(cmd: &Cmd, waited: Duration) -> Option<Cmd> {
    let Placement::Blocking { limit: Some(limit) } = placement(cmd) else { return None };
    let left = limit.saturating_sub(waited).max(MIN_TIMEOUT);
    let timeout = timeout(arguments(cmd))?;
    // Servers before version 6 only parse whole seconds, so whole numbers stay whole.
    let whole = arguments(cmd).nth(timeout.position)?.iter().all(u8::is_ascii_digit);
    let text = match (timeout.unit, whole) {
        (Unit::Milliseconds, _) => left.as_millis().to_string(),
        (Unit::Seconds, true) => left.as_secs_f64().ceil().to_string(),
        (Unit::Seconds, false) => format!("{:.3}", left.as_secs_f64()),
    };
    let mut shortened = Cmd::new();
    for (position, argument) in arguments(cmd).enumerate() {
        shortened.arg(if position == timeout.position { text.as_bytes() } else { argument });
    }
    shortened.set_no_response(cmd.is_no_response());
    Some(shortened)
}

#[cfg(test)]
mod tests {
    use super::super::command;
    use super::*;

    #[test]
    fn blocking_command_with_rest_of_its_time() {
        for (text, expected) in [
            ("BLPOP a b 5", Some("BLPOP a b 4")),
            ("blpop a 5.5", Some("blpop a 4.000")),
            ("BLMOVE a b LEFT RIGHT 1", Some("BLMOVE a b LEFT RIGHT 1")),
            ("BLMOVEM a b LEFT RIGHT 5 COUNT 2 OBO", Some("BLMOVEM a b LEFT RIGHT 4 COUNT 2 OBO")),
            ("TS.READ BLOCK $ MAX_COUNT 9 BLOCK 2000 5", Some("TS.READ BLOCK $ MAX_COUNT 9 BLOCK 500 5")),
            ("BLPOP a 0x5", None),
            ("BLMPOP 2.25 1 a LEFT", Some("BLMPOP 0.750 1 a LEFT")),
            ("XREAD COUNT 5 BLOCK 2000 STREAMS block $", Some("XREAD COUNT 5 BLOCK 500 STREAMS block $")),
            (
                "XREADGROUP GROUP BLOCK c BLOCK 2000 STREAMS s >",
                Some("XREADGROUP GROUP BLOCK c BLOCK 500 STREAMS s >"),
            ),
            ("XREAD BLOCK 100 STREAMS s $", Some("XREAD BLOCK 1 STREAMS s $")),
            ("BLPOP a 0", None),
            ("XREAD STREAMS s 0", None),
            ("GET k", None),
        ] {
            let left = with_time_left(&command(text), Duration::from_millis(1500));
            let expected = expected.map(|expected| command(expected).get_packed_command());
            assert_eq!(left.map(|left| left.get_packed_command()), expected, "{text}");
        }
    }
}
