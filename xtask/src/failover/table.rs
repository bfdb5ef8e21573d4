//! The results of all runs.

use std::fmt::Write;

use serde::Serialize;

use super::Commands;
use super::fault::Fault;
use super::promises;
use super::trial::Run;
use crate::load::record::Errors;
use crate::output::millis;

/// The runs of one fault.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    fault: Fault,
    commands: Commands,
    runs: Vec<Run>,
    broken_promises: Vec<String>,
}

impl Figures {
    /// Creates the figures. `unfinished` has the reasons of the runs without a result.
    pub(crate) fn new(fault: Fault, commands: Commands, runs: Vec<Run>, unfinished: Vec<String>) -> Self {
        let mut broken_promises = promises::broken(fault, commands, &runs);
        broken_promises.extend(unfinished);
        Self { fault, commands, runs, broken_promises }
    }

    pub(crate) fn kept(&self) -> bool {
        self.broken_promises.is_empty()
    }

    fn cells(&self) -> [String; 8] {
        let first_successes = self.runs.iter().filter_map(|run| run.first_success_ms).collect();
        let pauses = self.runs.iter().map(|run| run.longest_pause_ms).collect();
        let lost = self.runs.iter().map(|run| run.lost as f64).collect();
        let sent = self.runs.iter().filter_map(|run| run.sent_to_old_master).max();
        [
            format!("{}, {}", self.fault.name(), self.commands.title()),
            self.runs.len().to_string(),
            median_and_worst(first_successes, millis),
            median_and_worst(pauses, millis),
            self.errors(),
            median_and_worst(lost, |lost| lost.round().to_string()),
            sent.map_or_else(none, |sent| sent.to_string()),
            if self.kept() { "kept".into() } else { "BROKEN".into() },
        ]
    }

    /// Formats the errors of all runs by outcome, and the most that one caller had in one run.
    fn errors(&self) -> String {
        let sum = |count: fn(&Errors) -> u64| self.runs.iter().map(|run| count(&run.errors)).sum::<u64>();
        let outcomes = [
            (sum(|errors| errors.not_sent), "not sent"),
            (sum(|errors| errors.not_applied), "not applied"),
            (sum(|errors| errors.maybe_applied), "maybe applied"),
            (sum(|errors| errors.applied), "applied"),
        ];
        let some = outcomes.iter().filter(|(count, _)| *count > 0);
        let some: Vec<String> = some.map(|(count, outcome)| format!("{count} {outcome}")).collect();
        let most = self.runs.iter().map(|run| run.most_errors_of_a_caller).max().unwrap_or(0);
        if some.is_empty() { "0".into() } else { format!("{}, ≤ {most} a caller", some.join(", ")) }
    }
}

const HEADS: [&str; 8] = [
    "fault, commands",
    "runs",
    "first success after the promotion",
    "longest pause",
    "failed calls",
    "acknowledged writes lost",
    "sent to the old master",
    "promises",
];

/// Returns the table in Markdown, with the broken promises below it. Pairs are the median and the worst value.
pub(crate) fn text(figures: &[Figures]) -> String {
    let mut text = table(&HEADS, &figures.iter().map(Figures::cells).collect::<Vec<_>>());
    for Figures { fault, commands, broken_promises, .. } in figures {
        for broken in broken_promises {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "\n✗ {}, {}: {broken}", fault.name(), commands.title());
        }
    }
    text
}

fn table<const N: usize>(heads: &[&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].as_str()).chain([heads[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let rule = widths.map(|width| "-".repeat(width));
    let mut text = line(*heads) + &line(rule.each_ref().map(String::as_str));
    rows.iter().for_each(|row| text.push_str(&line(row.each_ref().map(String::as_str))));
    text
}

fn median_and_worst(mut values: Vec<f64>, show: impl Fn(f64) -> String) -> String {
    values.sort_by(f64::total_cmp);
    let [.., worst] = values[..] else { return none() };
    // For an even number of values, the mean of the two middle ones.
    let middle = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
    format!("{} / {}", show(middle), show(worst))
}

fn none() -> String {
    "–".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_worst_shown() {
        let show = |values: &[f64]| median_and_worst(values.to_vec(), |value| value.to_string());
        assert_eq!(show(&[3.0, 1.0, 2.0]), "2 / 3");
        assert_eq!(show(&[4.0, 1.0, 2.0, 30.0]), "3 / 30");
        assert_eq!(show(&[]), "–");
    }

    #[test]
    fn table_lists_failures_and_broken_promises() {
        let errors = Errors { maybe_applied: 8, ..Errors::default() };
        let good = Run { first_success_ms: Some(1.0), errors, most_errors_of_a_caller: 1, ..Run::default() };
        let late = Run { first_success_ms: Some(70.0), ..Run::default() };
        let text = text(&[Figures::new(Fault::Kill, Commands::Incr, vec![good, late], Vec::new())]);
        assert!(text.contains("| 35.5 ms / 70.0 ms "), "{text}");
        assert!(text.contains("| 8 maybe applied, ≤ 1 a caller |"), "{text}");
        assert!(text.contains("| BROKEN"), "{text}");
        assert!(
            text.ends_with("✗ kill, INCR: first success after the promotion: 70.0 ms, not within 50.0 ms\n")
        );
    }
}
