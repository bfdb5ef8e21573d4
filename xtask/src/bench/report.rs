//! The tables, as Markdown that is also readable as plain text.

use super::figures::Figure;
use super::plan::{Case, Client};
use super::results::Results;
use super::targets;
use super::targets::{Against, Comparison, INSTRUCTIONS, MEMORY};
use crate::output::count;

const TABLES: [Figure; 6] =
    [Figure::Throughput, Figure::Cpu, Figure::P50, Figure::P99, Figure::P999, Figure::Background];

/// The readers of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Developers of the client, who need its targets.
    Developer,
    User,
}

/// Returns the whole report of a run.
pub(super) fn markdown(results: &Results, reader: Reader) -> String {
    let mut parts = vec![provenance(results)];
    parts.extend(TABLES.into_iter().filter_map(|figure| figures(results, figure)));
    parts.extend(callers(results, reader));
    parts.extend(comparisons(results, reader));
    parts.extend(results.failures().map(|(case, client, failures, first)| {
        format!("{case}: {} calls of {} failed, such as: {first}", count(failures), client.name())
    }));
    parts.join("\n\n") + "\n"
}

pub(super) fn provenance(results: &Results) -> String {
    let versions = results.versions.iter().map(|(package, version)| format!("{package} {version}"));
    format!(
        "Medians of {} measurements of {} s each, 2 worker threads. {}.\n{}.",
        results.rounds,
        results.seconds,
        results.machine.text(),
        versions.collect::<Vec<_>>().join(", ")
    )
}

/// Returns the table of a figure for every client and load, or `None` if there are no values.
fn figures(results: &Results, figure: Figure) -> Option<String> {
    let rows = results.cases.iter().map(|case| {
        let cells = results.clients.iter().map(|client| results.median(*case, *client, figure));
        (case.to_string(), cells.map(|value| value.map(number)).collect())
    });
    table(figure.title(), &names(&results.clients), rows.collect())
}

/// Returns the table of what is measured once per client: the memory of its callers and the instructions of a call.
fn callers(results: &Results, reader: Reader) -> Option<String> {
    let clients = &results.clients;
    let memory = clients.iter().map(|client| results.memory(*client).map(|value| format!("{value:.1}")));
    let instructions = clients.iter().map(|client| results.instructions.get(client).copied().map(number));
    let rows = vec![
        ("MB for 10,000 callers".to_owned(), memory.collect()),
        ("Instructions for a GET".to_owned(), instructions.collect()),
    ];
    let table = table("Client alone", &names(clients), rows)?;
    if reader == Reader::User {
        return Some(table);
    }
    let verdict = |name: &str, value: Option<f64>, most: f64| {
        let value = value?;
        let word = if value <= most { "met" } else { "short" };
        Some(format!("{name} ≤ {}: {word}", number(most)))
    };
    let verdicts = [
        verdict("ha-redis: MB", results.memory(Client::HaRedis), MEMORY),
        verdict("ha-redis: instructions", results.instructions.get(&Client::HaRedis).copied(), INSTRUCTIONS),
    ];
    let verdicts: Vec<String> = verdicts.into_iter().flatten().collect();
    Some(format!("{table}\n\n{}", verdicts.join("; ")).trim_end().to_owned())
}

/// Returns the table of ha-redis as a multiple of others. For developers it includes the targets.
fn comparisons(results: &Results, reader: Reader) -> Option<String> {
    let comparisons = targets::comparisons(results.ours);
    let titles: Vec<_> = comparisons.iter().map(|comparison| comparison.title()).collect();
    let cell = |comparison: Comparison, case: Case| {
        let ratio = comparison.ratio(results, case)?;
        let target = comparison.target(case).filter(|_| reader == Reader::Developer);
        Some(match target {
            None => format!("{ratio:.2}"),
            Some(target) if target.is_met(ratio) => format!("{ratio:.2} ({} met)", target.text()),
            Some(target) => format!("{ratio:.2} ({} short)", target.text()),
        })
    };
    let rows = results.cases.iter().map(|case| {
        (case.to_string(), comparisons.iter().map(|comparison| cell(*comparison, *case)).collect())
    });
    let title = format!("{} as a multiple of", results.ours.name());
    table(&title, &titles, rows.collect())
}

impl Comparison {
    pub(super) fn title(self) -> &'static str {
        match (self.figure, self.against) {
            (Figure::Throughput, Against::Client(Client::RedisRs | Client::RedisRsSmol)) => {
                "redis-rs: commands a second"
            }
            (Figure::Throughput, Against::Client(Client::HaRedis)) => "ha-redis on Tokio: commands a second",
            (Figure::Throughput, Against::Client(_)) => "rustis: commands a second",
            (Figure::Throughput, Against::BestPeer) => "best peer: commands a second",
            (Figure::Cpu, _) => "redis-rs: CPU",
            (Figure::P50, _) => "redis-rs: p50",
            _ => "redis-rs: p99",
        }
    }
}

fn names(clients: &[Client]) -> Vec<&'static str> {
    clients.iter().map(|client| client.name()).collect()
}

/// Returns a table without its empty rows, or `None` if all rows are empty.
pub(super) fn table(
    title: &str,
    columns: &[&str],
    rows: Vec<(String, Vec<Option<String>>)>,
) -> Option<String> {
    let mut lines = vec![[&[title], columns].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (name, cells) in rows.into_iter().filter(|(_, cells)| cells.iter().any(Option::is_some)) {
        let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "–".to_owned()));
        lines.push([name].into_iter().chain(cells).collect());
    }
    if lines.len() == 1 {
        return None;
    }
    let widths: Vec<usize> = (0..=columns.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text: Vec<String> = lines.iter().map(|line| row(line, &widths)).collect();
    let rule = widths.iter().enumerate().map(|(column, width)| match column {
        0 => "-".repeat(width + 2),
        _ => "-".repeat(width + 1) + ":",
    });
    text.insert(1, format!("|{}|", rule.collect::<Vec<_>>().join("|")));
    Some(text.join("\n"))
}

fn row(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
        0 => format!("{cell:<width$}"),
        _ => format!("{cell:>width$}"),
    });
    format!("| {} |", padded.collect::<Vec<_>>().join(" | "))
}

/// Formats a number with its significant digits.
pub(super) fn number(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => count(value.round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_omits_empty_rows() {
        let rows = vec![
            ("first".to_owned(), vec![Some(number(1234.4)), None]),
            ("second".to_owned(), vec![None, None]),
        ];
        let expected = "| What  |    ha | b |\n|-------|------:|--:|\n| first | 1,234 | – |";
        assert_eq!(table("What", &["ha", "b"], rows).as_deref(), Some(expected));
        assert_eq!(table("What", &["ha"], vec![("none".to_owned(), vec![None])]), None);
    }

    #[test]
    fn numbers_have_significant_digits() {
        assert_eq!([1.234, 12.34, 123.4, 56_789.0].map(number), ["1.23", "12.3", "123", "56,789"]);
    }
}
