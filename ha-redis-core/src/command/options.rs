//! The commands whose arguments determine whether they may run twice.
//!
//! A command that the server refuses for its syntax changes nothing, so only well-formed ones matter here. An unknown
//! option may mean anything: no write with one is repeatable.

use super::{Args, Safety, number, upper};

/// The shortest time to live, in milliseconds, that cannot expire between a call's first attempt and its last. With
/// the default settings these are little more than a minute apart.
const MIN_REPEATABLE_TTL_MILLIS: u64 = 10 * 60 * 1000;

/// Units of a time to live, in milliseconds.
pub(super) const SECONDS: u64 = 1000;
pub(super) const MILLISECONDS: u64 = 1;

/// Where a command starts to read entries.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum ReadStart {
    /// At a given position, or without blocking.
    AtPosition,
    /// At the moment at which the command runs: it waits for later entries.
    FromNowOn,
    /// Unknown, because of an unknown option.
    Unknown,
}

/// `SET key value [NX | XX | IFEQ …] [GET] [EX … | PX … | EXAT … | PXAT … | KEEPTTL]`
///
/// `NX`: the second run does not set. `GET`: the second run returns the new value. `IFEQ` and similar: the second run
/// compares with the new value.
pub(super) fn set<'a>(args: impl Args<'a>) -> bool {
    set_is_repeatable(args.skip(2))
}

/// `MSETEX numkeys key value [key value …] [NX | XX] [EX … | PX … | EXAT … | PXAT … | KEEPTTL]`
pub(super) fn msetex<'a>(mut args: impl Args<'a>) -> bool {
    let pairs = number::<usize>(args.next());
    pairs.is_some_and(|pairs| set_is_repeatable(args.skip(pairs.saturating_mul(2))))
}

/// `HSETEX key [FNX | FXX] [EX … | PX … | EXAT … | PXAT … | KEEPTTL] FIELDS numfields field value …`
pub(super) fn hsetex<'a>(args: impl Args<'a>) -> bool {
    options_around_fields(args.skip(1), 2).is_some_and(|options| set_is_repeatable(options.into_iter()))
}

/// Returns true if a second run with these options sets the same and gives the same reply. A time to live starts
/// anew. With `XX` the second run must find what the first one has set, so that must not have expired.
fn set_is_repeatable<'a>(mut options: impl Args<'a>) -> bool {
    let mut only_existing = false;
    let mut outlasts = true;
    while let Some(option) = options.next() {
        match &*upper(option) {
            b"XX" | b"FXX" => only_existing = true,
            b"KEEPTTL" => {}
            b"EX" => outlasts = outlasts_repeats(options.next(), SECONDS),
            b"PX" => outlasts = outlasts_repeats(options.next(), MILLISECONDS),
            b"EXAT" | b"PXAT" => {
                outlasts = false;
                options.next();
            }
            _ => return false,
        }
    }
    outlasts || !only_existing
}

/// `GETEX key [EX … | PX … | EXAT … | PXAT … | PERSIST]`
pub(super) fn getex<'a>(args: impl Args<'a>) -> Safety {
    get_safety(args.skip(1))
}

/// `HGETEX key [EX … | PX … | EXAT … | PXAT … | PERSIST] FIELDS numfields field …`
pub(super) fn hgetex<'a>(args: impl Args<'a>) -> Safety {
    options_around_fields(args.skip(1), 1).map_or(Safety::Unsafe, |options| get_safety(options.into_iter()))
}

/// Returns the safety of a get with these options. If the time to live expires before the second run, that finds no
/// value.
fn get_safety<'a>(mut options: impl Args<'a>) -> Safety {
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

/// `EXPIRE key seconds [NX | XX | GT | LT]`, where a second has `unit` milliseconds
///
/// Without options or with `XX` the time to live starts anew. With `NX`, `GT` or `LT` the first run changes the
/// result of the second. A key that has expired meanwhile, or that zero or fewer seconds delete immediately, is
/// missing in the second run.
pub(super) fn expire<'a>(args: impl Args<'a>, unit: u64) -> bool {
    let mut options = args.skip(1);
    outlasts_repeats(options.next(), unit) && only_known(options, &[("XX", 0)])
}

/// `HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field …`
pub(super) fn hexpire<'a>(args: impl Args<'a>, unit: u64) -> bool {
    let mut options = args.skip(1);
    outlasts_repeats(options.next(), unit)
        && options_around_fields(options, 1)
            .is_some_and(|options| only_known(options.into_iter(), &[("XX", 0)]))
}

/// `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`
///
/// Without `REPLACE`, the second run fails because the key exists.
pub(super) fn restore<'a>(args: impl Args<'a>) -> bool {
    let mut options = args.skip(3);
    only_known(options.clone(), &[("REPLACE", 0), ("ABSTTL", 0), ("IDLETIME", 1), ("FREQ", 1)])
        && options.any(|option| option.eq_ignore_ascii_case(b"REPLACE"))
}

/// `FUNCTION LOAD [REPLACE] code`
pub(super) fn function_load<'a>(mut args: impl Args<'a>) -> bool {
    args.next().is_some_and(|option| option.eq_ignore_ascii_case(b"REPLACE")) && args.count() == 1
}

