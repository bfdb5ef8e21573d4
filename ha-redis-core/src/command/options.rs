//! The commands whose arguments decide whether they may run twice.
//!
//! A command that the server refuses for its syntax changes nothing, so only well-formed ones matter here. An option
//! that is not known may mean anything: with one, no write is repeatable.

use super::{Args, Safety, number, upper};

/// A time to live of so many milliseconds does not run out between a call's first attempt and its last, which with
/// the default settings are little more than a minute apart.
const OUTLASTS_REPEATS: u64 = 10 * 60 * 1000;

/// The milliseconds of a second and of a millisecond.
pub(super) const SECONDS: u64 = 1000;
pub(super) const MILLISECONDS: u64 = 1;

/// Where a command begins to read what is added to a key.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Reading {
    /// It says where, or does not wait.
    FromAPlace,
    /// It waits for what comes after the moment at which it runs.
    FromNowOn,
    /// It has an option that is not known.
    Unknown,
}

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
    around_fields(args.skip(1), 2).is_some_and(|options| sets_again(options.into_iter()))
}

/// Whether what is set a second time is set the same, and the reply says so: with a time to live, that starts
/// anew. With `XX` the second run must find what the first one has set, so it must still live.
fn sets_again<'a>(mut options: impl Args<'a>) -> bool {
    let mut only_existing = false;
    let mut lives_on = true;
    while let Some(option) = options.next() {
        match &*upper(option) {
            b"XX" | b"FXX" => only_existing = true,
            b"KEEPTTL" => {}
            b"EX" => lives_on = outlasts_repeats(options.next(), SECONDS),
            b"PX" => lives_on = outlasts_repeats(options.next(), MILLISECONDS),
            b"EXAT" | b"PXAT" => {
                lives_on = false;
                options.next();
            }
            _ => return false,
        }
    }
    lives_on || !only_existing
}

/// `GETEX key [EX … | PX … | EXAT … | PXAT … | PERSIST]`
pub(super) fn getex<'a>(args: impl Args<'a>) -> Safety {
    gets_again(args.skip(1))
}

/// `HGETEX key [EX … | PX … | EXAT … | PXAT … | PERSIST] FIELDS numfields field …`
pub(super) fn hgetex<'a>(args: impl Args<'a>) -> Safety {
    around_fields(args.skip(1), 1).map_or(Safety::Unsafe, |options| gets_again(options.into_iter()))
}

