//! Plots, drawn with the crate `plotters`: as SVG, which a page can recolour for a dark screen, and as PNG for papers.

mod bars;
mod grid;
mod lines;
mod pen;

pub use bars::Bars;
pub use grid::Grid;
pub use lines::{Line, Lines, Mark, Unit};
pub use pen::{DARK, INK, LIGHT, PALETTE, Stroke};

use image::imageops::{FilterType, resize};
use image::{ImageFormat, RgbImage};
use plotters::coord::Shift;
use plotters::drawing::IntoDrawingArea;
use plotters::prelude::{BitMapBackend, DrawingArea, DrawingBackend, SVGBackend, WHITE};

use crate::error::{Error, Result};
use pen::{Drawn, HEIGHT, Pen, SCALE, WIDTH};

/// A plot, with what a reader must know of it.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What its files are called: `loss`.
    pub name: String,
    /// What it shows, in a few words.
    pub title: String,
    /// How it is to be read.
    pub caption: String,
    /// What is drawn.
    pub content: Content,
}

/// The kinds of plots.
#[derive(Clone, Debug)]
pub enum Content {
    /// Values along an axis.
    Lines(Lines),
    /// Parts of a whole, one bar beside the other.
    Bars(Bars),
    /// Counts of true and predicted classes.
    Grid(Grid),
}

impl Figure {
    fn draw<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Drawn<DB> {
        let pen = &Pen::new();
        match &self.content {
            Content::Lines(lines) => lines.draw(area, pen),
            Content::Bars(bars) => bars.draw(area, pen),
            Content::Grid(grid) => grid.draw(area, pen),
        }
    }

    fn failed(&self, e: impl std::fmt::Display) -> Error {
        Error::io("draw", &self.name)(std::io::Error::other(e.to_string()))
    }

    /// An `<svg>` element without a background, 560×360 pixels where nobody says otherwise.
    ///
    /// # Errors
    /// Never in practice.
    pub fn svg(&self) -> Result<String> {
        let mut text = String::new();
        let size = (WIDTH * SCALE, HEIGHT * SCALE);
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        self.draw(&area).map_err(|e| self.failed(e))?;
        area.present().map_err(|e| self.failed(e))?;
        drop(area);
        // Drawn large, so that whole pixels are fine enough, and shown small.
        let drawn = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
        let shown = format!("width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\"");
        Ok(text.replacen(&drawn, &shown, 1))
    }

    /// A PNG file on white, 1120×720 pixels: 300 dots an inch in a column of 9.5 cm.
    ///
    /// # Errors
    /// Never in practice.
    pub fn png(&self) -> Result<Vec<u8>> {
        let (width, height) = (WIDTH * SCALE, HEIGHT * SCALE);
        let mut picture = RgbImage::new(width, height);
        {
            let area = BitMapBackend::with_buffer(&mut picture, (width, height)).into_drawing_area();
            area.fill(&WHITE).and_then(|()| self.draw(&area)).map_err(|e| self.failed(e))?;
            area.present().map_err(|e| self.failed(e))?;
        }
        // Four dots become one: that smooths what the backend draws with hard edges.
        let picture = resize(&picture, 2 * WIDTH, 2 * HEIGHT, FilterType::Triangle);
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Png).map_err(|e| self.failed(e))?;
        Ok(bytes.into_inner())
    }
}
