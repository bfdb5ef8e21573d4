//! How long a command lets the server keep it waiting.

use std::time::Duration;

use redis::Cmd;

use super::{Args, Placement, arguments, number, placement, upper};

/// The least that is asked for: no time at all would mean for ever.
const LEAST: Duration = Duration::from_millis(1);

/// The argument that says how long the server may keep a command waiting.
#[derive(Clone, Copy)]
pub(super) struct Timeout {
    /// Its place among the arguments; the name's is 0.
    position: usize,
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// Where a command, with its name, says how long it may wait; `None` if it does not wait.
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

/// `[GROUP group consumer] [COUNT count] [BLOCK milliseconds …] … STREAMS …` behind the first `skipped` arguments: where
/// the value of `BLOCK` is. The last one counts.
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
    /// Its value. `None` is for ever: so is zero, and so may be what is no plain number here, since servers read
    /// hexadecimal ones too, and round `-0.0001` to zero. What they refuse they refuse at once, on whichever connection.
    pub(super) fn read<'a>(self, mut args: impl Args<'a>) -> Option<Duration> {
        let argument = args.nth(self.position);
        let time = match self.unit {
            Unit::Seconds => Duration::try_from_secs_f64(number(argument)?).ok()?,
            Unit::Milliseconds => Duration::from_millis(number(argument)?),
        };
        Some(time).filter(|time| !time.is_zero())
    }
}

/// A blocking command with the rest of its time, when it has waited for so long already. `None` for one that waits for
/// ever, or not at all.
pub(crate) fn with_time_left(cmd: &Cmd, waited: Duration) -> Option<Cmd> {
    let Placement::Blocking { limit: Some(limit) } = placement(cmd) else { return None };
    let left = limit.saturating_sub(waited).max(LEAST);
    let timeout = timeout(arguments(cmd))?;
    // Servers before version 6 read whole seconds alone, so these stay what they are.
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
    fn a_blocking_command_goes_on_with_the_rest_of_its_time() {
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
