//! Behind and around the face: background, clothes, neck, ears, the skull, hair, hats and scarves.

use super::canvas::{Canvas, Rgb, blob, bow, ellipse, lens, polyline, rounded};
use super::dice::Dice;
use super::person::Person;

/// Walls, lamps, frames, lines: things in both classes, round and dark ones among them. Units are the picture's side.
pub(super) fn background(canvas: &mut Canvas, dice: &mut Dice) {
    let (one, two) = (Rgb::dull(dice), Rgb::dull(dice));
    let all = polyline(&[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)], true);
    canvas.fill(&all, one, 1.0);
    let (from, to) = ((dice.range(0.0, 1.0), 0.0), (dice.range(0.0, 1.0), 1.0));
    canvas.fade(&all, two, from, to, (0.0, dice.range(0.2, 1.0)));
    for _ in 0..dice.below(4) {
        let (color, alpha) = (Rgb::dull(dice), dice.range(0.2, 0.9));
        let center = (dice.range(0.0, 1.0), dice.range(0.0, 1.0));
        let radius = (dice.range(0.04, 0.3), dice.range(0.04, 0.3));
        match dice.below(4) {
            0 => canvas.fill(&rounded(center, radius, dice.range(0.0, 1.0)), color, alpha),
            1 => canvas.stroke(&ellipse(center, radius), color, alpha, dice.range(0.01, 0.04)),
            2 => canvas.stroke(&rounded(center, radius, 0.95), color, alpha, dice.range(0.01, 0.04)),
            _ => {
                let end = (dice.range(0.0, 1.0), dice.range(0.0, 1.0));
                canvas.stroke(&polyline(&[center, end], false), color, alpha, dice.range(0.01, 0.08));
            }
        }
    }
}

/// Long hair, clothes, neck, ears: what the face covers.
pub(super) fn behind(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    canvas.place(person.head);
    match dice.below(4) {
        0 => {
            let width = dice.range(1.15, 1.45);
            let length = dice.range(0.9, 1.9);
            let middle = (person.crown + length) / 2.0;
            canvas.fill(&rounded((0.0, middle - 0.1), (width, length - middle + 0.1), 0.75), person.hair, 1.0);
        }
        1 => canvas.fill(&ellipse((0.0, -0.45), (dice.range(1.2, 1.5), dice.range(1.1, 1.35))), person.hair, 1.0),
        _ => {}
    }
    let cloth = Rgb::dull(dice);
    let shoulders = blob((-2.6, 3.6), &[[-2.3, 1.65, -0.5, 1.5], [0.0, 1.7, 0.5, 1.5], [2.3, 1.65, 2.6, 3.6]]);
    canvas.fill(&rounded((0.0, 1.1), (0.48, 0.75), 0.8), person.skin.times(0.78), 1.0);
    canvas.fill(&shoulders, cloth, 1.0);
    if dice.chance(0.3) {
        canvas.stroke(&bow((-0.6, 1.45), (0.0, 2.1), (0.6, 1.45)), Rgb::any(dice), 1.0, dice.range(0.06, 0.3));
    }
    let hoops = dice.chance(0.2).then(|| (Rgb::any(dice), dice.range(0.1, 0.2)));
    for side in [-1.0, 1.0] {
        // The ear on the far side disappears as the head turns.
        if side * person.yaw > 0.6 {
            continue;
        }
        canvas.fill(&ellipse((side * 1.02, 0.05), (0.15, 0.28)), person.skin.times(0.85), 1.0);
        if let Some((color, radius)) = hoops {
            canvas.stroke(&ellipse((side * 1.08, 0.33 + radius), (radius, radius)), color, 1.0, 0.06);
        }
    }
}

/// The face itself, shaded from one side.
pub(super) fn skull(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    canvas.place(person.head);
    let middle = (person.crown + person.chin) / 2.0;
    let half = (person.chin - person.crown) / 2.0;
    let face = lens((0.0, middle), (1.0, half), [0.62, person.jaw, person.jaw, 0.62]);
    canvas.fill(&face, person.skin, 1.0);
    let (dark, bright) = (dice.range(0.05, 0.42), dice.range(0.0, 0.25));
    let side = person.light;
    canvas.fade(&face, Rgb::BLACK, (0.1 * side, -0.2), (-side, 0.3), (0.0, dark));
    canvas.fade(&face, Rgb::WHITE, (0.2 * side, 0.1), (side, -0.3), (0.0, bright));
}

/// Hair over the forehead, or none.
pub(super) fn fringe(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    canvas.place(person.head);
    let style = dice.below(6);
    if style == 0 {
        return;
    }
    let top = person.crown - dice.range(0.03, 0.25);
    let side_y = dice.range(-0.45, 0.25);
    let line = if style == 1 { dice.range(-0.55, -0.42) } else { dice.range(-0.95, -0.6) };
    let part = dice.range(-0.6, 0.6);
    let hair = blob(
        (-1.04, side_y),
        &[
            [-1.18, top * 0.98, 0.0, top],
            [1.18, top * 0.98, 1.04, side_y],
            [0.94, -0.4, 0.84, line * 0.75],
            [part + 0.35, line * 0.95, part, line - 0.12],
            [part - 0.35, line * 0.95, -0.84, line * 0.75],
            [-0.94, -0.4, -1.04, side_y],
        ],
    );
    canvas.fill(&hair, person.hair, 1.0);
    let shine = person.hair.mix(if dice.chance(0.5) { Rgb::WHITE } else { Rgb::BLACK }, 0.25);
    for _ in 0..dice.below(5) {
        let x = dice.range(-0.8, 0.8);
        canvas.stroke(&bow((part, top + 0.1), (x, top + 0.15), (x * 1.1, line * 0.9)), shine, 0.7, 0.04);
    }
}

/// A cap, a woollen hat, a headband, a scarf around the head; mostly nothing.
pub(super) fn hat(canvas: &mut Canvas, person: &Person, dice: &mut Dice) {
    canvas.place(person.head);
    let (color, other) = (Rgb::dull(dice), Rgb::dull(dice));
    let top = person.crown - dice.range(0.1, 0.35);
    let rim = dice.range(-0.78, -0.62);
    let dome = blob((-1.08, rim), &[[-1.1, top, 0.0, top], [1.1, top, 1.08, rim], [0.0, rim - 0.16, -1.08, rim]]);
    match dice.below(12) {
        0 => {
            canvas.fill(&dome, color, 1.0);
            let tip = dice.sign() * 0.45;
            let brim = blob((-1.15, rim), &[[tip, rim - 0.35, 1.15, rim], [tip, rim + 0.22, -1.15, rim]]);
            canvas.fill(&brim, color.times(0.7), 1.0);
        }
        1 => {
            canvas.fill(&dome, color, 1.0);
            canvas.stroke(&bow((-1.05, rim - 0.05), (0.0, rim - 0.2), (1.05, rim - 0.05)), other, 1.0, 0.22);
        }
        2 => {
            let y = dice.range(-0.85, -0.6);
            canvas.stroke(&bow((-1.0, y + 0.1), (0.0, y - 0.16), (1.0, y + 0.1)), color, 1.0, dice.range(0.1, 0.3));
        }
        3 => {
            let width = dice.range(0.3, 0.45);
            let middle = (person.crown + person.chin) / 2.0;
            let half = (person.chin - person.crown) / 2.0;
            canvas.stroke(&rounded((0.0, middle + 0.08), (1.02, half + 0.02), 0.6), color, 1.0, width);
        }
        _ => {}
    }
}
