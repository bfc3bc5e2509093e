//! What `--normalize per-image` takes away from pictures: their brightness, contrast and colour. Where these tell the classes apart, the
//! user hears of it before the time is spent.

use crate::comm::Communicator;
use crate::data::{Normalize, Part, RowShape, Values};

use super::shard_sums::sum_of_shards;

/// With more classes the fit is left out: they are not told apart by a few numbers.
const MOST_CLASSES: usize = 64;
const MOST_CHANNELS: usize = 16;
/// About so many rows are looked at, and of large ones so many bytes.
const ROWS: usize = 4096;
const BYTES: usize = 256 << 20;
/// Sums of all shards together.
const MOST_SUMS: usize = 1 << 22;
/// Of the rows that the commonest class does not explain, the share from which the fit is told.
const TOLD: f64 = 0.5;

/// Whether there is a fit to be made: pictures of a few channels and classes, which are prepared so.
pub fn applies(shape: RowShape, normalize: Normalize, classes: usize, shards: usize) -> bool {
    let RowShape::Image { c, .. } = shape else { return false };
    let (width, columns) = sizes(c, classes);
    let is_small = classes <= MOST_CLASSES && c <= MOST_CHANNELS && shards * width * columns <= MOST_SUMS;
    normalize == Normalize::PerImage && is_small
}

/// So many rows of each shard, the first ones, are looked at: it has to be cheap.
pub fn rows_of_a_shard(row: usize, shards: usize) -> usize {
    ROWS.min(BYTES / row.max(1)).div_ceil(shards).max(1)
}

/// Features of a row, and those with the right sides behind them.
fn sizes(channels: usize, classes: usize) -> (usize, usize) {
    let width = 2 * channels + 1;
    (width, width + classes)
}

/// Collective: a line for the user where a linear fit to the mean and the deviation of each channel of a picture says the class of
/// training rows well. All ranks must ask or none; every rank gets the same answer, whatever their number.
pub fn remark(shape: RowShape, train: &Part, classes: usize, comm: &dyn Communicator) -> Option<String> {
    let Values::Images(pixels) = train.values() else { return None };
    let (len, channels) = (shape.len(), shape.hwc()[2]);
    let of_shard = rows_of_a_shard(len, train.shards.count());
    // One least-squares fit for each class to 1 for its rows and 0 for others: all share their left side.
    let (width, columns) = sizes(channels, classes);
    let features = |row: usize| moments(&pixels[row * len..(row + 1) * len], channels);
    let sums = sum_of_shards(train, comm, (of_shard, width * columns), |row, label, sums| {
        let of = features(row);
        for (i, &a) in of.iter().enumerate() {
            let line = &mut sums[i * columns..(i + 1) * columns];
            line.iter_mut().zip(&of).for_each(|(sum, &b)| *sum += a * b);
            line[width + label] += a;
        }
    });
    // The last feature is 1: what it meets is how many rows there are, and of each class.
    let last = (width - 1) * columns;
    let (rows, of_classes) = (sums[last + width - 1], sums[last + width..last + columns].to_vec());
    let weights = solve(sums, width, columns);
    let said = |of: &[f64]| {
        let score = |class: usize| -> f64 { (0..width).map(|i| weights[i * columns + width + class] * of[i]).sum() };
        (0..classes).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap_or_default()
    };
    let right = sum_of_shards(train, comm, (of_shard, 1), |row, label, sums| {
        sums[0] += f64::from(u8::from(said(&features(row)) == label));
    });
    let (share, commonest) = (right[0] / rows, of_classes.iter().copied().fold(0.0, f64::max) / rows);
    (rows >= 10.0 * width as f64 && share - commonest >= TOLD * (1.0 - commonest)).then(|| {
        format!(
            "brightness, contrast and colour alone say the class of about {:.0} % of the training rows (the commonest class is {:.0} %), and \
             --normalize per-image, the default, takes them away: try --normalize dataset",
            100.0 * share,
            100.0 * commonest
        )
    })
}

/// Mean and deviation of each channel, and 1; all of about the same size.
fn moments(row: &[u8], channels: usize) -> Vec<f64> {
    let mut sums = vec![(0u64, 0u64); channels];
    for pixel in row.chunks_exact(channels) {
        for (sum, &value) in sums.iter_mut().zip(pixel) {
            *sum = (sum.0 + u64::from(value), sum.1 + u64::from(value) * u64::from(value));
        }
    }
    let count = (row.len() / channels) as f64;
    let each = sums.iter().flat_map(|&(sum, squares)| {
        let mean = sum as f64 / count;
        [mean / 255.0, (squares as f64 / count - mean * mean).max(0.0).sqrt() / 255.0]
    });
    each.chain([1.0]).collect()
}

/// Solves `width` equations for all right sides that stand beside them in `rows [width, columns]`, by Gauss and Jordan with the largest
/// pivot; a little is added to the diagonal, for features that never vary.
fn solve(mut rows: Vec<f64>, width: usize, columns: usize) -> Vec<f64> {
    let most = (0..width).map(|i| rows[i * columns + i]).fold(0.0, f64::max);
    (0..width).for_each(|i| rows[i * columns + i] += 1e-9 * most);
    for i in 0..width {
        let size = |&row: &usize| rows[row * columns + i].abs();
        let pivot = (i..width).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(i);
        (0..columns).for_each(|column| rows.swap(i * columns + column, pivot * columns + column));
        let divisor = rows[i * columns + i];
        if divisor == 0.0 {
            continue;
        }
        rows[i * columns..(i + 1) * columns].iter_mut().for_each(|value| *value /= divisor);
        for row in (0..width).filter(|&row| row != i) {
            let factor = rows[row * columns + i];
            (0..columns).for_each(|column| rows[row * columns + column] -= factor * rows[i * columns + column]);
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved_for_all_right_sides() {
        // x + 2y = 5 and 3x + 4y = 11; the same for 4 and 10.
        let solved = solve(vec![1.0, 2.0, 5.0, 4.0, 3.0, 4.0, 11.0, 10.0], 2, 4);
        for (found, wanted) in [solved[2], solved[6], solved[3], solved[7]].into_iter().zip([1.0, 2.0, 2.0, 1.0]) {
            assert!((found - wanted).abs() < 1e-6, "{solved:?}");
        }
    }
}
