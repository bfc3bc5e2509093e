//! Something to draw on: colours, closed and open shapes, in units of half a face's width.

use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Paint, Path, PathBuilder, Pixmap, Point,
    RadialGradient, Shader, SpreadMode, Stroke, Transform,
};

use super::dice::Dice;

/// Red, green and blue in `[0, 1]` (sRGB, mixed as they are).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rgb(pub [f32; 3]);

impl Rgb {
    pub const BLACK: Rgb = Rgb([0.0; 3]);
    pub const WHITE: Rgb = Rgb([1.0; 3]);

    /// Any colour.
    pub fn any(dice: &mut Dice) -> Rgb {
        Rgb([dice.range(0.02, 0.98), dice.range(0.02, 0.98), dice.range(0.02, 0.98)])
    }

    /// A colour as walls and clothes have it: any brightness, little saturation.
    pub fn dull(dice: &mut Dice) -> Rgb {
        let color = Rgb::any(dice);
        color.mix(Rgb([color.luma(); 3]), 0.55)
    }

    /// `self` at `share` 0, `other` at 1.
    pub fn mix(self, other: Rgb, share: f32) -> Rgb {
        Rgb(std::array::from_fn(|c| self.0[c] + (other.0[c] - self.0[c]) * share))
    }

    /// The same hue, brighter (above 1) or darker.
    pub fn times(self, gain: f32) -> Rgb {
        Rgb(self.0.map(|v| (v * gain).clamp(0.0, 1.0)))
    }

    /// Each channel moved by up to `amount`.
    pub fn jitter(self, dice: &mut Dice, amount: f32) -> Rgb {
        Rgb(self.0.map(|v| (v + dice.range(-amount, amount)).clamp(0.0, 1.0)))
    }

    /// How bright it looks (Rec. 601).
    pub fn luma(self) -> f32 {
        0.299 * self.0[0] + 0.587 * self.0[1] + 0.114 * self.0[2]
    }

    fn opaque(self, alpha: f32) -> Color {
        let [r, g, b] = self.0.map(|v| v.clamp(0.0, 1.0));
        Color::from_rgba(r, g, b, alpha.clamp(0.0, 1.0)).expect("all four are clamped")
    }
}

/// A square picture and the map from drawing units to its pixels.
pub(super) struct Canvas {
    pub pixmap: Pixmap,
    place: Transform,
}

impl Canvas {
    /// `size` pixels a side, black; one unit is the whole side until [`Canvas::place`] is called.
    pub fn new(size: u32) -> Self {
        let pixmap = Pixmap::new(size, size).expect("a size of at least one pixel that fits in memory");
        Canvas { pixmap, place: Transform::from_scale(size as f32, size as f32) }
    }

    /// From now on, units are mapped by `map` and then to the picture's side.
    pub fn place(&mut self, map: Transform) {
        let side = self.pixmap.width() as f32;
        self.place = Transform::from_scale(side, side).pre_concat(map);
    }

    /// Fills a closed shape.
    pub fn fill(&mut self, path: &Path, color: Rgb, alpha: f32) {
        self.fill_with(path, Shader::SolidColor(color.opaque(alpha)));
    }

    /// Fills a closed shape with a colour whose opacity runs from `alpha.0` at `from` to `alpha.1` at `to`.
    pub fn fade(&mut self, path: &Path, color: Rgb, from: (f32, f32), to: (f32, f32), alpha: (f32, f32)) {
        let stops = vec![GradientStop::new(0.0, color.opaque(alpha.0)), GradientStop::new(1.0, color.opaque(alpha.1))];
        let (from, to) = (Point::from_xy(from.0, from.1), Point::from_xy(to.0, to.1));
        if let Some(shader) = LinearGradient::new(from, to, stops, SpreadMode::Pad, Transform::identity()) {
            self.fill_with(path, shader);
        }
    }