/// Where the time to live runs out before the second run, that finds no value any more.
fn gets_again<'a>(mut options: impl Args<'a>) -> Safety {
    let mut safety = Safety::ReadOnly;
    while let Some(option) = options.next() {
        safety = match &*upper(option) {
            b"PERSIST" => Safety::Repeatable,
            b"EX" if outlasts_repeats(options.next(), SECONDS) => Safety::Repeatable,
            b"PX" if outlasts_repeats(options.next(), MILLISECONDS) => Safety::Repeatable,
            _ => return Safety::Unsafe,
        };
    }
    safety
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`, with seconds of so many milliseconds
///
/// Nothing or `XX`: the time to live starts anew. `NX`, `GT`, `LT`: the first run decides the second. What has run
/// out meanwhile, or is deleted at once by zero seconds or fewer, is not found again.
pub(super) fn expire<'a>(args: impl Args<'a>, unit: u64) -> bool {
    let mut options = args.skip(1);
    outlasts_repeats(options.next(), unit) && only(options, &[("XX", 0)])
}

/// `HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field …`
pub(super) fn hexpire<'a>(args: impl Args<'a>, unit: u64) -> bool {
    let mut options = args.skip(1);
    outlasts_repeats(options.next(), unit)
        && around_fields(options, 1).is_some_and(|options| only(options.into_iter(), &[("XX", 0)]))
}

/// `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`
///
/// Without `REPLACE`, the second run finds that the key is there.
pub(super) fn restore<'a>(args: impl Args<'a>) -> bool {
    let mut options = args.skip(3);
    only(options.clone(), &[("REPLACE", 0), ("ABSTTL", 0), ("IDLETIME", 1), ("FREQ", 1)])
        && options.any(|option| option.eq_ignore_ascii_case(b"REPLACE"))
}

/// `FUNCTION LOAD [REPLACE] code`
pub(super) fn function_load<'a>(mut args: impl Args<'a>) -> bool {
    args.next().is_some_and(|option| option.eq_ignore_ascii_case(b"REPLACE")) && args.count() == 1
}

/// `BITFIELD key [GET type offset | OVERFLOW … | SET … | INCRBY …] …`
///
/// `SET` gives back the old value.
pub(super) fn bitfield<'a>(args: impl Args<'a>) -> Safety {
    let reads = only(args.skip(1), &[("GET", 2), ("OVERFLOW", 1)]);
    if reads { Safety::ReadOnly } else { Safety::Unsafe }
}

/// `BITOP operation destination source …`
pub(super) fn bitop<'a>(mut args: impl Args<'a>) -> bool {
    let known = matches!(
        &*upper(args.next().unwrap_or_default()),
        b"AND" | b"OR" | b"XOR" | b"NOT" | b"DIFF" | b"DIFF1" | b"ANDOR" | b"ONE"
    );
    known && stores_apart(args)
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

/// `ZUNIONSTORE destination numkeys source … [WEIGHTS weight …] [AGGREGATE function]` and its like
pub(super) fn stores_counted_apart<'a>(mut args: impl Args<'a>) -> bool {
    let destination = args.next();
    let Some(sources) = number::<usize>(args.next()) else { return false };
    args.clone().take(sources).all(|source| Some(source) != destination)
        && only(args.skip(sources), &[("WEIGHTS", sources), ("AGGREGATE", 1)])
}

/// `ZRANGESTORE destination source start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count]`
pub(super) fn zrangestore<'a>(args: impl Args<'a>) -> bool {
    stores_apart(args.clone().take(2))
        && only(args.skip(4), &[("BYSCORE", 0), ("BYLEX", 0), ("REV", 0), ("LIMIT", 2)])
}

/// `GEOSEARCHSTORE destination source FROM… BY… [ASC | DESC] [COUNT count [ANY]] [STOREDIST]`
pub(super) fn geosearchstore<'a>(args: impl Args<'a>) -> bool {
    let known = [
        ("FROMMEMBER", 1),
        ("FROMLONLAT", 2),
        ("BYRADIUS", 2),
        ("BYBOX", 3),
        ("ASC", 0),
        ("DESC", 0),
        ("COUNT", 1),
        ("ANY", 0),
        ("STOREDIST", 0),
    ];
    stores_apart(args.clone().take(2)) && only(args.skip(2), &known)
}

/// `GEORADIUS key longitude latitude radius unit [options] [STORE destination | STOREDIST destination]`, or
/// with a member in place of longitude and latitude: a `center` of two arguments or of one.
pub(super) fn georadius<'a>(mut args: impl Args<'a>, center: usize) -> Safety {
    let source = args.next();
    let mut options = args.skip(center + 2);
    let mut safety = Safety::ReadOnly;
    while let Some(option) = options.next() {
        match &*upper(option) {
            b"WITHCOORD" | b"WITHDIST" | b"WITHHASH" | b"ASC" | b"DESC" | b"ANY" => {}
            b"COUNT" => drop(options.next()),
            b"STORE" | b"STOREDIST" if options.next() != source => safety = Safety::Repeatable,
            _ => return Safety::Unsafe,
        }
    }
    safety
}

/// `XREAD [COUNT count] [BLOCK milliseconds] STREAMS key … id …`
///
/// `$` and `+` mean what is the last entry when the command runs. Whoever waits for what comes behind it would not
/// see, from the second run, what has come since the first.
pub(super) fn xread<'a>(mut args: impl Args<'a>) -> Reading {
    let mut waits = false;
    while let Some(option) = args.next() {
        match &*upper(option) {
            b"COUNT" => drop(args.next()),
            b"BLOCK" => {
                waits = true;
                args.next();
            }
            b"STREAMS" => break,
            _ => return Reading::Unknown,
        }
    }
    let streams = args.clone().count() / 2;
    reading(waits, args.skip(streams))
}

/// `TS.READ key timestamp [BLOCK milliseconds count] [MAX_COUNT count]`, where `$` and `+` are as for `XREAD`
pub(super) fn ts_read<'a>(args: impl Args<'a>) -> Reading {
    let mut options = args.clone().skip(2);
    let waits = options.any(|option| option.eq_ignore_ascii_case(b"BLOCK"));
    reading(waits, args.skip(1).take(1))
}

fn reading<'a>(waits: bool, mut from: impl Args<'a>) -> Reading {
    let from_now_on = from.any(|id| matches!(id, b"$" | b"+"));
    if waits && from_now_on { Reading::FromNowOn } else { Reading::FromAPlace }
}

/// `JSON.SET key path value`
///
/// A path that selects by values, by positions or at any depth may select something else the second time, so it must
/// be one of names alone: `$`, `$.a.b`, `.a`.
pub(super) fn json_set<'a>(mut args: impl Args<'a>) -> bool {
    let path = args.nth(1).unwrap_or_default();
    let names =
        path.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'$' | b'.' | b'_' | b'-'));
    names && !path.windows(2).any(|pair| pair == b"..") && args.count() == 1
}

/// `FT.AGGREGATE index query [options]`, and its like: a cursor stays behind on the server.
pub(super) fn aggregate<'a>(mut args: impl Args<'a>) -> Safety {
    let leaves_cursor = args.any(|option| option.eq_ignore_ascii_case(b"WITHCURSOR"));
    if leaves_cursor { Safety::Unsafe } else { Safety::ReadOnly }
}

/// The options in front of `FIELDS numfields field …` and behind it, where a field is of `width` arguments; `None`
/// when their number can't be read.
fn around_fields<'a>(mut args: impl Args<'a>, width: usize) -> Option<Vec<&'a [u8]>> {
    let mut options = Vec::new();
    while let Some(option) = args.next() {
        if option.eq_ignore_ascii_case(b"FIELDS") {
            let fields = number::<usize>(args.next())?;
            args.by_ref().take(fields.checked_mul(width)?).for_each(drop);
        } else {
            options.push(option);
        }
    }
    Some(options)
}

/// Whether all `options` are known, each with so many arguments of its own.
fn only<'a>(mut options: impl Args<'a>, known: &[(&str, usize)]) -> bool {
    while let Some(option) = options.next() {
        let option = upper(option);
        let Some((_, arguments)) = known.iter().find(|(name, _)| name.as_bytes() == &*option) else {
            return false;
        };
        options.by_ref().take(*arguments).for_each(drop);
    }
    true
}

fn outlasts_repeats(argument: Option<&[u8]>, unit: u64) -> bool {
    number::<u64>(argument).is_some_and(|time| time.saturating_mul(unit) >= OUTLASTS_REPEATS)
}
