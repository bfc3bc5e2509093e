//! Things around the eyes that are not glasses, so that colour or darkness there gives nothing away.

use super::canvas::{Canvas, Rgb, bow, ellipse, polyline, rounded};
use super::dice::Dice;
use super::person::Person;

/// Draws at most two of them: one kind as often with glasses as without, the other on bare faces only, where it takes
/// the place of a frame.
pub(super) fn draw(canvas: &mut Canvas, person: &Person, dice: &mut Dice, bare: bool) {
    canvas.place(person.front);
    if dice.chance(0.35) {
        match dice.below(5) {
            0 => stripes(canvas, dice),
            1 => bags(canvas, person, dice),
            2 => eye_shadow(canvas, person, dice),
            3 => mask(canvas, person, dice),
            _ => plaster(canvas, dice),
        }
    }
    if bare && dice.chance(0.45) {
        match dice.below(16) {
            0..=1 => eye_shadow(canvas, person, dice),
            2..=7 => brow_bars(canvas, person, dice),
            8..=14 => paint_band(canvas, person, dice),
            _ => patch(canvas, person, dice),
        }
    }
}

/// The colours that frames have too.
fn frame_like(dice: &mut Dice) -> Rgb {
    match dice.below(3) {
        0 => Rgb([0.06, 0.06, 0.07]),
        1 => Rgb([0.93, 0.93, 0.92]),
        _ => Rgb::any(dice),
    }
}

/// Paint on the cheeks.
fn stripes(canvas: &mut Canvas, dice: &mut Dice) {
    let (color, width) = (frame_like(dice), dice.range(0.05, 0.12));
    let (y, slope) = (dice.range(0.28, 0.45), dice.range(-0.15, 0.15));
    for side in [-1.0, 1.0] {
        for line in 0..=dice.below(2) {
            let y = y + 0.16 * line as f32;
            canvas.stroke(&polyline(&[(side * 0.3, y), (side * 0.75, y + slope)], false), color, 1.0, width);
        }
    }
}

/// Tired eyes.
fn bags(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let (shade, width) = (person.skin.times(dice.range(0.3, 0.6)), dice.range(0.05, 0.1));
    for side in [-1.0, 1.0] {
        let (x, y) = (side * person.eye_x, person.eye_y + 0.16);
        canvas.stroke(&bow((x - 0.2, y), (x, y + 0.16), (x + 0.2, y)), shade, 0.7, width);
    }
}

/// Make-up, or the shadow of a deep socket.
fn eye_shadow(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let color = if dice.chance(0.7) { Rgb([0.1, 0.07, 0.08]) } else { Rgb::any(dice).times(0.7) };
    let (alpha, size) = (dice.range(0.35, 0.75), dice.range(0.3, 0.42));
    for side in [-1.0, 1.0] {
        canvas.glow((side * person.eye_x, person.eye_y), (size, size * 0.8), color, alpha);
    }
}

/// A mask over mouth and nose, its strings going to the ears.
fn mask(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let color = frame_like(dice);
    let top = dice.range(0.28, 0.4);
    let middle = (top + person.chin) / 2.0;
    for side in [-1.0, 1.0] {
        canvas.stroke(&polyline(&[(side * 0.6, top + 0.1), (side * 1.0, 0.1)], false), color, 1.0, 0.05);
    }
    canvas.fill(&rounded((0.0, middle), (0.72, person.chin - middle), 0.75), color, 1.0);
}

/// A plaster across the nose.
fn plaster(canvas: &mut Canvas, dice: &mut Dice) {
    let (color, y) = (frame_like(dice), dice.range(0.1, 0.25));
    canvas.stroke(&polyline(&[(-0.25, y), (0.25, y + dice.range(-0.1, 0.1))], false), color, 1.0, 0.12);
}

/// Brows as heavy and as bright or dark as the upper rims of a frame.
fn brow_bars(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let (color, width) = (frame_like(dice), dice.range(0.08, 0.18));
    let (lift, arch) = (dice.range(0.24, 0.36), dice.range(0.0, 0.2));
    for side in [-1.0, 1.0] {
        let (x, y) = (side * person.eye_x, person.eye_y - lift);
        canvas.stroke(&bow((x - 0.28, y), (x, y - arch), (x + 0.28, y)), color, 1.0, width);
    }
}

/// War paint: a band from ear to ear, over the nose and under the eyes, or over the forehead.
fn paint_band(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let (color, width) = (frame_like(dice), dice.range(0.08, 0.22));
    let y = person.eye_y + if dice.chance(0.5) { dice.range(0.28, 0.4) } else { dice.range(-0.6, -0.45) };
    canvas.stroke(&bow((-0.9, y), (0.0, y + dice.range(-0.1, 0.1)), (0.9, y)), color, dice.range(0.6, 1.0), width);
}

/// A patch over one eye, its strap across the forehead.
fn patch(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let (color, side) = (frame_like(dice), dice.sign());
    let (x, y) = (side * person.eye_x, person.eye_y);
    canvas.stroke(&polyline(&[(side * 0.95, y + 0.05), (x, y), (-side * 0.7, -0.85)], false), color, 1.0, 0.07);
    canvas.fill(&ellipse((x, y), (0.3, 0.27)), color, 1.0);
}

/// Hair that hangs over the eyes, and shadows that fall over them: on both classes alike.
pub(super) fn veils(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    canvas.place(person.head);
    if dice.chance(0.15) {
        let side = dice.sign();
        for _ in 0..1 + dice.below(4) {
            let (x, end) = (side * dice.range(0.1, 0.8), dice.range(-0.2, 0.5));
            let strand = bow((x * 0.4, -1.1), (x, -0.8), (x * 1.15, end));
            canvas.stroke(&strand, person.hair, 1.0, dice.range(0.04, 0.1));
        }
    }
    if dice.chance(0.15) {
        let (y, tilt) = (dice.range(-0.6, 0.5), dice.range(-0.4, 0.4));
        let bar = polyline(&[(-2.5, y - tilt), (2.5, y + tilt)], false);
        let color = if dice.chance(0.7) { Rgb::BLACK } else { Rgb::WHITE };
        canvas.stroke(&bar, color, dice.range(0.15, 0.4), dice.range(0.15, 0.6));
    }
}
