//! The chart: throughput, processor time and latency of the small commands for all clients.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::chart::{ChartBuilder, LabelAreaPosition};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figures::Figure;
use super::plan::{Case, Client, Workload};
use super::results::Results;
use crate::output::{self, count};

const SIZE: (u32, u32) = (1600, 1260);
const HEAD: u32 = 120;
const LEFT: i32 = 96;

const INK: RGBColor = RGBColor(40, 44, 52);
const GRAY: RGBColor = RGBColor(105, 110, 120);
/// Our client stands out. The limit is no client and is gray.
const COLORS: [(Client, RGBColor); 11] = [
    (Client::HaRedis, RGBColor(205, 38, 38)),
    (Client::HaRedisAsyncStd, RGBColor(240, 120, 110)),
    (Client::HaRedisSmol, RGBColor(240, 120, 110)),
    (Client::RedisRs, RGBColor(31, 98, 180)),
    (Client::RedisRsSmol, RGBColor(31, 98, 180)),
    (Client::ConnectionManager, RGBColor(120, 170, 225)),
    (Client::Fred, RGBColor(30, 140, 60)),
    (Client::Rustis, RGBColor(225, 150, 30)),
    (Client::DeadpoolRedis, RGBColor(130, 60, 180)),
    (Client::Bb8Redis, RGBColor(190, 150, 215)),
    (Client::RawSocket, RGBColor(190, 194, 200)),
];

const COLUMNS: [Workload; 2] = [Workload::Get64, Workload::Set64];
/// Each row with a flag for a logarithmic axis, because latencies span some orders of magnitude.
const ROWS: [(Figure, bool); 3] = [(Figure::Throughput, false), (Figure::Cpu, true), (Figure::P99, true)];

type Drawn = Result<(), Box<dyn Error>>;

/// Draws the results into an SVG file.
pub(super) fn draw(results: &Results, file: &Path) -> Drawn {
    output::register_sans_serif()?;
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (head, panels) = root.split_vertically(HEAD);
    draw_head(results, &head)?;
    let cells = panels.split_evenly((ROWS.len(), COLUMNS.len()));
    let loads = ROWS.into_iter().flat_map(|row| COLUMNS.map(|workload| (workload, row)));
    for (panel, (workload, (figure, logarithmic))) in cells.iter().zip(loads) {
        Panel { results, workload, figure, logarithmic }.draw(panel)?;
    }
    root.present()?;
    Ok(())
}

/// Draws the title, the machine, and the legend of colors.
fn draw_head(results: &Results, head: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
    let middle = SIZE.0 as i32 / 2;
    let centered = |size, color| text(size, color).pos(Pos::new(HPos::Center, VPos::Center));
    head.draw(&Text::new("ha-redis next to other clients", (middle, 28), centered(28, INK)))?;
    head.draw(&Text::new(results.machine.text(), (middle, 62), centered(16, GRAY)))?;
    let shown = COLORS.into_iter().filter(|(client, _)| results.clients.contains(client));
    for (place, (client, color)) in (0..).zip(shown) {
        let x = LEFT + place * 186;
        head.draw(&Rectangle::new([(x, 88), (x + 18, 106)], color.filled()))?;
        let beside = text(17, INK).pos(Pos::new(HPos::Left, VPos::Center));
        head.draw(&Text::new(client.name(), (x + 26, 97), beside))?;
    }
    Ok(())
}

/// One figure under one load: a group of bars for each number of tasks.
struct Panel<'a> {
    results: &'a Results,
    workload: Workload,
    figure: Figure,
    logarithmic: bool,
}

impl Panel<'_> {
    fn draw(&self, panel: &DrawingArea<SVGBackend<'_>, Shift>) -> Drawn {
        let cases: Vec<Case> =
            self.results.cases.iter().filter(|case| case.workload == self.workload).copied().collect();
        let title = format!("{}: {}", self.workload.title(), self.figure.title());
        panel.draw(&Text::new(title, (LEFT, 10), text(18, INK)))?;
        let range = self.range(&cases);
        let mut chart = ChartBuilder::on(panel)
            .margin_top(40)
            .margin_right(20)
            .margin_bottom(10)
            .set_label_area_size(LabelAreaPosition::Left, LEFT)
            .set_label_area_size(LabelAreaPosition::Bottom, 50)
            .build_cartesian_2d(0.0..cases.len() as f64, range.clone())?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.1))
            .axis_style(GRAY)
            .label_style(text(16, INK))
            .y_labels(6)
            .y_label_formatter(&|height| label(self.value(*height)))
            .draw()?;
        for (group, case) in cases.iter().enumerate() {
            chart.draw_series(self.bars(group, *case, range.start))?;
            let below = text(16, INK).pos(Pos::new(HPos::Center, VPos::Top));
            let name = count(case.tasks.into()) + if case.tasks == 1 { " task" } else { " tasks" };
            chart.draw_series([
                EmptyElement::at((group as f64 + 0.5, range.start)) + Text::new(name, (0, 8), below)
            ])?;
        }
        Ok(())
    }

    fn bars(&self, group: usize, case: Case, floor: f64) -> Vec<Rectangle<(f64, f64)>> {
        let clients: Vec<_> =
            COLORS.into_iter().filter(|(client, _)| self.results.clients.contains(client)).collect();
        let width = 0.86 / clients.len().max(1) as f64;
        let bar = |(place, (client, color)): (usize, (Client, RGBColor))| {
            let top = self.height(self.results.median(case, client, self.figure)?);
            let left = group as f64 + 0.07 + place as f64 * width;
            Some(Rectangle::new([(left, floor), (left + width * 0.92, top)], color.filled()))
        };
        clients.into_iter().enumerate().filter_map(bar).collect()
    }

    /// Returns the range of the axis, from below the lowest to above the highest bar.
    fn range(&self, cases: &[Case]) -> Range<f64> {
        let clients = &self.results.clients;
        let values = cases.iter().flat_map(|case| {
            clients.iter().filter_map(|client| self.results.median(*case, *client, self.figure))
        });
        let heights: Vec<f64> = values.map(|value| self.height(value)).collect();
        let highest = heights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lowest = heights.iter().copied().fold(f64::INFINITY, f64::min);
        match self.logarithmic {
            _ if heights.is_empty() => 0.0..1.0,
            true => lowest.floor()..highest + 0.1,
            false => 0.0..highest * 1.1,
        }
    }

    fn height(&self, value: f64) -> f64 {
        if self.logarithmic { value.max(1e-3).log10() } else { value }
    }

    fn value(&self, height: f64) -> f64 {
        if self.logarithmic { 10_f64.powf(height) } else { height }
    }
}

/// Formats a number for the axis.
fn label(value: f64) -> String {
    match value {
        ..=0.0 => "0".to_owned(),
        ..1.0 => format!("{value:.2}"),
        ..10.0 => format!("{value:.1}"),
        _ => count(value.round() as u64),
    }
}

fn text(size: i32, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color)
}
