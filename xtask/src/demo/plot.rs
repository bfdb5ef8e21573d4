//! The plot of a run: throughput and latency over time, with events marked.

use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plotters::chart::{ChartBuilder, ChartContext, LabelAreaPosition, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::report::Moments;
use crate::load::record::{Latency, SLOT, Series, Slot};
use crate::output::{self, count, in_millis, millis};

const SIZE: (i32, i32) = (1600, 1000);
const TITLE_HEIGHT: i32 = 64;
/// The height of a row of labels above the panels. Each mark has a row of its own, so that none overlaps.
const ROW: i32 = 28;
const MARKS: i32 = 4;
/// The space above a panel for its name.
const HEADING: i32 = 44;
const LEFT: i32 = 100;
const RIGHT: i32 = 40;
const BOTTOM: i32 = 64;

const INK: RGBColor = RGBColor(40, 44, 52);
const GRAY: RGBColor = RGBColor(105, 110, 120);
const BLUE: RGBColor = RGBColor(31, 98, 180);
const RED: RGBColor = RGBColor(205, 38, 38);
const PURPLE: RGBColor = RGBColor(130, 60, 180);
const GREEN: RGBColor = RGBColor(30, 140, 60);
/// The colors from the median to the maximum.
const TEALS: [RGBColor; 3] = [RGBColor(0, 85, 78), RGBColor(20, 150, 135), RGBColor(140, 208, 198)];

type Drawn = Result<(), Box<dyn Error>>;

/// The data of a plot.
pub(crate) struct Plot<'a> {
    pub(crate) title: String,
    pub(crate) fault: &'static str,
    pub(crate) length: Duration,
    pub(crate) series: &'a Series,
    pub(crate) moments: Moments,
}

