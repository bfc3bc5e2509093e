//! From a clean drawing to something that a camera could have taken: light, colour cast, blur, noise.

use super::canvas::{Canvas, Rgb, polyline};
use super::dice::Dice;

/// Light falling across the whole picture.
pub(super) fn light(canvas: &mut Canvas, dice: &mut Dice) {
    canvas.place(tiny_skia::Transform::identity());
    let all = polyline(&[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)], true);
    let (from, to) = ((dice.range(0.0, 1.0), dice.range(0.0, 1.0)), (dice.range(0.0, 1.0), dice.range(0.0, 1.0)));
    let color = if dice.chance(0.6) { Rgb::BLACK } else { Rgb::any(dice) };
    let strength = dice.range(0.0, 0.4);
    canvas.fade(&all, color, from, to, (0.0, strength));
}

/// The finished pixels, RGB row after row. `noise` is a stream of its own, one number a pixel and channel.
pub(super) fn develop(canvas: &Canvas, dice: &mut Dice, noise: &mut Dice) -> Vec<u8> {
    let contrast = dice.range(0.8, 1.15);
    let offset = dice.range(-0.08, 0.12) + 0.5 * (1.0 - contrast);
    let cast: [f32; 3] = std::array::from_fn(|_| dice.range(0.88, 1.1));
    let grey = dice.chance(0.06);
    let sigma = dice.range(0.0, 6.0);
    // Four bytes have a sum of mean 510 and deviation 148: close enough to a normal number.
    let grain = sigma / 148.0;
    let mut pixels = Vec::with_capacity(canvas.pixmap.pixels().len() * 3);
    for pixel in canvas.pixmap.pixels() {
        let mut rgb = [pixel.red(), pixel.green(), pixel.blue()].map(f32::from);
        if grey {
            rgb = [0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]; 3];
        }
        for c in 0..3 {
            let sum: u32 = noise.bits().to_le_bytes().into_iter().map(u32::from).sum();
            let value = rgb[c] * contrast * cast[c] + offset * 255.0 + (sum as f32 - 510.0) * grain;
            pixels.push((value + 0.5) as u8);
        }
    }
    pixels
}
