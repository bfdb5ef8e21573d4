//! Writes the figures of a run into the documentation: all of them into `docs/benchmarks.md`, and a bar chart into
//! the README.

use std::fs;
use std::path::{Path, PathBuf};

use super::chart;
use super::figures::Figure;
use super::plan::{Case, Client, Workload};
use super::report::{self, Reader, number};
use super::results::Results;
use crate::output::count;

/// This command replaces the text between these lines.
const BEGIN: &str = "<!-- bench: begin -->\n";
const END: &str = "<!-- bench: end -->\n";

/// The numbers of tasks that the README shows.
const SHOWN: [u32; 3] = [1, 64, 1_024];
const CLIENTS: [Client; 4] = [Client::HaRedis, Client::RedisRs, Client::Fred, Client::Rustis];
/// The length of the longest bar.
const WIDTH: f64 = 48.0;

/// Writes the documents of this workspace.
pub(super) fn write(results: &Results, workspace: &Path) -> Result<[PathBuf; 3], String> {
    let file = |name: &str| workspace.join(name);
    let (document, drawing, readme) =
        (file("docs/benchmarks.md"), file("docs/benchmarks.svg"), file("README.md"));
    replace_in(&document, &all(results))?;
    chart::draw(results, &drawing).map_err(|error| format!("cannot write {}: {error}", drawing.display()))?;
    replace_in(&readme, &summary(results))?;
    Ok([document, drawing, readme])
}

fn replace_in(file: &Path, part: &str) -> Result<(), String> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(|error| cannot(&error))?;
    let text = replaced(&text, part).ok_or_else(|| cannot(&"the marks for the figures are missing"))?;
    fs::write(file, text).map_err(|error| cannot(&error))
}

/// Returns `text` with `part` between its marks, or `None` if it has no marks.
fn replaced(text: &str, part: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}\n{END}{after}", part.trim_end()))
}

fn all(results: &Results) -> String {
    let workloads: Vec<Workload> = results.cases.iter().map(|case| case.workload).collect();
    let mut loads = vec!["| load | description |".to_owned(), "|---|---|".to_owned()];
    for (place, workload) in workloads.iter().enumerate() {
        if !workloads[..place].contains(workload) {
            loads.push(format!("| {} | {} |", workload.title(), workload.description()));
        }
    }
    format!(
        "## Loads\n\n{}\n\n## Figures of {}\n\n![Throughput, processor time and latency](benchmarks.svg)\n\n{}",
        loads.join("\n"),
        results.machine.date,
        report::markdown(results, Reader::User)
    )
}

/// Returns a bar chart as text, with the machine.
fn summary(results: &Results) -> String {
    let measured = |tasks: u32, client: Client| {
        let case = Case { workload: Workload::Get64, tasks };
        Some((tasks, client, results.median(case, client, Figure::Throughput)?))
    };
    let figures: Vec<_> = SHOWN
        .into_iter()
        .flat_map(|tasks| CLIENTS.into_iter().filter_map(move |client| measured(tasks, client)))
        .collect();
    format!(
        "```text\nGET of 64 bytes: commands per second, by number of tasks sharing the client\n{}\n```\n\n\
         Medians of {} runs of {}, {}.",
        bars(&figures).join("\n"),
        results.rounds,
        results.machine.date,
        results.machine.text()
    )
}

