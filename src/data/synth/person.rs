//! Who is in the picture: colours, proportions and pose, rolled before anything is drawn.

use tiny_skia::Transform;

use super::canvas::Rgb;
use super::dice::Dice;

/// Everything that several parts of the drawing must agree on. Lengths are in half face widths; y points down; the
/// origin lies between and a little below the eyes.
pub(super) struct Person {
    /// From face units to the picture's side.
    pub head: Transform,
    /// The same for what sits on the front of the face: turning the head moves it sideways.
    pub front: Transform,
    pub skin: Rgb,
    pub hair: Rgb,
    /// Top of the skull (negative) and tip of the chin.
    pub crown: f32,
    pub chin: f32,
    /// How square the jaw is: 0.35 pointed … 0.8 square.
    pub jaw: f32,
    /// Half the distance of the eyes, and their height.
    pub eye_x: f32,
    pub eye_y: f32,
    /// Which way the head is turned: -1 … 1.
    pub yaw: f32,
    /// From which side the light comes: -1 left, 1 right.
    pub light: f32,
}

const SKINS: [[f32; 3]; 6] = [
    [0.97, 0.84, 0.75],
    [0.91, 0.73, 0.60],
    [0.79, 0.59, 0.45],
    [0.60, 0.42, 0.31],
    [0.44, 0.30, 0.22],
    [0.31, 0.21, 0.17],
];

const HAIRS: [[f32; 3]; 7] = [
    [0.07, 0.06, 0.06],
    [0.17, 0.11, 0.08],
    [0.33, 0.20, 0.12],
    [0.52, 0.26, 0.13],
    [0.80, 0.64, 0.36],
    [0.60, 0.59, 0.58],
    [0.90, 0.88, 0.85],
];

impl Person {
    /// Rolls a person.
    pub fn roll(dice: &mut Dice) -> Person {
        let tone = dice.range(0.0, 4.999);
        let (below, share) = (tone as usize, tone.fract());
        let skin = Rgb(SKINS[below]).mix(Rgb(SKINS[below + 1]), share).jitter(dice, 0.03);
        let hair = if dice.chance(0.1) { Rgb::any(dice) } else { Rgb(dice.pick(&HAIRS)).jitter(dice, 0.05) };
        // Half the face's width is 23 … 26 pixels of 80, so that frames are a few pixels thick.
        let scale = dice.range(0.29, 0.32);
        let angle = dice.range(-0.11, 0.11);
        let (sin, cos) = (libm::sinf(angle), libm::cosf(angle));
        let stretch = dice.range(0.94, 1.06);
        let (x, y) = (0.5 + dice.range(-0.035, 0.035), 0.52 + dice.range(-0.035, 0.035));
        let head = Transform::from_row(scale * cos, scale * sin, -scale * sin, scale * cos, x, y)
            .pre_concat(Transform::from_scale(1.0, stretch));
        let (yaw, pitch) = (dice.range(-1.0, 1.0), dice.range(-1.0, 1.0));
        let turn = Transform::from_row(1.0 - 0.08 * yaw.abs(), 0.0, 0.0, 1.0, 0.13 * yaw, 0.06 * pitch);
        Person {
            head,
            front: head.pre_concat(turn),
            skin,
            hair,
            crown: dice.range(-1.4, -1.2),
            chin: dice.range(1.12, 1.32),
            jaw: dice.range(0.35, 0.75),
            eye_x: dice.range(0.40, 0.46),
            eye_y: dice.range(-0.16, -0.04),
            yaw,
            light: dice.sign(),
        }
    }
}
