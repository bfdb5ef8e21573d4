//! The commands whose options decide whether they may run twice.
//!
//! A command that the server refuses for its syntax changes nothing, so only well-formed ones matter here.

use super::{Args, Safety, number, upper};

/// `SET key value [NX | XX | IFEQ …] [GET] [EX … | PX … | EXAT … | PXAT … | KEEPTTL]`
///
/// `NX`: set, then not set. `GET`: the old value, then the new one. `IFEQ` and its like: equal, then not.
pub(super) fn set<'a>(args: impl Args<'a>) -> bool {
    sets_again(args.skip(2))
}

/// `MSETEX numkeys key value [key value …] [NX | XX] [EX … | PX … | EXAT … | PXAT … | KEEPTTL]`
pub(super) fn msetex<'a>(mut args: impl Args<'a>) -> bool {
    let pairs = number::<usize>(args.next());
    pairs.is_some_and(|pairs| sets_again(args.skip(pairs.saturating_mul(2))))
}

/// `HSETEX key [FNX | FXX] [EX … | PX … | EXAT … | PXAT … | KEEPTTL] FIELDS numfields field value …`
pub(super) fn hsetex<'a>(args: impl Args<'a>) -> bool {
    sets_again(before_fields(args.skip(1)))
}

/// Whether what is set a second time is set the same, and the reply says so: with a time to live, that starts
/// anew; with `XX`, the key was there and still is, or was not there and still is not.
fn sets_again<'a>(mut options: impl Args<'a>) -> bool {
    let mut only_existing = false;
    let mut until_a_point_in_time = false;
    while let Some(option) = options.next() {
        match &*upper(option) {
            b"XX" | b"FXX" => only_existing = true,
            b"KEEPTTL" => {}
            b"EX" | b"PX" => drop(options.next()),
            b"EXAT" | b"PXAT" => {
                until_a_point_in_time = true;
                options.next();
            }
            _ => return false,
        }
    }
    // What is set until a time that has passed is gone at once, and the second run does not find it.
    !(only_existing && until_a_point_in_time)
}

/// `GETEX key [EX … | PX … | EXAT … | PXAT … | PERSIST]` and `HGETEX key […] FIELDS numfields field …`
///
/// A point in time that has passed deletes what was asked for: the second run would lose the value.
pub(super) fn getex<'a>(args: impl Args<'a>) -> Safety {
    let mut options = before_fields(args.skip(1));
    match options.next().map(upper).as_deref() {
        None => Safety::ReadOnly,
        Some(b"PERSIST") => Safety::Repeatable,
        Some(b"EX" | b"PX") if is_positive(options.next()) => Safety::Repeatable,
        Some(_) => Safety::Unsafe,
    }
}

/// `EXPIRE key seconds [NX | XX | GT | LT]` and `HEXPIRE key seconds […] FIELDS numfields field …`
///
/// Nothing or `XX`: the time to live starts anew. `NX`, `GT`, `LT`: the first run decides the second. Zero
/// seconds or fewer delete the key: deleted, then not found.
pub(super) fn expire<'a>(args: impl Args<'a>) -> bool {
    let mut options = args.skip(1);
    is_positive(options.next()) && before_fields(options).all(|option| option.eq_ignore_ascii_case(b"XX"))
}

/// `BITFIELD key [GET type offset | OVERFLOW … | SET … | INCRBY …] …`
///
/// `SET` gives back the old value.
pub(super) fn bitfield<'a>(args: impl Args<'a>) -> Safety {
    let mut operations = args.skip(1);
    while let Some(operation) = operations.next() {
        let parameters = match &*upper(operation) {
            b"GET" => 2,
            b"OVERFLOW" => 1,
            _ => return Safety::Unsafe,
        };
        operations.by_ref().take(parameters).for_each(drop);
    }
    Safety::ReadOnly
}

/// `COPY`, `RESTORE` and `FUNCTION LOAD` with `REPLACE`: what was copied over is copied over again. Without
/// it, the second run finds that the first one was there.
pub(super) fn replaces<'a>(mut options: impl Args<'a>) -> bool {
    options.any(|option| option.eq_ignore_ascii_case(b"REPLACE"))
}

/// `LTRIM key start stop`
///
/// Keeping so many from the head (`0 n`) or from the tail (`-n -1`) can be repeated; any other range drops
/// elements each time.
pub(super) fn ltrim<'a>(args: impl Args<'a>) -> bool {
    let mut range = args.skip(1);
    match (number::<i64>(range.next()), number::<i64>(range.next())) {
        (Some(start), Some(stop)) => (start == 0 && stop >= -1) || (start < 0 && stop == -1),
        _ => false,
    }
}

/// `SORT key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC | DESC] [ALPHA] [STORE destination]`
///
/// What is stored may be what is sorted, or what a pattern finds.
pub(super) fn sort<'a>(mut args: impl Args<'a>) -> Safety {
    let source = args.next();
    let mut destination = None;
    let mut follows_patterns = false;
    while let Some(option) = args.next() {
        match &*upper(option) {
            b"ASC" | b"DESC" | b"ALPHA" => {}
            b"LIMIT" => args.by_ref().take(2).for_each(drop),
            b"BY" | b"GET" => {
                follows_patterns = true;
                args.next();
            }
            b"STORE" => destination = args.next(),
            _ => return Safety::Unsafe,
        }
    }
    match destination {
        None => Safety::ReadOnly,
        Some(_) if destination != source && !follows_patterns => Safety::Repeatable,
        Some(_) => Safety::Unsafe,
    }
}

/// `destination source …`: whether the destination is none of the sources, which the second run reads again.
pub(super) fn stores_apart<'a>(mut keys: impl Args<'a>) -> bool {
    let destination = keys.next();
    keys.all(|source| Some(source) != destination)
}

/// `destination numkeys source … options`
pub(super) fn stores_counted_apart<'a>(mut args: impl Args<'a>) -> bool {
    let destination = args.next();
    let sources = number::<usize>(args.next());
    sources.is_some_and(|sources| args.take(sources).all(|source| Some(source) != destination))
}

/// `GEORADIUS key longitude latitude radius unit [options] [STORE destination | STOREDIST destination]`, or
/// with a member in place of longitude and latitude: a `center` of two arguments or of one.
pub(super) fn georadius<'a>(mut args: impl Args<'a>, center: usize) -> Safety {
    let source = args.next();
    let mut options = args.skip(center + 2);
    let mut safety = Safety::ReadOnly;
    while let Some(option) = options.next() {
        if matches!(&*upper(option), b"STORE" | b"STOREDIST") {
            let apart = options.next() != source;
            safety = safety.max(if apart { Safety::Repeatable } else { Safety::Unsafe });
        }
    }
    safety
}

/// `FT.AGGREGATE index query [options]`, and `FT.PROFILE` around it: a cursor stays behind on the server.
pub(super) fn aggregate<'a>(mut args: impl Args<'a>) -> Safety {
    let leaves_cursor = args.any(|option| option.eq_ignore_ascii_case(b"WITHCURSOR"));
    if leaves_cursor { Safety::Unsafe } else { Safety::ReadOnly }
}

fn before_fields<'a>(args: impl Args<'a>) -> impl Args<'a> {
    args.take_while(|option| !option.eq_ignore_ascii_case(b"FIELDS"))
}

fn is_positive(argument: Option<&[u8]>) -> bool {
    number::<i64>(argument).is_some_and(|number| number > 0)
}
