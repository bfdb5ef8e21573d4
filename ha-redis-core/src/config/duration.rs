//! Durations as text: seconds as a decimal number, or a number with a unit.

use std::time::Duration;

/// The units and their nanoseconds, the largest first.
const UNITS: [(&str, u128); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];
const SECOND: u128 = 1_000_000_000;

/// Reads `5`, `0.25`, `500ms`, `2m`, `1d` …; digits below a nanosecond are cut off.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let nanos_per_unit = match unit {
        "" => SECOND,
        _ => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() {
        return None;
    }
    let scale = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction = fraction.parse::<u128>().ok()?.checked_mul(nanos_per_unit)? / scale;
    let nanos = whole.parse::<u128>().ok()?.checked_mul(nanos_per_unit)?.checked_add(fraction)?;
    let seconds = u64::try_from(nanos / SECOND).ok()?;
    Some(Duration::new(seconds, u32::try_from(nanos % SECOND).ok()?))
}

/// Writes a whole number in the largest of `s`, `ms`, `us`, `ns` that loses no precision.
pub(super) fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, nanos_per_unit) =
        UNITS[3..].iter().find(|(_, size)| nanos.is_multiple_of(*size)).copied().unwrap_or(("ns", 1));
    format!("{}{unit}", nanos / nanos_per_unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_every_unit() {
        for (text, nanos) in [
            ("0", 0),
            ("5", 5_000_000_000),
            ("0.1", 100_000_000),
            ("1.000000001", 1_000_000_001),
            ("500ms", 500_000_000),
            ("1.5ms", 1_500_000),
            ("3us", 3_000),
            ("7ns", 7),
            ("2m", 120_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1d", 86_400_000_000_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn rejects_invalid_durations() {
        let long = "9".repeat(60);
        for text in ["", "s", ".5", "5.", "-1", "+1", "1.2.3", "5 s", "5x", "1e3", "NaN", "5S", &long] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn formats_in_largest_exact_unit() {
        for text in ["0s", "90s", "1500ms", "1us", "1000001ns"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }
}
