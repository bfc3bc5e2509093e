//! Counts of true and predicted classes, a cell a pair.

use plotters::coord::Shift;
use plotters::element::{Rectangle, Text};
use plotters::prelude::{DrawingArea, DrawingBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, RGBColor};

use super::pen::{Drawn, INK, LIGHT, PALETTE, Pen, shorten};

/// With more classes than this, cells are too small for letters.
const MOST_WITH_COUNTS: usize = 12;
/// With more classes than this, rows are too low for names.
const MOST_WITH_NAMES: usize = 24;
/// White, but not the paper's: the style of a dark page must not turn it.
const ON_DARK: RGBColor = RGBColor(254, 254, 254);

/// A confusion matrix.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Class names.
    pub names: Vec<String>,
    /// `[true class][predicted class]`
    pub counts: Vec<Vec<u64>>,
}

impl Grid {
    pub(super) fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, pen: &Pen) -> Drawn<DB> {
        let classes = self.names.len() as i32;
        let (width, height) = area.dim_in_pixel();
        let (label, title) = (pen.letters(13.0, INK), pen.letters(14.0, INK));
        let names: Vec<String> = self.names.iter().map(|name| shorten(name, 18)).collect();
        let mut widest = 0;
        for name in &names {
            widest = widest.max(area.estimate_text_size(name, &label)?.0 as i32);
        }
        let (left, top) = (widest + pen.px(40) as i32, pen.px(48) as i32);
        let cell = (width as i32 - left - pen.px(8) as i32, height as i32 - top - pen.px(8) as i32);
        let cell = ((cell.0 / classes).max(1), (cell.1 / classes).max(1));
        let middle = |anchor: HPos| Pos::new(anchor, VPos::Center);
        let across = (left + cell.0 * classes / 2, pen.px(12) as i32);
        area.draw(&Text::new("predicted", across, title.clone().pos(middle(HPos::Center))))?;
        let turned = title.transform(plotters::style::FontTransform::Rotate270).pos(middle(HPos::Center));
        area.draw(&Text::new("true", (pen.px(16) as i32, top + cell.1 * classes / 2), turned))?;
        for (row, counts) in self.counts.iter().enumerate() {
            let total = counts.iter().sum::<u64>().max(1);
            let y = top + row as i32 * cell.1;
            if names.len() <= MOST_WITH_NAMES {
                let style = label.clone().pos(middle(HPos::Right));
                area.draw(&Text::new(names[row].clone(), (left - pen.px(6) as i32, y + cell.1 / 2), style))?;
                let x = left + row as i32 * cell.0 + cell.0 / 2;
                let fits = area.estimate_text_size(&names[row], &label)?.0 as i32 <= cell.0;
                let name = if fits { names[row].clone() } else { row.to_string() };
                let style = label.clone().pos(middle(HPos::Center));
                area.draw(&Text::new(name, (x, top - pen.px(12) as i32), style))?;
            }
            for (column, &count) in counts.iter().enumerate() {
                let (share, x) = (count as f64 / total as f64, left + column as i32 * cell.0);
                self.cell(area, pen, [(x, y), (x + cell.0, y + cell.1)], count, share)?;
            }
        }
        Ok(())
    }

    fn cell<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        pen: &Pen,
        ends: [(i32, i32); 2],
        count: u64,
        share: f64,
    ) -> Drawn<DB> {
        // See-through: on white paper and on a dark page, nothing is nothing.
        area.draw(&Rectangle::new(ends, PALETTE[0].mix(share.max(0.0)).filled()))?;
        area.draw(&Rectangle::new(ends, pen.line(LIGHT, 10)))?;
        if self.names.len() > MOST_WITH_COUNTS {
            return Ok(());
        }
        let color = if share > 0.55 { ON_DARK } else { INK };
        let (x, y) = ((ends[0].0 + ends[1].0) / 2, (ends[0].1 + ends[1].1) / 2);
        let large = if self.names.len() <= 4 { 18.0 } else { 12.0 };
        let style = |size: f64| pen.letters(size, color).pos(Pos::new(HPos::Center, VPos::Center));
        if self.names.len() > 6 {
            return area.draw(&Text::new(count.to_string(), (x, y), style(large)));
        }
        let apart = pen.px(10) as i32;
        area.draw(&Text::new(count.to_string(), (x, y - apart), style(large)))?;
        area.draw(&Text::new(format!("{:.1} %", 100.0 * share), (x, y + apart), style(11.0)))
    }
}