/// `BITFIELD key [GET type offset | OVERFLOW … | SET … | INCRBY …] …`
///
/// `SET` returns the old value.
pub(super) fn bitfield<'a>(args: impl Args<'a>) -> Safety {
    let reads = only_known(args.skip(1), &[("GET", 2), ("OVERFLOW", 1)]);
    if reads { Safety::ReadOnly } else { Safety::Unsafe }
}

/// `BITOP operation destination source …`
pub(super) fn bitop<'a>(mut args: impl Args<'a>) -> bool {
    let known = matches!(
        &*upper(args.next().unwrap_or_default()),
        b"AND" | b"OR" | b"XOR" | b"NOT" | b"DIFF" | b"DIFF1" | b"ANDOR" | b"ONE"
    );
    known && destination_is_no_source(args)
}

/// `SORT key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC | DESC] [ALPHA] [STORE destination]`
///
/// The destination may be the source, or a key that a pattern matches.
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

/// `destination source …`: returns true if the destination is none of the sources, which the second run reads again.
pub(super) fn destination_is_no_source<'a>(mut keys: impl Args<'a>) -> bool {
    let destination = keys.next();
    keys.all(|source| Some(source) != destination)
}

/// `ZUNIONSTORE destination numkeys source … [WEIGHTS weight …] [AGGREGATE function]` and similar commands
pub(super) fn zset_store<'a>(mut args: impl Args<'a>) -> bool {
    let destination = args.next();
    let Some(sources) = number::<usize>(args.next()) else { return false };
    args.clone().take(sources).all(|source| Some(source) != destination)
        && only_known(args.skip(sources), &[("WEIGHTS", sources), ("AGGREGATE", 1)])
}

/// `ZRANGESTORE destination source start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count]`
pub(super) fn zrangestore<'a>(args: impl Args<'a>) -> bool {
    destination_is_no_source(args.clone().take(2))
        && only_known(args.skip(4), &[("BYSCORE", 0), ("BYLEX", 0), ("REV", 0), ("LIMIT", 2)])
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
    destination_is_no_source(args.clone().take(2)) && only_known(args.skip(2), &known)
}

/// `GEORADIUS key longitude latitude radius unit [options] [STORE destination | STOREDIST destination]`, or with a
/// member instead of longitude and latitude: `center` is the number of these arguments.
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
/// `$` and `+` mean the last entry when the command runs. If the command waits for later entries, the second run
/// misses those that were added since the first.
pub(super) fn xread<'a>(mut args: impl Args<'a>) -> ReadStart {
    let mut waits = false;
    while let Some(option) = args.next() {
        match &*upper(option) {
            b"COUNT" => drop(args.next()),
            b"BLOCK" => {
                waits = true;
                args.next();
            }
            b"STREAMS" => break,
            _ => return ReadStart::Unknown,
        }
    }
    let streams = args.clone().count() / 2;
    read_start(waits, args.skip(streams))
}

/// `TS.READ key timestamp [BLOCK milliseconds count] [MAX_COUNT count]`, with `$` and `+` as for `XREAD`
pub(super) fn ts_read<'a>(args: impl Args<'a>) -> ReadStart {
    let mut options = args.clone().skip(2);
    let waits = options.any(|option| option.eq_ignore_ascii_case(b"BLOCK"));
    read_start(waits, args.skip(1).take(1))
}

fn read_start<'a>(waits: bool, mut from: impl Args<'a>) -> ReadStart {
    let from_now_on = from.any(|id| matches!(id, b"$" | b"+"));
    if waits && from_now_on { ReadStart::FromNowOn } else { ReadStart::AtPosition }
}

/// `JSON.SET key path value`
///
/// A path that selects by values, by positions or at any depth may select something else the second time, so only
/// paths of names are repeatable: `$`, `$.a.b`, `.a`.
pub(super) fn json_set<'a>(mut args: impl Args<'a>) -> bool {
    let path = args.nth(1).unwrap_or_default();
    let names =
        path.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'$' | b'.' | b'_' | b'-'));
    names && !path.windows(2).any(|pair| pair == b"..") && args.count() == 1
}

/// `FT.AGGREGATE index query [options]` and similar commands: a cursor remains on the server.
pub(super) fn aggregate<'a>(mut args: impl Args<'a>) -> Safety {
    let leaves_cursor = args.any(|option| option.eq_ignore_ascii_case(b"WITHCURSOR"));
    if leaves_cursor { Safety::Unsafe } else { Safety::ReadOnly }
}

/// Returns the options before and after `FIELDS numfields field …`, where a field has `width` arguments; `None` if
/// their number cannot be parsed.
fn options_around_fields<'a>(mut args: impl Args<'a>, width: usize) -> Option<Vec<&'a [u8]>> {
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

/// Returns true if all `options` are in `known`, which lists the number of arguments of each.
fn only_known<'a>(mut options: impl Args<'a>, known: &[(&str, usize)]) -> bool {
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
    number::<u64>(argument).is_some_and(|time| time.saturating_mul(unit) >= MIN_REPEATABLE_TTL_MILLIS)
}
