use proptest::prelude::*;

use super::*;
use crate::command::{command, tables};
use crate::proto::written::hostile_bytes;

/// Each line is a command and its keys; a test with real servers uses the file too.
const SAMPLES: &str = include_str!("tables/key_samples.txt");

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().map(|word| if word == r#""""# { "" } else { word }).collect()
}

fn keys_of(cmd: &Cmd) -> Option<Vec<&[u8]>> {
    Some(keys(cmd).slot_arguments()?.iter().collect())
}

#[test]
fn keys_of_samples() {
    for line in SAMPLES.lines() {
        let (text, expected) = line.split_once(" => ").unwrap_or_else(|| panic!("{line}"));
        let (expected, are_keys) = match expected.strip_suffix(" (not keys)") {
            Some(expected) => (expected, false),
            None => (expected, true),
        };
        let mut cmd = Cmd::new();
        words(text).into_iter().for_each(|word| _ = cmd.arg(word));
        let found = match keys(&cmd) {
            CommandKeys::Keys(keys) if are_keys => keys,
            CommandKeys::NotKeys(keys) if !are_keys => keys,
            CommandKeys::Keyless => {
                assert_eq!(expected, "-", "{line}");
                continue;
            }
            other => panic!("{line}: {other:?}"),
        };
        let expected: Vec<_> = words(expected).into_iter().map(str::as_bytes).collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{line}");
        assert_eq!(found.first(), expected[0], "{line}");
        let at_positions: Vec<_> = found.positions().map(|at| arguments(&cmd).nth(at).unwrap()).collect();
        assert_eq!(at_positions, expected, "{line}");
    }
}

#[test]
fn unknown_commands_are_told_apart() {
    for text in ["NEWCOMMAND k", "OBJECT NEW k", "", "GE", "GETT k"] {
        assert!(matches!(keys(&command(text)), CommandKeys::Unknown), "{text}");
    }
}

#[test]
fn cursor_of_an_iterator_is_an_argument() {
    let mut scan = redis::cmd("HSCAN");
    scan.arg("k").cursor_arg(0).arg("COUNT").arg(5);
    assert_eq!(keys_of(&scan), Some(vec![&b"k"[..]]));
}

proptest! {
    #[test]
    fn keys_are_arguments_whatever_the_arguments(
        name in prop::sample::select(tables::entries().map(|entry| entry.words()).collect::<Vec<_>>()),
        args in prop::collection::vec(
            prop_oneof![
                hostile_bytes(),
                prop::sample::select(&["1", "2", "3", "STORE", "STREAMS", "KEYS", "COUNT", "GROUP", "-1"][..])
                    .prop_map(|word| word.as_bytes().to_vec()),
            ],
            0..12,
        ),
    ) {
        let mut cmd = command(&name);
        args.iter().for_each(|arg| _ = cmd.arg(arg.as_slice()));
        if let Some(keys) = keys(&cmd).slot_arguments() {
            let all: Vec<_> = arguments(&cmd).collect();
            let positions: Vec<_> = keys.positions().collect();
            prop_assert!(!positions.is_empty() && positions.is_sorted_by(|a, b| a < b));
            prop_assert!(positions.iter().all(|at| (1..all.len()).contains(at)));
            let expected: Vec<_> = positions.iter().map(|at| all[*at]).collect();
            prop_assert_eq!(keys.iter().collect::<Vec<_>>(), expected);
        }
    }
}
