//! The output while the demo runs: a live view on a terminal, otherwise plain lines.

use std::env;
use std::io::{self, IsTerminal, Stdout, Write};
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Padding, Paragraph, Sparkline, Widget};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};

use crate::load::record::{Errors, Latency, Snapshot};
use crate::output::{count, millis};

/// Where the demo shows its progress.
pub(crate) enum View {
    Live(Live),
    Plain(Plain),
}

impl View {
    /// Returns the live view if standard output is a terminal and plain text is not requested. With `json`,
    /// standard output has only the JSON, and plain lines go to standard error.
    pub(crate) fn new(title: String, length: Duration, json: bool) -> Self {
        let plain =
            Plain { out: if json { Box::new(io::stderr()) } else { Box::new(io::stdout()) }, last_line: 0 };
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        if json || dumb || is_set("NO_COLOR") || is_set("CI") || !io::stdout().is_terminal() {
            return Self::Plain(plain);
        }
        // A terminal that does not report its cursor position gets plain lines.
        Live::new(title, length).map_or(Self::Plain(plain), Self::Live)
    }

    /// Shows an event.
    pub(crate) fn event(&mut self, at: Duration, text: &str) {
        let shown = match self {
            Self::Live(live) => live.event(at, text),
            Self::Plain(plain) => plain.line(at, &format!("▶ {text}")),
        };
        // Output errors must not end the run.
        drop(shown);
    }

    /// Shows the current state.
    pub(crate) fn frame(&mut self, now: &Snapshot, master: &str) {
        let shown = match self {
            Self::Live(live) => live.frame(now, master),
            Self::Plain(plain) => plain.frame(now, master),
        };
        drop(shown);
    }
}

/// Plain lines of text.
pub(crate) struct Plain {
    out: Box<dyn Write>,
    /// The second that was last shown.
    last_line: u64,
}

impl Plain {
    fn line(&mut self, at: Duration, text: &str) -> io::Result<()> {
        writeln!(self.out, "{:>6.2} s  {text}", at.as_secs_f64())
    }

    fn frame(&mut self, now: &Snapshot, master: &str) -> io::Result<()> {
        let second = now.elapsed.as_secs();
        if second == self.last_line {
            return Ok(());
        }
        self.last_line = second;
        let rate = count(now.per_second);
        let (latency, errors) = (latency(now.latency), now.errors.total());
        self.line(now.elapsed, &format!("master {master}  {rate:>7} ops/s  {latency}  errors {errors}"))
    }
}

/// A few lines at the bottom of the terminal that are redrawn, with the events above them.
pub(crate) struct Live {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    title: String,
    length: Duration,
}

const HEIGHT: u16 = 9;

impl Live {
    fn new(title: String, length: Duration) -> io::Result<Self> {
        let options = TerminalOptions { viewport: Viewport::Inline(HEIGHT) };
        let mut terminal = Terminal::with_options(CrosstermBackend::new(io::stdout()), options)?;
        terminal.hide_cursor()?;
        Ok(Self { terminal, title, length })
    }

    fn event(&mut self, at: Duration, text: &str) -> io::Result<()> {
        let time = format!("{:>6.2} s  ", at.as_secs_f64());
        let line = Line::from(vec![Span::styled(time, dim()), Span::raw(text)]);
        self.terminal.insert_before(1, |buffer| line.render(buffer.area, buffer))
    }

    fn frame(&mut self, now: &Snapshot, master: &str) -> io::Result<()> {
        let (title, length) = (&self.title, self.length);
        self.terminal.draw(|frame| draw(frame, title, length, now, master)).map(drop)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // Also after a panic, the terminal is restored, with the cursor below the events.
        let top = self.terminal.get_frame().area().as_position();
        let _ = self.terminal.clear();
        let _ = self.terminal.set_cursor_position(top);
        let _ = self.terminal.show_cursor();
    }
}

fn draw(frame: &mut Frame<'_>, title: &str, length: Duration, now: &Snapshot, master: &str) {
    let elapsed = format!(" {:.1} s of {} s ", now.elapsed.as_secs_f64(), length.as_secs());
    let block = Block::bordered()
        .border_style(dim())
        .title(Span::styled(format!(" {title} "), Style::new().add_modifier(Modifier::BOLD)))
        .title(Line::from(elapsed).right_aligned())
        .padding(Padding::horizontal(1));
    let area = block.inner(frame.area());
    frame.render_widget(block, frame.area());

    let [text, chart] = Layout::vertical([Constraint::Length(5), Constraint::Fill(1)]).areas(area);
    let calls = now.calls;
    let calls = format!("INCR {}  GET {}  SET {}", count(calls.incr), count(calls.get), count(calls.set));
    let rows = vec![
        row("master", Span::raw(master)),
        row("throughput", Span::styled(format!("{} ops/s", count(now.per_second)), rate_color(now))),
        row("latency", Span::raw(latency(now.latency))),
        row("answered", Span::raw(calls)),
        row("errors", error_span(now.errors)),
    ];
    frame.render_widget(Paragraph::new(rows), text);
    let newest = now.throughput.len().saturating_sub(usize::from(chart.width));
    let sparkline = Sparkline::default().data(&now.throughput[newest..]).style(Color::Green);
    frame.render_widget(sparkline, chart);
}

fn row<'a>(name: &'a str, value: Span<'a>) -> Line<'a> {
    Line::from(vec![Span::styled(format!("{name:<12}"), dim()), value])
}

fn rate_color(now: &Snapshot) -> Color {
    // The latest slot, because the rate covers a whole second.
    if now.throughput.last().is_none_or(|rate| *rate == 0) { Color::Red } else { Color::Green }
}

fn error_span(errors: Errors) -> Span<'static> {
    let Errors { not_sent, not_applied, maybe_applied, applied } = errors;
    let color = if errors.total() == 0 { Color::Green } else { Color::Yellow };
    let text = format!(
        "not sent {not_sent}  not applied {not_applied}  maybe applied {maybe_applied}  applied {applied}"
    );
    Span::styled(text, color)
}

fn latency(latency: Option<Latency>) -> String {
    latency.map_or_else(
        || "no answers".into(),
        |Latency { p50, p99, max }| format!("p50 {}  p99 {}  max {}", millis(p50), millis(p99), millis(max)),
    )
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}