impl Plot<'_> {
    /// Writes `name.svg` and `name.png` to the folder, and returns their paths.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> Result<Vec<PathBuf>, String> {
        let (svg, png) = (folder.join(format!("{name}.svg")), folder.join(format!("{name}.png")));
        let cannot = |error| format!("cannot write the plots to {}: {error}", folder.display());
        self.draw_both(folder, &svg, &png).map_err(cannot)?;
        Ok(vec![svg, png])
    }

    fn draw_both(&self, folder: &Path, svg: &Path, png: &Path) -> Drawn {
        fs::create_dir_all(folder)?;
        output::register_sans_serif()?;
        let size = (SIZE.0.unsigned_abs(), SIZE.1.unsigned_abs());
        self.draw(&SVGBackend::new(svg, size).into_drawing_area())?;
        self.draw(&BitMapBackend::new(png, size).into_drawing_area())
    }

    fn draw<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>) -> Drawn
    where
        DB::ErrorType: 'static,
    {
        root.fill(&WHITE)?;
        let centered = text(28, INK).pos(Pos::new(HPos::Center, VPos::Center));
        root.draw(&Text::new(self.title.as_str(), (SIZE.0 / 2, TITLE_HEIGHT / 2), centered))?;
        let top = TITLE_HEIGHT + if self.moments.fault.is_some() { ROW * MARKS } else { 0 };
        // Marks come first, so that the data is drawn over them.
        self.draw_marks(root, top)?;
        let (_, panels) = root.split_vertically(top);
        let (upper, lower) = panels.split_vertically((SIZE.1 - top - BOTTOM) / 2);
        self.draw_throughput(&upper)?;
        self.draw_latency(&lower)?;
        root.present()?;
        Ok(())
    }

    /// Draws vertical lines through both panels, each with its label in a row of its own above them.
    fn draw_marks<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, top: i32) -> Drawn
    where
        DB::ErrorType: 'static,
    {
        let Moments { fault: Some(fault), replica_is_master, first_success, sentinels_announce } =
            self.moments
        else {
            return Ok(());
        };
        let marks = [
            (Some(fault), self.fault, RED),
            (replica_is_master, "a replica is master", PURPLE),
            (first_success, "the first write succeeds", GREEN),
            (sentinels_announce, "the Sentinels announce it", GRAY),
        ];
        let width = f64::from(SIZE.0 - LEFT - RIGHT);
        for (row, (moment, name, color)) in (0..).zip(marks) {
            let Some(moment) = moment else { continue };
            let share = moment.as_secs_f64() / self.length.as_secs_f64();
            let x = LEFT + (width * share) as i32;
            let y = top - ROW * (MARKS - row) + ROW / 2;
            root.draw(&PathElement::new(vec![(x, y), (x, SIZE.1 - BOTTOM)], color.stroke_width(2)))?;
            let since = match moment.saturating_sub(fault) {
                Duration::ZERO => format!("{:.2} s", fault.as_secs_f64()),
                later => format!("+{}", millis(in_millis(later))),
            };
            // Near the right edge, the label is on the left of its line.
            let (side, gap) = if share < 0.7 { (HPos::Left, 8) } else { (HPos::Right, -8) };
            let style = text(18, color).pos(Pos::new(side, VPos::Center));
            root.draw(&Text::new(format!("{name}  {since}"), (x + gap, y), style))?;
        }
        Ok(())
    }

    fn draw_throughput<DB: DrawingBackend>(&self, panel: &DrawingArea<DB, Shift>) -> Drawn
    where
        DB::ErrorType: 'static,
    {
        panel.draw(&Text::new("operations a second", (LEFT, 18), text(18, INK)))?;
        let rates: Vec<Option<f64>> =
            self.slots().iter().map(|slot| Some(slot.per_second() as f64)).collect();
        let highest = rates.iter().flatten().fold(100.0, |highest: f64, rate| highest.max(*rate)) * 1.1;
        let mut chart = builder(panel, 0).build_cartesian_2d(self.seconds(), 0.0..highest)?;
        mesh(&mut chart, "", &|rate| count(*rate as u64))?;

        for steps in steps(&rates) {
            chart.draw_series(
                AreaSeries::new(steps, 0.0, BLUE.mix(0.12)).border_style(BLUE.stroke_width(2)),
            )?;
        }
        let errors = self.slots().iter().enumerate().filter(|(_, slot)| slot.errors > 0);
        let ticks: Vec<f64> = errors.map(|(index, _)| (index as f64 + 0.5) * SLOT.as_secs_f64()).collect();
        if !ticks.is_empty() {
            let tick = |x| PathElement::new(vec![(x, 0.0), (x, highest * 0.1)], RED.stroke_width(4));
            let name = format!("{} failed calls", count(self.series.failures.all().total()));
            chart.draw_series(ticks.into_iter().map(tick))?.label(name).legend(key(RED));
            legend(&mut chart, SeriesLabelPosition::LowerRight)?;
        }
        Ok(())
    }

    fn draw_latency<DB: DrawingBackend>(&self, panel: &DrawingArea<DB, Shift>) -> Drawn
    where
        DB::ErrorType: 'static,
    {
        panel.draw(&Text::new("latency", (LEFT, 18), text(18, INK)))?;
        let latencies: Vec<Option<Latency>> = self.slots().iter().map(Slot::latency).collect();
        let highest = latencies.iter().flatten().fold(10.0, |highest: f64, latency| highest.max(latency.max));
        let lowest = latencies.iter().flatten().fold(0.1, |lowest: f64, latency| lowest.min(latency.p50));
        let range = (lowest * 0.7..highest * 2.0).log_scale();
        let mut chart = builder(panel, BOTTOM).build_cartesian_2d(self.seconds(), range)?;
        mesh(&mut chart, "seconds", &|latency| short(*latency))?;

        type Line = (&'static str, fn(&Latency) -> f64);
        let lines: [Line; 3] =
            [("p50", |latency| latency.p50), ("p99", |latency| latency.p99), ("max", |latency| latency.max)];
        for ((name, value), color) in lines.into_iter().zip(TEALS).rev() {
            let values: Vec<Option<f64>> =
                latencies.iter().map(|latency| latency.as_ref().map(value)).collect();
            let paths =
                steps(&values).into_iter().map(|steps| PathElement::new(steps, color.stroke_width(2)));
            chart.draw_series(paths)?.label(name).legend(key(color));
        }
        legend(&mut chart, SeriesLabelPosition::UpperRight)
    }

    /// Returns the slots within the displayed time, without the last one, which is incomplete.
    fn slots(&self) -> &[Slot] {
        let shown = usize::try_from(self.length.as_millis() / SLOT.as_millis()).unwrap_or(usize::MAX);
        &self.series.slots[..self.series.slots.len().min(shown)]
    }

    fn seconds(&self) -> Range<f64> {
        0.0..self.length.as_secs_f64()
    }
}