/// Returns a line for each figure. The first line of each group has the number of tasks.
fn bars(figures: &[(u32, Client, f64)]) -> Vec<String> {
    let most = figures.iter().map(|(.., value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let line = |(place, (tasks, client, value)): (usize, &(u32, Client, f64))| {
        let is_first = place == 0 || figures[place - 1].0 != *tasks;
        let group = if is_first { count((*tasks).into()) } else { String::new() };
        let bar = "█".repeat((value / most * WIDTH).round().max(1.0) as usize);
        format!("{group:>6}  {:<9} {bar} {}", client.name(), number(*value))
    };
    figures.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::{Figures, Latency};
    use crate::bench::machine::Machine;
    use crate::bench::plan::{Plan, Runtime};

    #[test]
    fn text_between_marks_replaced() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        let expected = format!("before\n{BEGIN}new\n{END}after\n");
        assert_eq!(replaced(&text, "new\n\n").as_deref(), Some(expected.as_str()));
        assert_eq!(replaced("no marks\n", "new"), None);
    }

    #[test]
    fn documents_have_marks() {
        for document in [include_str!("../../../README.md"), include_str!("../../../docs/benchmarks.md")] {
            assert!(replaced(document, "new").is_some());
        }
    }

    /// A run that misses the targets: redis-rs is twice as fast as ha-redis.
    fn results() -> Results {
        let case = Case { workload: Workload::Get64, tasks: 64 };
        let plan = Plan {
            runtime: Runtime::Tokio,
            rounds: 1,
            seconds: 1.0,
            clients: vec![Client::HaRedis, Client::RedisRs],
            cases: vec![case],
            instructions: Vec::new(),
        };
        let mut results = Results::new(Machine::here(Path::new("no-such-server")), &plan);
        for (client, per_second) in [(Client::HaRedis, 1_000.0), (Client::RedisRs, 2_000.0)] {
            let latency_us = Some(Latency { p50: 1.0, p99: 2.0, p999: 3.0, max: 4.0 });
            let figures = Figures {
                per_second,
                cpu_us: 1.0,
                latency_us,
                peak_kib: None,
                background_per_second: None,
                failures: 0,
                failure: None,
            };
            results.add(case, client, figures);
        }
        results
    }

    #[test]
    fn documents_show_figures_and_no_targets() {
        let results = results();
        let document = all(&results);
        assert!(document.contains(&format!("## Figures of {}", results.machine.date)), "{document}");
        assert!(document.contains(Workload::Get64.description()), "{document}");
        assert!(document.contains(" 0.50 |"), "{document}");
        let target = |text: &str| ["≥", "≤", " short", " met"].into_iter().any(|mark| text.contains(mark));
        assert!(!target(&document), "{document}");
        assert!(target(&report::markdown(&results, Reader::Developer)));
    }

    #[test]
    fn run_written_into_documents() {
        let workspace = tempfile::tempdir().unwrap();
        let file = |name: &str| workspace.path().join(name);
        fs::create_dir(file("docs")).unwrap();
        for name in ["README.md", "docs/benchmarks.md"] {
            fs::write(file(name), format!("# Title\n\n{BEGIN}{END}\nThe end.\n")).unwrap();
        }
        let results = results();
        write(&results, workspace.path()).unwrap();
        let read = |name: &str| fs::read_to_string(file(name)).unwrap();
        for (name, part) in [("README.md", summary(&results)), ("docs/benchmarks.md", all(&results))] {
            let expected = format!("# Title\n\n{BEGIN}{}\n{END}\nThe end.\n", part.trim_end());
            assert_eq!(read(name), expected);
        }
        assert!(read("docs/benchmarks.svg").starts_with("<svg"));
    }

    #[test]
    fn summary_shows_measured_figures() {
        let summary = summary(&results());
        assert!(summary.contains(&format!("    64  ha-redis  {} 1,000\n", "█".repeat(24))), "{summary}");
        assert!(summary.contains(&format!("        redis-rs  {} 2,000\n", "█".repeat(48))), "{summary}");
        assert!(!summary.contains("fred"), "{summary}");
    }

    #[test]
    fn bar_length_matches_figure() {
        let figures = [(1, Client::HaRedis, 1.0), (64, Client::HaRedis, 1_000.0), (64, Client::Fred, 500.0)];
        let lines = bars(&figures);
        let length = |line: &String| line.matches('█').count();
        assert_eq!(lines.iter().map(length).collect::<Vec<_>>(), [1, 48, 24]);
        assert!(lines[1].starts_with("    64  ha-redis "), "{}", lines[1]);
        assert!(lines[2].starts_with("        fred "), "{}", lines[2]);
    }
}
