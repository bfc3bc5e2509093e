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
    let canvas = &mut Canvas::new(size as u32);
    let (person, dice) = &mut bare(seed, row, canvas);
    if label == 1 {
        eyewear::draw(canvas, person, dice);
    }
    head::fringe(canvas, person, dice);
    head::hat(canvas, person, dice);
    decoys::veils(canvas, person, dice);
    photo::light(canvas, dice);
    (photo::develop(canvas, dice, &mut Dice::new(seed, NOISE, row)), label)
}

/// Where the glasses of one row are: `size * size` opacities, row after row, of them alone; zeros where there are none.
/// What hangs over them (a fringe, a hat's brim) is not taken away.
///
/// # Panics
/// As [`draw`].
pub fn eyewear(seed: u64, row: usize, size: usize) -> Vec<u8> {
    let (person, mut dice) = bare(seed, row, &mut Canvas::new(size as u32));
    let mut alone = Canvas::new(size as u32);
    if row % 2 == 1 {
        eyewear::draw(&mut alone, &person, &mut dice);
    }
    alone.pixmap.pixels().iter().map(|pixel| pixel.alpha()).collect()
}

/// Draws everything below the glasses; who it is, and the dice for the rest.
fn bare(seed: u64, row: usize, canvas: &mut Canvas) -> (Person, Dice) {
    let mut dice = Dice::new(seed, SHAPES, row);
    let person = Person::roll(&mut dice);
    head::background(canvas, &mut dice);
    head::behind(canvas, &person, &mut dice);
    head::skull(canvas, &person, &mut dice);
    features::draw(canvas, &person, &mut dice);
    decoys::draw(canvas, &person, &mut dice, row.is_multiple_of(2));
    (person, dice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_is_a_function_of_seed_row_and_size_and_labels_alternate() {
        for row in 0..6 {
            let (pixels, label) = draw(5, row, 48);
            assert_eq!(pixels.len(), 48 * 48 * 3);
            assert_eq!(usize::from(label), row % 2);
            assert!((&pixels, label) == (&draw(5, row, 48).0, draw(5, row, 48).1));
            assert!(pixels != draw(6, row, 48).0);
            assert!(pixels != draw(5, row + 2, 48).0);
        }
    }

    #[test]
    fn no_mean_brightness_or_colour_tells_the_classes_apart() {
        // The mean of 300 rows a class has a deviation below 3 grey levels; what glasses add must drown in it.
        let mut means = [[0.0f64; 3]; 2];
        for row in 0..600 {
            let (pixels, label) = draw(1, row, 24);
            for pixel in pixels.as_chunks::<3>().0 {
                for c in 0..3 {
                    means[usize::from(label)][c] += f64::from(pixel[c]) / (24.0 * 24.0 * 300.0);
                }
            }
        }
        for c in 0..3 {
            assert!((means[0][c] - means[1][c]).abs() < 8.0, "{means:?}");
        }
    }

    #[test]
    fn every_sensible_size_can_be_drawn() {
        for size in [*crate::data::synth::SIZES.start(), 81, 333] {
            assert_eq!(draw(1, 1, size).0.len(), size * size * 3);
        }
    }
}
