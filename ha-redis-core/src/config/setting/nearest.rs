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

/// Returns how many bytes are to be inserted, removed or replaced, or exchanged with the next, ignoring case.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.to_ascii_lowercase(), other.to_ascii_lowercase());
    let (one, other) = (one.as_bytes(), other.as_bytes());
    // The distances of the beginnings of `one` to those of `other`, for the last two lengths.
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for at in 0..one.len() {
        let mut next = vec![at + 1];
        for to in 0..other.len() {
            let replaced = row[to] + usize::from(one[at] != other[to]);
            let mut least = replaced.min(row[to + 1] + 1).min(next[to] + 1);
            if at > 0 && to > 0 && one[at] == other[to - 1] && one[at - 1] == other[to] {
                least = least.min(before[to - 1] + 1);
            }
            next.push(least);
        }
        before = mem::replace(&mut row, next);
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_name() {
        let names = ["host", "sentinel_hosts", "db", "ssl_certfile", "ssl_keyfile"];
        for (word, name) in [
            ("hots", Some("host")),
            ("HOST", Some("host")),
            ("hosts", Some("host")),
            ("hto", None),
            ("sentinel_host", Some("sentinel_hosts")),
            ("sentinel-hots", Some("sentinel_hosts")),
            ("d", None),
            ("sl_certfiel", Some("ssl_certfile")),
            ("", None),
        ] {
            assert_eq!(nearest(word, names.into_iter()), name, "{word}");
        }
    }
}
