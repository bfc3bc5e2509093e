//! Drawn faces, with and without glasses.

use super::canvas::Canvas;
use super::dice::Dice;
use super::person::Person;
use super::{decoys, eyewear, features, head, photo};

/// The names of the classes, in label order.
pub const CLASSES: [&str; 2] = ["no glasses", "glasses"];

/// Streams of one row, kept apart by the address's `layer`.
const SHAPES: usize = 0;
const NOISE: usize = 1;

/// Draws the face of one row: `size * size * 3` RGB values, row after row, and its label: `row % 2`, 1 for glasses.
/// A pure function of its arguments.
///
/// # Panics
/// When `size` is 0 or so large that its pixels do not fit in memory ([`super::SIZES`] are sensible).
pub fn draw(seed: u64, row: usize, size: usize) -> (Vec<u8>, u8) {
    let label = (row % 2) as u8;
    let dice = &mut Dice::new(seed, SHAPES, row);
    let person = &Person::roll(dice);
    let canvas = &mut Canvas::new(size as u32);
    head::background(canvas, dice);
    head::behind(canvas, person, dice);
    head::skull(canvas, person, dice);
    features::draw(canvas, person, dice);
    decoys::draw(canvas, person, dice, label == 0);
    if label == 1 {
        eyewear::draw(canvas, person, dice);
    }
    head::fringe(canvas, person, dice);
    head::hat(canvas, person, dice);
    decoys::veils(canvas, person, dice);
    photo::light(canvas, dice);
    (photo::develop(canvas, dice, &mut Dice::new(seed, NOISE, row)), label)
}
