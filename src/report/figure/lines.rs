//! Values along an axis: losses, accuracies, rates, curves of precision and recall.

use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::element::{Circle, PathElement, Text};
use plotters::prelude::{DashedLineSeries, DrawingArea, DrawingBackend, LineSeries};
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::pen::{Drawn, INK, LIGHT, Pen, Stroke, color, shorten};

/// With more points than this, a line has no circles at them.
const MOST_CIRCLES: usize = 40;

/// What stands beside an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Whole numbers.
    Count,
    /// Any numbers.
    Number,
    /// Powers of ten: -3 is 0.001.
    Power,
    /// 0.85 is 85 %.
    Percent,
}

/// A place on a curve that has a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Where.
    pub at: (f64, f64),
    /// What stands beside it.
    pub text: String,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Which of the colours.
    pub color: usize,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Places to name.
    pub marks: Vec<Mark>,
}

/// Curves over one pair of axes.
#[derive(Clone, Debug)]
pub struct Lines {
    /// What the horizontal axis shows.
    pub x: String,
    /// What the vertical axis shows.
    pub y: String,
    /// Units of both.
    pub units: (Unit, Unit),
    /// Ends of both axes.
    pub range: [(f64, f64); 2],
    /// The curves.
    pub lines: Vec<Line>,
    /// Whether the legend stands below right, in the plot, where curves of this kind leave room.
    pub diagonal: bool,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Percent => format!("{} %", trim(format!("{:.1}", 100.0 * value))),
            Unit::Power if (value - value.round()).abs() < 1e-9 => format!("1e{value:.0}"),
            Unit::Count | Unit::Power if (value - value.round()).abs() > 1e-9 => String::new(),
            _ if value != 0.0 && value.abs() < 0.01 => format!("{value:.1e}"),
            _ if value.abs() >= 1e5 => format!("{value:.0e}"),
            _ if value.abs() >= 100.0 => format!("{value:.0}"),
            _ => trim(format!("{value:.3}")),
        }
    }
}

/// Without zeros behind the point.
fn trim(number: String) -> String {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.').to_owned() } else { number }
}

impl Lines {
    pub(super) fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, pen: &Pen) -> Drawn<DB> {
        let entries: Vec<(usize, Stroke, &str)> =
            self.lines.iter().map(|line| (line.color, line.stroke, line.name.as_str())).collect();
        let area = legend(area, pen, &entries)?;
        let [(x0, x1), (y0, y1)] = self.range;
        let mut chart = ChartBuilder::on(&area)
            .margin_right(pen.px(30))
            .margin_top(pen.px(6))
            .margin_left(pen.px(10))
            .x_label_area_size(pen.px(48))
            .y_label_area_size(pen.px(68))
            .build_cartesian_2d(x0..x1, y0..y1)?;
        let (show_x, show_y) = (|x: &f64| self.units.0.show(*x), |y: &f64| self.units.1.show(*y));
        chart
            .configure_mesh()
            .max_light_lines(0)
            .bold_line_style(pen.line(LIGHT, 8))
            .axis_style(pen.line(INK, 10))
            .set_all_tick_mark_size(pen.px(4))
            .label_style(pen.letters(13.0, INK))
            .axis_desc_style(pen.letters(14.0, INK))
            .x_label_formatter(&show_x)
            .y_label_formatter(&show_y)
            .x_labels(8)
            .y_labels(7)
            .x_desc(self.x.clone())
            .y_desc(self.y.clone())
            .draw()?;
        if self.diagonal {
            chart.draw_series(DashedLineSeries::new(
                [(x0, y0), (x1, 1.0)],
                pen.px(2),
                pen.px(4),
                pen.line(color(6), 10),
            ))?;
        }
        for line in &self.lines {
            let (color, style) = (color(line.color), pen.line(color(line.color), 20));
            match line.stroke.dashes() {
                None => drop(chart.draw_series(LineSeries::new(line.points.iter().copied(), style))?),
                Some((dash, gap)) => {
                    let points = line.points.iter().copied();
                    chart.draw_series(DashedLineSeries::new(points, pen.px(dash), pen.px(gap), style))?;
                }
            }
            if line.points.len() <= MOST_CIRCLES {
                chart.draw_series(line.points.iter().map(|&at| Circle::new(at, pen.px(3), color.filled())))?;
            }
            // Names stand in a column where curves of this kind leave room, each at the end of a thread.
            let side = if self.diagonal { HPos::Left } else { HPos::Right };
            let beside = pen.letters(12.0, INK).pos(Pos::new(side, VPos::Center));
            let xs = || line.marks.iter().map(|mark| mark.at.0);
            let column = if self.diagonal { xs().fold(x0, f64::max) + 0.1 } else { xs().fold(x1, f64::min) - 0.1 };
            let mut marks: Vec<&Mark> = line.marks.iter().collect();
            marks.sort_by(|a, b| b.at.1.total_cmp(&a.at.1));
            for (place, mark) in marks.into_iter().enumerate() {
                let end = (column, 0.86 - 0.08 * place as f64);
                chart.draw_series([PathElement::new([mark.at, end], pen.line(INK, 7))])?;
                chart.draw_series([Circle::new(mark.at, pen.px(4), color.filled())])?;
                let text = if self.diagonal { format!(" {}", mark.text) } else { format!("{} ", mark.text) };
                chart.draw_series([Text::new(text, end, beside.clone())])?;
            }
        }
        Ok(())
    }
}

/// Draws what each colour and stroke stands for into the top of an area, in as many rows as it takes; the rest of the area.
pub(super) fn legend<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    pen: &Pen,
    entries: &[(usize, Stroke, &str)],
) -> std::result::Result<DrawingArea<DB, Shift>, plotters::drawing::DrawingAreaErrorKind<DB::ErrorType>> {
    let style = pen.letters(13.0, INK).pos(Pos::new(HPos::Left, VPos::Center));
    let (sample, gap, row) = (pen.px(26) as i32, pen.px(16) as i32, pen.px(19) as i32);
    let (left, right) = (pen.px(14) as i32, area.dim_in_pixel().0 as i32 - pen.px(8) as i32);
    let (mut x, mut y) = (left, row / 2 + pen.px(4) as i32);
    for &(index, stroke, name) in entries {
        // The width of a plot, in broad letters.
        let name = shorten(name, 44);
        let width = sample + pen.px(6) as i32 + area.estimate_text_size(&name, &style)?.0 as i32;
        if x > left && x + width > right {
            (x, y) = (left, y + row);
        }
        let line = pen.line(color(index), 25);
        let ends = [(x, y), (x + sample, y)];
        match stroke.dashes() {
            None => area.draw(&PathElement::new(ends, line))?,
            Some((dash, gap)) => {
                for start in (x..x + sample).step_by(pen.px(dash + gap) as usize) {
                    let end = (start + pen.px(dash) as i32).min(x + sample);
                    area.draw(&PathElement::new([(start, y), (end, y)], line))?;
                }
            }
        }
        area.draw(&Text::new(name, (x + sample + pen.px(6) as i32, y), style.clone()))?;
        x += width + gap;
    }
    Ok(area.split_vertically(if entries.is_empty() { 0 } else { y + row / 2 }).1)
}
