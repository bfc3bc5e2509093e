//! Parts of a whole, one bar beside the other: seconds a phase an epoch.

use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::element::Rectangle;
use plotters::prelude::{DrawingArea, DrawingBackend};
use plotters::style::Color;

use super::lines::legend;
use super::pen::{Drawn, INK, LIGHT, Pen, Stroke, color, shorten};

/// Stacked bars.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What the horizontal axis shows.
    pub x: String,
    /// What the vertical axis shows.
    pub y: String,
    /// What stands below each bar.
    pub names: Vec<String>,
    /// Each part's name and its value in each bar, from the bottom up.
    pub parts: Vec<(String, Vec<f64>)>,
}

impl Bars {
    pub(super) fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, pen: &Pen) -> Drawn<DB> {
        let entries: Vec<(usize, Stroke, &str)> =
            self.parts.iter().enumerate().map(|(index, (name, _))| (index, Stroke::Solid, name.as_str())).collect();
        let area = legend(area, pen, &entries)?;
        let count = self.names.len();
        let total = |bar: usize| self.parts.iter().map(|(_, values)| values[bar]).sum::<f64>();
        let most = (0..count).map(total).fold(0.0, f64::max);
        let mut chart = ChartBuilder::on(&area)
            .margin_right(pen.px(16))
            .margin_top(pen.px(6))
            .margin_left(pen.px(10))
            .x_label_area_size(pen.px(48))
            .y_label_area_size(pen.px(68))
            .build_cartesian_2d(-0.5..count as f64 - 0.5, 0.0..if most > 0.0 { most * 1.05 } else { 1.0 })?;
        let name = |x: &f64| {
            let is_whole = (x - x.round()).abs() < 1e-9 && *x >= 0.0;
            let name = if is_whole { self.names.get(x.round() as usize) } else { None };
            // Beside each other, as long as they may be: 60 letters a plot.
            name.map_or_else(String::new, |name| shorten(name, (60 / count.min(12)).max(4)))
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .max_light_lines(0)
            .bold_line_style(pen.line(LIGHT, 8))
            .axis_style(pen.line(INK, 10))
            .set_all_tick_mark_size(pen.px(4))
            .label_style(pen.letters(13.0, INK))
            .axis_desc_style(pen.letters(14.0, INK))
            .x_label_formatter(&name)
            .y_label_formatter(&|y| format!("{}", (y * 1e4).round() / 1e4))
            .x_labels(count.min(12))
            .y_labels(7)
            .x_desc(self.x.clone())
            .y_desc(self.y.clone())
            .draw()?;
        // Many bars leave no room for gaps.
        let half = if count > 60 { 0.5 } else { 0.4 };
        for bar in 0..count {
            let mut floor = 0.0;
            for (index, (_, values)) in self.parts.iter().enumerate() {
                let ends = [(bar as f64 - half, floor), (bar as f64 + half, floor + values[bar])];
                chart.draw_series([Rectangle::new(ends, color(index).filled())])?;
                floor += values[bar];
            }
        }
        Ok(())
    }
}