    /// A soft ellipse: `alpha` in its middle, nothing at its edge.
    pub fn glow(&mut self, center: (f32, f32), radius: (f32, f32), color: Rgb, alpha: f32) {
        let stops = vec![
            GradientStop::new(0.0, color.opaque(alpha)),
            GradientStop::new(0.55, color.opaque(alpha * 0.8)),
            GradientStop::new(1.0, color.opaque(0.0)),
        ];
        let map = Transform::from_row(radius.0, 0.0, 0.0, radius.1, center.0, center.1);
        let middle = Point::from_xy(0.0, 0.0);
        if let Some(shader) = RadialGradient::new(middle, 0.0, middle, 1.0, stops, SpreadMode::Pad, map) {
            self.fill_with(&ellipse(center, radius), shader);
        }
    }

    /// Draws along a path, with round ends and corners.
    pub fn stroke(&mut self, path: &Path, color: Rgb, alpha: f32, width: f32) {
        let paint = paint(Shader::SolidColor(color.opaque(alpha)));
        let stroke = Stroke { width, line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        self.pixmap.stroke_path(path, &paint, &stroke, self.place, None);
    }

    fn fill_with(&mut self, path: &Path, shader: Shader<'_>) {
        self.pixmap.fill_path(path, &paint(shader), FillRule::Winding, self.place, None);
    }
}

fn paint(shader: Shader<'_>) -> Paint<'_> {
    Paint { shader, anti_alias: true, ..Paint::default() }
}

/// An ellipse.
pub(super) fn ellipse(center: (f32, f32), radius: (f32, f32)) -> Path {
    // The classic share of the radius that makes four cubics a circle.
    rounded(center, radius, 0.5523)
}

/// Between a diamond (`roundness` 0), an ellipse (0.5523) and a rectangle (1).
pub(super) fn rounded(center: (f32, f32), radius: (f32, f32), roundness: f32) -> Path {
    lens(center, radius, [roundness; 4])
}

/// Four quarters, each with a roundness of its own: upper right, lower right, lower left, upper left.
pub(super) fn lens((x, y): (f32, f32), (rx, ry): (f32, f32), k: [f32; 4]) -> Path {
    let mut builder = PathBuilder::new();
    builder.move_to(x, y - ry);
    builder.cubic_to(x + k[0] * rx, y - ry, x + rx, y - k[0] * ry, x + rx, y);
    builder.cubic_to(x + rx, y + k[1] * ry, x + k[1] * rx, y + ry, x, y + ry);
    builder.cubic_to(x - k[2] * rx, y + ry, x - rx, y + k[2] * ry, x - rx, y);
    builder.cubic_to(x - rx, y - k[3] * ry, x - k[3] * rx, y - ry, x, y - ry);
    builder.close();
    builder.finish().expect("finite points make a path")
}

/// Straight lines from point to point.
pub(super) fn polyline(points: &[(f32, f32)], closed: bool) -> Path {
    let mut builder = PathBuilder::new();
    builder.move_to(points[0].0, points[0].1);
    for &(x, y) in &points[1..] {
        builder.line_to(x, y);
    }
    if closed {
        builder.close();
    }
    builder.finish().expect("finite points make a path")
}

/// A bow from `from` to `to`, pulled towards `over`.
pub(super) fn bow(from: (f32, f32), over: (f32, f32), to: (f32, f32)) -> Path {
    let mut builder = PathBuilder::new();
    builder.move_to(from.0, from.1);
    builder.quad_to(over.0, over.1, to.0, to.1);
    builder.finish().expect("finite points make a path")
}

/// A closed shape of quadratic bows: pairs of (control, end) after the start.
pub(super) fn blob(start: (f32, f32), bows: &[[f32; 4]]) -> Path {
    let mut builder = PathBuilder::new();
    builder.move_to(start.0, start.1);
    for &[cx, cy, x, y] in bows {
        builder.quad_to(cx, cy, x, y);
    }
    builder.close();
    builder.finish().expect("finite points make a path")
}
