//! Output of commands: the folder of their files, the font of their drawings, and number formats.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plotters::style::{FontStyle, register_font};

/// Returns the folder for a command's files, in `target/`.
pub(crate) fn folder(command: &str) -> PathBuf {
    workspace().join("target").join(command)
}

/// Returns the folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let package =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().unwrap_or(Path::new(".")).to_owned()
}

/// Registers the font `sans-serif` for the drawings, independently of the system's fonts.
pub(crate) fn register_sans_serif() -> Result<(), Box<dyn Error>> {
    register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| "the font cannot be read".into())
}

/// Formats a number with thousands separators.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats milliseconds with their significant digits.
pub(crate) fn millis(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2} ms"),
        10.0..100.0 => format!("{value:.1} ms"),
        _ => format!("{value:.0} ms"),
    }
}

pub(crate) fn in_millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.123, 12.34, 1234.5].map(millis), ["0.12 ms", "12.3 ms", "1234 ms"]);
    }
}
