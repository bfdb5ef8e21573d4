//! What the README says of URLs.

use ha_redis_tokio::RedisConfig;

/// The rows of the table under this heading, as the code in their cells.
fn rows(heading: &str) -> Vec<Vec<Vec<&'static str>>> {
    let readme = include_str!("../../README.md").lines().map(str::trim);
    let rows = readme.skip_while(|line| *line != heading).skip(2).take_while(|line| line.starts_with('|'));
    let code = |cell: &'static str| cell.split('`').skip(1).step_by(2).collect();
    rows.map(|row| row.trim_matches('|').split('|').map(code).collect()).collect()
}

#[test]
fn urls_are_read_as_the_readme_says() {
    let rows = rows("| URL | is read as |");
    assert!(rows.len() >= 8, "the table is there");
    for row in rows {
        for url in &row[0] {
            let config: RedisConfig = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!([config.url().as_str()], *row[1], "{url}");
        }
    }
}

#[test]
fn what_the_readme_says_is_not_read_is_not() {
    let rows = rows("| URL | is not read |");
    assert!(rows.len() >= 7, "the table is there");
    for url in rows.iter().flat_map(|row| &row[0]) {
        assert!(url.parse::<RedisConfig>().is_err(), "{url}");
    }
}
