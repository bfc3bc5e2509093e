//! Colours, strokes and letters that all plots share.

use std::sync::Once;

use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::DrawingBackend;
use plotters::style::{FontFamily, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, register_font};

/// What a drawing can fail with.
pub type Drawn<DB> = std::result::Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// Size of a plot as it is shown, in pixels of a page.
pub const WIDTH: u32 = 560;
/// See [`WIDTH`].
pub const HEIGHT: u32 = 360;
/// Dots drawn a pixel shown.
pub const SCALE: u32 = 4;

/// Okabe and Ito's colours, which the colour-blind tell apart, in an order in which neighbours also differ in brightness.
pub const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(110, 110, 110),
];
/// The same hues on a dark page, where a page's style puts them in [`PALETTE`]'s place.
pub const DARK: [&str; 7] = ["#4ba3e3", "#ff8b47", "#2cc99c", "#e59cc6", "#93d3f8", "#f5bd4a", "#a8a8a8"];
/// Axes and letters.
pub const INK: RGBColor = RGBColor(34, 34, 34);
/// The net behind the curves.
pub const LIGHT: RGBColor = RGBColor(221, 221, 221);

/// The name under which our letters are registered: a browser without them takes the next family, which is no wider.
const LETTERS: &str = "DejaVu Sans, Verdana, sans-serif";

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// Without gaps.
    Solid,
    /// Long dashes.
    Dashed,
    /// Short ones.
    Dotted,
}

impl Stroke {
    /// Dash and gap in shown pixels.
    pub fn dashes(self) -> Option<(u32, u32)> {
        match self {
            Stroke::Solid => None,
            Stroke::Dashed => Some((7, 4)),
            Stroke::Dotted => Some((2, 3)),
        }
    }
}

/// Sizes in dots.
pub struct Pen;

impl Pen {
    /// Registers the letters, once in a process.
    pub fn new() -> Pen {
        static LOADED: Once = Once::new();
        LOADED.call_once(|| {
            // It is a font: a failure would show as text of no size in every test of a plot.
            let _ = register_font(LETTERS, FontStyle::Normal, dejavu::sans::regular());
        });
        Pen
    }

    /// Dots of `pixels` shown pixels.
    pub fn px(&self, pixels: u32) -> u32 {
        pixels * SCALE
    }

    /// Letters of `pixels` shown pixels.
    pub fn letters(&self, pixels: f64, color: RGBColor) -> TextStyle<'static> {
        // `plotters` divides by this on its way to an SVG's font-size.
        (FontFamily::Name(LETTERS), pixels * 1.24 * f64::from(SCALE)).into_font().color(&color)
    }

    /// A line of `tenths` tenths of a shown pixel.
    pub fn line(&self, color: RGBColor, tenths: u32) -> ShapeStyle {
        ShapeStyle { color: color.into(), filled: false, stroke_width: (tenths * SCALE).div_ceil(10) }
    }
}

/// The `index`th colour; they come round again.
pub fn color(index: usize) -> RGBColor {
    PALETTE[index % PALETTE.len()]
}

/// A name of at most so many letters.
pub fn shorten(name: &str, most: usize) -> String {
    if name.chars().count() <= most { name.to_owned() } else { name.chars().take(most - 1).chain(['…']).collect() }
}
