//! What is left of the time of a command that waits on the server.

use std::time::Duration;

use redis::{Arg, Cmd};

use super::{Placement, placement, upper};

/// The least that is asked for: no time at all would mean for ever.
const LEAST: Duration = Duration::from_millis(1);

/// A blocking command with the rest of its time, when it has waited for so long already. `None` for one that waits for
/// ever, or not at all.
pub(crate) fn with_time_left(cmd: &Cmd, waited: Duration) -> Option<Cmd> {
    let Placement::Blocking { limit: Some(limit) } = placement(cmd) else { return None };
    let left = limit.saturating_sub(waited).max(LEAST);
    let args =
        cmd.args_iter().map(|arg| if let Arg::Simple(bytes) = arg { bytes } else { b"" }).collect::<Vec<_>>();
    let (at, milliseconds) = time_argument(&args)?;
    // Servers before version 6 read whole seconds alone, so these stay what they are.
    let text = match (milliseconds, args.get(at)?.iter().all(u8::is_ascii_digit)) {
        (true, _) => left.as_millis().to_string(),
        (false, true) => left.as_secs_f64().ceil().to_string(),
        (false, false) => format!("{:.3}", left.as_secs_f64()),
    };
    let mut shortened = Cmd::new();
    for (index, arg) in args.iter().enumerate() {
        if index == at {
            shortened.arg(&text)
        } else {
            shortened.arg(*arg)
        };
    }
    shortened.set_no_response(cmd.is_no_response());
    Some(shortened)
}

/// Which argument says how long the server may wait, and whether in milliseconds.
fn time_argument(args: &[&[u8]]) -> Option<(usize, bool)> {
    match &*upper(args.first()?) {
        b"BLMPOP" | b"BZMPOP" => Some((1, false)),
        b"XREAD" | b"XREADGROUP" => block_option(args),
        _ => Some((args.len() - 1, false)),
    }
}

fn block_option(args: &[&[u8]]) -> Option<(usize, bool)> {
    let mut at = 1;
    loop {
        at += match &*upper(args.get(at)?) {
            b"BLOCK" => return Some((at + 1, true)),
            b"COUNT" => 2,
            b"GROUP" => 3,
            b"STREAMS" => return None,
            _ => 1,
        };
    }
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
