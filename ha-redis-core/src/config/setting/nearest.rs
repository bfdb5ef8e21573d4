//! Finds the name that a misspelled word was meant to be.

use std::mem;

/// Returns the name that differs from `word` by the fewest letters, and by no more than a quarter of its length.
pub(in crate::config) fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.filter_map(|name| {
        let max_distance = name.len() / 4;
        // Long words are not compared at all.
        let distance = (word.len().abs_diff(name.len()) <= max_distance).then(|| distance(word, name))?;
        (distance <= max_distance).then_some((distance, name))
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// Returns the Levenshtein distance, in bytes and ignoring case.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, byte) in one.bytes().enumerate() {
        let mut diagonal = mem::replace(&mut row[0], at + 1);
        for (to, other) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(!byte.eq_ignore_ascii_case(&other));
            diagonal = row[to + 1];
            row[to + 1] = replaced.min(row[to] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
