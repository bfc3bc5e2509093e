//! What is on the face: eyes, brows, nose, mouth, beard, cheeks.

use super::canvas::{Canvas, Rgb, blob, bow, ellipse, polyline};
use super::dice::Dice;
use super::person::Person;

const IRISES: [[f32; 3]; 5] =
    [[0.22, 0.12, 0.07], [0.36, 0.22, 0.12], [0.30, 0.45, 0.60], [0.28, 0.42, 0.28], [0.45, 0.47, 0.50]];

/// Eyes, brows, nose, mouth and what grows or shines around them.
pub(super) fn draw(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    canvas.place(person.front);
    cheeks(canvas, person, dice);
    eyes(canvas, person, dice);
    brows(canvas, person, dice);
    nose(canvas, person, dice);
    beard(canvas, person, dice);
    mouth(canvas, person, dice);
}

fn cheeks(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let blush = person.skin.mix(Rgb([0.85, 0.3, 0.3]), 0.5);
    let alpha = dice.range(0.0, 0.6);
    for side in [-1.0, 1.0] {
        canvas.glow((side * 0.55, 0.38), (0.3, 0.24), blush, alpha);
    }
    if dice.chance(0.15) {
        for _ in 0..12 {
            let spot = (dice.range(-0.7, 0.7), dice.range(0.05, 0.5));
            canvas.fill(&ellipse(spot, (0.03, 0.03)), person.skin.times(0.6), 0.7);
        }
    }
}

fn eyes(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let socket = dice.range(0.0, 0.45);
    let (width, open) = (dice.range(0.17, 0.23), dice.range(0.07, 0.16));
    let closed = dice.chance(0.08);
    let iris = Rgb(dice.pick(&IRISES)).jitter(dice, 0.05);
    let gaze = (dice.range(-0.06, 0.06), dice.range(-0.02, 0.02));
    let lid = person.skin.times(dice.range(0.2, 0.5));
    let lashes = dice.range(0.03, 0.07);
    let slant = dice.range(-0.05, 0.05);
    for side in [-1.0, 1.0] {
        let (x, y) = (side * person.eye_x, person.eye_y);
        canvas.glow((x, y - 0.02), (0.34, 0.25), person.skin.times(0.45), socket);
        let (inner, outer) = ((x - side * width, y + slant), (x + side * width, y - slant));
        if closed {
            canvas.stroke(&bow(inner, (x, y + 0.1), outer), lid, 1.0, lashes);
            continue;
        }
        let almond = blob(inner, &[[x, y - 1.9 * open, outer.0, outer.1], [x, y + 1.5 * open, inner.0, inner.1]]);
        canvas.fill(&almond, Rgb([0.95, 0.94, 0.92]), 1.0);
        let middle = (x + gaze.0, y + gaze.1);
        canvas.fill(&ellipse(middle, (0.095, (open * 0.95).min(0.1))), iris, 1.0);
        canvas.fill(&ellipse(middle, (0.045, 0.045)), Rgb::BLACK, 1.0);
        canvas.stroke(&bow(inner, (x, y - 1.9 * open), outer), lid, 1.0, lashes);
        canvas.stroke(&bow(outer, (x, y + 1.5 * open), inner), lid, 0.5, 0.025);
    }
}

fn brows(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let color = person.hair.mix(Rgb::BLACK, dice.range(0.0, 0.5));
    let thick = dice.range(0.03, 0.14);
    let lift = dice.range(0.24, 0.38);
    let (arch, slant) = (dice.range(0.0, 0.16), dice.range(-0.08, 0.08));
    let alpha = dice.range(0.5, 1.0);
    for side in [-1.0, 1.0] {
        let (x, y) = (side * person.eye_x, person.eye_y - lift);
        let (inner, outer) = ((x - side * 0.22, y + slant), (x + side * 0.27, y - slant));
        canvas.stroke(&bow(inner, (x, y - arch), outer), color, alpha, thick);
    }
    if dice.chance(0.06) {
        let (x, y) = (person.eye_x - 0.22, person.eye_y - lift + slant);
        canvas.stroke(&polyline(&[(-x, y), (x, y)], false), color, alpha, thick);
    }
}

fn nose(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let (width, tip) = (dice.range(0.12, 0.22), dice.range(0.3, 0.44));
    let shade = person.skin.times(0.6);
    let side = -person.light;
    canvas.stroke(&bow((side * 0.07, -0.02), (side * 0.06, tip * 0.6), (side * width, tip)), shade, 0.6, 0.05);
    canvas.stroke(&bow((-width, tip), (0.0, tip + 0.12), (width, tip)), shade, 0.8, 0.05);
    canvas.glow((-side * 0.03, tip - 0.08), (0.09, 0.09), Rgb::WHITE, dice.range(0.0, 0.5));
}

fn mouth(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let lips = person.skin.mix(Rgb([0.7, 0.15, 0.2]), dice.range(0.3, 0.85)).times(0.85);
    let (width, y) = (dice.range(0.25, 0.42), dice.range(0.68, 0.8));
    let smile = dice.range(-0.08, 0.2);
    let (left, right) = ((-width, y - smile * 0.5), (width, y - smile * 0.5));
    if dice.chance(0.35) {
        let depth = dice.range(0.1, 0.25);
        let open = blob(left, &[[0.0, y - 0.06, right.0, right.1], [0.0, y + smile + 2.0 * depth, left.0, left.1]]);
        canvas.fill(&open, Rgb([0.25, 0.05, 0.06]), 1.0);
        canvas.stroke(&bow(left, (0.0, y + 0.03), right), Rgb::WHITE, 0.9, 0.07);
        canvas.stroke(&open, lips, 1.0, 0.06);
    } else {
        canvas.stroke(&bow(left, (0.0, y + smile), right), lips, 1.0, dice.range(0.05, 0.13));
    }
}

fn beard(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    let alpha = dice.range(0.35, 1.0);
    match dice.below(8) {
        0 => {
            let chin = person.chin;
            let low = blob(
                (-0.95, 0.35),
                &[
                    [-0.6, 0.6, 0.0, 0.52],
                    [0.6, 0.6, 0.95, 0.35],
                    [0.95, chin + 0.1, 0.0, chin + 0.12],
                    [-0.95, chin + 0.1, -0.95, 0.35],
                ],
            );
            canvas.fill(&low, person.hair, alpha);
        }
        1 => canvas.stroke(&bow((-0.3, 0.62), (0.0, 0.46), (0.3, 0.62)), person.hair, alpha, dice.range(0.08, 0.16)),
        2 => canvas.fill(&ellipse((0.0, 1.02), (0.22, 0.18)), person.hair, alpha),
        _ => {}
    }
}
