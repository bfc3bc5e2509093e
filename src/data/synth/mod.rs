//! Datasets made out of nothing: drawn faces, and the three-armed spiral.
//!
//! A row is a pure function of the seed and its number, so a seed gives the same file on any number of threads.

mod canvas;
mod decoys;
mod dice;
mod eyewear;
pub mod faces;
mod features;
mod head;
mod person;
mod photo;
pub mod spiral;

use std::ops::RangeInclusive;
use std::path::Path;

use rayon::prelude::*;

use super::split::{Assignment, stratified};
use super::writer::{Rows, Writer};
use super::{RowShape, Split};
use crate::error::{Error, Result};

/// Sides of pictures in pixels: below, a frame is thinner than a pixel; above, one row is larger than 3 MB.
pub const SIZES: RangeInclusive<usize> = 24..=1024;

/// 200 GB of pictures of the default size: more is a slip of the finger, and every row's label is held in memory.
const MOST_ROWS: usize = 10_000_000;

/// Bytes of pictures that are drawn before they are written: enough rows for every core, little memory.
const BLOCK: usize = 16 << 20;

/// What [`write_faces`] makes.
#[derive(Clone, Copy, Debug)]
pub struct FaceOptions {
    /// Rows of all splits together.
    pub count: usize,
    /// Side of the pictures in pixels, one of [`SIZES`].
    pub size: usize,
    /// Fraction of the rows held back for testing.
    pub test: f64,
    /// Fraction of the rows held back for validation.
    pub val: f64,
    /// Another seed, other faces.
    pub seed: u64,
    /// Whether a file of that name may be replaced.
    pub replace: bool,
    /// Whether to draw on all cores (the file is the same). Not where other ranks share them.
    pub parallel: bool,
}

/// What [`write_spiral`] makes.
#[derive(Clone, Copy, Debug)]
pub struct SpiralOptions {
    /// Points of all splits and arms together.
    pub count: usize,
    /// Fraction of the rows held back for testing.
    pub test: f64,
    /// Fraction of the rows held back for validation.
    pub val: f64,
    /// Another seed, another noise.
    pub seed: u64,
    /// Whether a file of that name may be replaced.
    pub replace: bool,
}

/// Rows of each split in a file that was written, in the order of [`Split::ALL`].
pub type Written = [usize; 3];

/// Writes a dataset of faces, half of them with glasses. `progress` is told the number of rows written so far.
///
/// # Errors
/// When an option does not make sense, or the file exists and may not be replaced, or the disk refuses it; nothing
/// half-written is left.
pub fn write_faces(path: &Path, options: &FaceOptions, progress: &mut dyn FnMut(usize)) -> Result<Written> {
    let &FaceOptions { count, size, test, val, seed, replace, parallel } = options;
    check_count(count, faces::CLASSES.len())?;
    if !SIZES.contains(&size) {
        let expected = format!("a side of {} to {} pixels", SIZES.start(), SIZES.end());
        return Err(Error::invalid("--size", size.to_string(), expected, "leave it out for 80"));
    }
    let labels: Vec<usize> = (0..count).map(|row| row % 2).collect();
    let rows = stratified(&labels, 2, test, val, seed)?;
    let shape = RowShape::Image { h: size, w: size, c: 3 };
    let origin = format!("glasses synth: {count} drawn faces of {size}x{size} pixels, seed {seed}");
    let writer = Writer::create(path, replace, shape, &rows, &names(&faces::CLASSES), &origin)?;
    let block = (BLOCK / shape.len()).max(1);
    let mut done = 0;
    for split in Split::ALL {
        for (index, numbers) in rows.of(split).chunks(block).enumerate() {
            let mut pixels = vec![0; numbers.len() * shape.len()];
            let draw = |(place, &row): (&mut [u8], &usize)| place.copy_from_slice(&faces::draw(seed, row, size).0);
            if parallel {
                pixels.par_chunks_exact_mut(shape.len()).zip(numbers).for_each(draw);
            } else {
                pixels.chunks_exact_mut(shape.len()).zip(numbers).for_each(draw);
            }
            let labels: Vec<i64> = numbers.iter().map(|&row| labels[row] as i64).collect();
            writer.write(split, index * block, Rows::Images(&pixels), &labels)?;
            done += numbers.len();
            progress(done);
        }
    }
    writer.finish()?;
    Ok(counts(&rows))
}

/// Writes the three-armed spiral as a dataset of two features.
///
/// # Errors
/// As [`write_faces`].
pub fn write_spiral(path: &Path, options: &SpiralOptions, progress: &mut dyn FnMut(usize)) -> Result<Written> {
    let &SpiralOptions { count, test, val, seed, replace } = options;
    check_count(count, spiral::CLASSES.len())?;
    let (points, labels) = spiral::points(seed, count);
    let all: Vec<usize> = labels.iter().map(|&l| usize::from(l)).collect();
    let rows = stratified(&all, spiral::CLASSES.len(), test, val, seed)?;
    let origin = format!("glasses synth: a three-armed spiral of {count} points, seed {seed}");
    let shape = RowShape::Features { d: 2 };
    let writer = Writer::create(path, replace, shape, &rows, &names(&spiral::CLASSES), &origin)?;
    let mut done = 0;
    for split in Split::ALL {
        let numbers = rows.of(split);
        if numbers.is_empty() {
            continue;
        }
        let features: Vec<f32> = numbers.iter().flat_map(|&row| points[row]).collect();
        let labels: Vec<i64> = numbers.iter().map(|&row| i64::from(labels[row])).collect();
        writer.write(split, 0, Rows::Features(&features), &labels)?;
        done += numbers.len();
        progress(done);
    }
    writer.finish()?;
    Ok(counts(&rows))
}

fn check_count(count: usize, classes: usize) -> Result<()> {
    if (classes..=MOST_ROWS).contains(&count) {
        return Ok(());
    }
    let expected = format!("{classes} (one row a class) to {MOST_ROWS}");
    Err(Error::invalid("--count", count.to_string(), expected, "give the number of rows in all"))
}

fn names(classes: &[&str]) -> Vec<String> {
    classes.iter().map(|&name| name.to_owned()).collect()
}

fn counts(rows: &Assignment) -> Written {
    Split::ALL.map(|split| rows.of(split).len())
}
