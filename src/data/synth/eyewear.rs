//! Glasses.

use tiny_skia::Path;

use super::canvas::{Canvas, Rgb, bow, lens, polyline};
use super::dice::Dice;
use super::person::Person;

/// How different from the skin a rim is in some channel at least. At 0.35 (with thinner rims) contact sheets held frames
/// that a person had to look for, and 1600 rows taught the default network 86 %; at 0.5 neither happens.
const CONTRAST: f32 = 0.5;

/// The pair on one nose.
struct Pair {
    rim: Rgb,
    /// Stroke width of the rim, and of its upper part.
    thin: f32,
    thick: f32,
    /// Center of the right lens and its radii; the left one mirrors it.
    center: (f32, f32),
    radius: (f32, f32),
    /// Roundness of the quarters of the right lens: upper outer, lower outer, lower inner, upper inner.
    corners: [f32; 4],
    rimless: bool,
}

/// Draws a pair of glasses on the eyes.
pub(super) fn draw(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    canvas.place(person.front);
    let pair = Pair::roll(person, dice);
    let (glass, opacity) = glass(dice, pair.rimless);
    let shapes = [pair.lens(1.0), pair.lens(-1.0)];
    for shape in &shapes {
        canvas.fill(shape, glass, opacity);
    }
    glints(canvas, &pair, dice);
    rims(canvas, &pair, &shapes);
    bridge(canvas, &pair, dice);
    temples(canvas, &pair, person);
}

impl Pair {
    fn roll(person: &Person, dice: &mut Dice) -> Pair {
        let corners = dice.pick(&[
            [0.55, 0.55, 0.55, 0.55], // round or oval
            [0.85, 0.80, 0.80, 0.85], // rectangular
            [0.80, 0.55, 0.55, 0.80], // flat above, round below
            [0.60, 0.70, 0.35, 0.60], // drops, as pilots wear
            [0.95, 0.50, 0.50, 0.55], // cat's eyes
        ]);
        let rimless = dice.chance(0.05);
        let thin = if dice.chance(0.35) { dice.range(0.08, 0.11) } else { dice.range(0.11, 0.18) };
        let heavy_top = if dice.chance(0.2) { 1.8 } else { 1.0 };
        let width = dice.range(0.29, 0.37);
        Pair {
            rim: rim_color(person.skin, dice),
            thin,
            thick: thin * heavy_top,
            center: (person.eye_x + 0.02, person.eye_y + dice.range(-0.01, 0.07)),
            radius: (width, (width * dice.range(0.68, 1.02)).max(0.23)),
            corners,
            rimless,
        }
    }

    fn lens(&self, side: f32) -> Path {
        let [a, b, c, d] = self.corners;
        let corners = if side > 0.0 { [a, b, c, d] } else { [d, c, b, a] };
        lens((side * self.center.0, self.center.1), self.radius, corners)
    }
}

/// Dark, bright and coloured frames, as far from the skin as [`CONTRAST`] asks.
fn rim_color(skin: Rgb, dice: &mut Dice) -> Rgb {
    let color = match dice.below(12) {
        0..=3 => Rgb([0.05, 0.05, 0.06]),
        4 => Rgb([0.25, 0.13, 0.07]),
        5..=7 => Rgb([0.95, 0.95, 0.93]),
        8 => Rgb([0.85, 0.86, 0.90]),
        9 => Rgb([0.90, 0.74, 0.30]),
        10 => Rgb::any(dice),
        _ => Rgb::any(dice).times(0.4),
    };
    let color = color.jitter(dice, 0.05);
    let distance = (0..3).map(|c| (color.0[c] - skin.0[c]).abs()).fold(0.0, f32::max);
    if distance >= CONTRAST {
        color
    } else if skin.luma() > 0.55 {
        color.times(0.3)
    } else {
        color.mix(Rgb::WHITE, 0.75)
    }
}

/// Clear, tinted or dark glass, and how opaque it is.
fn glass(dice: &mut Dice, rimless: bool) -> (Rgb, f32) {
    match dice.below(12) {
        0 | 1 => (Rgb([0.05, 0.05, 0.07]).jitter(dice, 0.05), dice.range(0.7, 0.97)),
        2 | 3 => (Rgb::any(dice).times(0.6), dice.range(0.35, 0.85)),
        4 => (Rgb([0.75, 0.85, 0.95]), dice.range(0.1, 0.3)),
        // Without a rim, the glass itself must show.
        _ if rimless => (Rgb([0.85, 0.92, 0.98]), dice.range(0.35, 0.5)),
        _ => (Rgb::WHITE, dice.range(0.0, 0.06)),
    }
}

fn glints(canvas: &mut Canvas, pair: &Pair, dice: &mut Dice) {
    if !dice.chance(0.5) {
        return;
    }
    let (offset, alpha) = (dice.range(-0.5, 0.5), dice.range(0.3, 0.8));
    let (lean, width) = (dice.sign() * dice.range(0.2, 0.6), dice.range(0.03, 0.1));
    for side in [-1.0, 1.0] {
        let (x, y) = (side * pair.center.0 + offset * pair.radius.0, pair.center.1);
        let (dx, dy) = (lean * pair.radius.0 * 0.5, pair.radius.1 * 0.5);
        canvas.stroke(&polyline(&[(x - dx, y + dy), (x + dx, y - dy)], false), Rgb::WHITE, alpha, width);
    }
}

fn rims(canvas: &mut Canvas, pair: &Pair, shapes: &[Path]) {
    if pair.rimless {
        // Ground glass edges catch the light.
        for shape in shapes {
            canvas.stroke(shape, Rgb::WHITE, 0.6, 0.04);
        }
        return;
    }
    for shape in shapes {
        canvas.stroke(shape, pair.rim, 1.0, pair.thin);
    }
    if pair.thick > pair.thin {
        let ((x, y), (rx, ry)) = (pair.center, pair.radius);
        for side in [-1.0, 1.0] {
            let top = [(side * (x - rx * 0.85), y - ry * 0.8), (side * (x + rx * 0.9), y - ry * 0.85)];
            canvas.stroke(&bow(top[0], (side * x, y - ry * 1.25), top[1]), pair.rim, 1.0, pair.thick);
        }
    }
}

fn bridge(canvas: &mut Canvas, pair: &Pair, dice: &mut Dice) {
    let inner = pair.center.0 - pair.radius.0 * 0.97;
    let y = pair.center.1 - pair.radius.1 * dice.range(0.1, 0.5);
    canvas.stroke(&bow((-inner, y), (0.0, y - dice.range(0.0, 0.14)), (inner, y)), pair.rim, 1.0, pair.thin);
}

fn temples(canvas: &mut Canvas, pair: &Pair, person: &Person) {
    let y = pair.center.1 - pair.radius.1 * 0.4;
    let outer = pair.center.0 + pair.radius.0 * 0.95;
    for side in [-1.0, 1.0] {
        // Turned away, the temple is hidden behind the lens.
        let ear = 1.02 - 0.13 * side * person.yaw;
        canvas.stroke(&polyline(&[(side * outer, y), (side * ear, y - 0.02)], false), pair.rim, 1.0, pair.thin);
    }
}