fn builder<'a, 'b, DB: DrawingBackend>(
    panel: &'a DrawingArea<DB, Shift>,
    bottom: i32,
) -> ChartBuilder<'a, 'b, DB> {
    let mut builder = ChartBuilder::on(panel);
    builder.margin_right(RIGHT).margin_top(HEADING);
    builder.set_label_area_size(LabelAreaPosition::Left, LEFT);
    builder.set_label_area_size(LabelAreaPosition::Bottom, bottom);
    builder
}

/// Draws the axes and the grid. Without a name the time axis has no labels.
fn mesh<DB, Y>(
    chart: &mut ChartContext<'_, DB, Cartesian2d<RangedCoordf64, Y>>,
    time: &str,
    format: &dyn Fn(&f64) -> String,
) -> Drawn
where
    DB: DrawingBackend,
    DB::ErrorType: 'static,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        // Translucent, because it covers the marks.
        .bold_line_style(INK.mix(0.1))
        .axis_style(GRAY)
        .label_style(text(17, INK))
        .axis_desc_style(text(18, INK))
        .x_labels(16)
        .y_labels(6)
        .x_desc(time)
        .x_label_formatter(&|second| format!("{second:.0}"))
        .y_label_formatter(&format)
        .draw()?;
    Ok(())
}

fn legend<'a, DB, Y>(
    chart: &mut ChartContext<'a, DB, Cartesian2d<RangedCoordf64, Y>>,
    position: SeriesLabelPosition,
) -> Drawn
where
    DB: DrawingBackend + 'a,
    DB::ErrorType: 'static,
    Y: Ranged<ValueType = f64>,
{
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(INK.mix(0.1))
        .label_font(text(17, INK))
        .draw()?;
    Ok(())
}

/// Returns the sample of a line for the legend.
fn key(color: RGBColor) -> impl Fn((i32, i32)) -> PathElement<(i32, i32)> {
    move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], color.stroke_width(4))
}

fn text(size: i32, color: RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&color)
}

/// Returns a step line in pieces: it breaks where there is no value.
fn steps(values: &[Option<f64>]) -> Vec<Vec<(f64, f64)>> {
    let slot = SLOT.as_secs_f64();
    let levels = values.iter().enumerate().map(|(index, value)| {
        let start = index as f64 * slot;
        value.map(|value| [(start, value), (start + slot, value)])
    });
    let levels: Vec<Option<[(f64, f64); 2]>> = levels.collect();
    let pieces = levels.split(Option::is_none).filter(|piece| !piece.is_empty());
    pieces.map(|piece| piece.iter().flatten().flatten().copied().collect()).collect()
}

/// Formats a latency in milliseconds for the axis.
fn short(latency: f64) -> String {
    if latency >= 1000.0 { format!("{} s", latency / 1000.0) } else { format!("{latency} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_at_missing_values() {
        assert_eq!(steps(&[None, None]), Vec::<Vec<(f64, f64)>>::new());
        let levels: Vec<Vec<f64>> = steps(&[Some(1.0), Some(2.0), None, Some(3.0)])
            .into_iter()
            .map(|piece| piece.into_iter().map(|(_, value)| value).collect())
            .collect();
        assert_eq!(levels, [vec![1.0, 1.0, 2.0, 2.0], vec![3.0, 3.0]]);
    }

    #[test]
    fn both_files_written() {
        let folder = std::env::temp_dir().join(format!("ha-redis-plot-{:x}", fastrand::u64(..)));
        let series = Series { slots: vec![Slot::default()], ..Series::default() };
        let moments = Moments { fault: Some(Duration::from_secs(1)), ..Moments::default() };
        let plot = Plot {
            title: "title".into(),
            fault: "fault",
            length: Duration::from_secs(5),
            series: &series,
            moments,
        };
        let files = plot.write(&folder, "name").unwrap();
        assert!(fs::read_to_string(&files[0]).unwrap().contains("fault"));
        assert!(fs::read(&files[1]).unwrap().starts_with(b"\x89PNG"));
        fs::remove_dir_all(folder).unwrap();
    }
}
