//! What `--normalize per-image` takes away from pictures: their brightness, contrast and colour. Where these tell the classes apart, the
//! user hears of it before the time is spent.

use crate::comm::Communicator;
use crate::data::{Normalize, Normalizer, Part, Values};
use crate::kernels;

/// With more classes the fit is left out: they are not told apart by a few numbers.
const MOST_CLASSES: usize = 64;
const MOST_CHANNELS: usize = 16;
/// Sums of all shards together.
const MOST_SUMS: usize = 1 << 22;
/// Of the rows that the commonest class does not explain, the share from which the fit is told.
const TOLD: f64 = 0.5;

/// Collective: a line for the user where a linear fit to the mean and the deviation of each channel of a picture says the class of
/// training rows well. All ranks must ask or none; every rank gets the same answer, whatever their number.
pub fn remark(
    normalizer: &Normalizer,
    train: &Part,
    channels: usize,
    histogram: &[u64],
    comm: &dyn Communicator,
) -> Option<String> {
    let classes = histogram.len();
    let Values::Images(pixels) = train.values() else { return None };
    if normalizer.mode() != Normalize::PerImage || classes > MOST_CLASSES || channels > MOST_CHANNELS {
        return None;
    }
    let len = pixels.len() / train.labels().len().max(1);
    let features: Vec<Vec<f64>> = pixels.chunks_exact(len.max(1)).map(|row| moments(row, channels)).collect();
    let width = 2 * channels + 1;
    // One least-squares fit for each class to 1 for its rows and 0 for others: all share their left side.
    let columns = width + classes;
    if train.shards.count() * width * columns > MOST_SUMS {
        return None;
    }
    let sums = sum_of_shards(train, comm, width * columns, |row, label, sums| {
        let of = &features[row];
        for (i, &a) in of.iter().enumerate() {
            let line = &mut sums[i * columns..(i + 1) * columns];
            line.iter_mut().zip(of).for_each(|(sum, &b)| *sum += a * b);
            line[width + label] += a;
        }
    });
    let weights = solve(sums, width, columns);
    let said = |of: &[f64]| {
        let score = |class: usize| -> f64 { (0..width).map(|i| weights[i * columns + width + class] * of[i]).sum() };
        (0..classes).max_by(|&a, &b| score(a).total_cmp(&score(b))).unwrap_or_default()
    };
    let right = features.iter().zip(train.labels()).filter(|(of, label)| said(of) == **label as usize).count();
    let mut right = [right as u64];
    comm.sum_u64(&mut right);
    let rows = histogram.iter().sum::<u64>() as f64;
    let (share, commonest) = (right[0] as f64 / rows, histogram.iter().copied().max().unwrap_or(0) as f64 / rows);
    (rows >= 10.0 * width as f64 && share - commonest >= TOLD * (1.0 - commonest)).then(|| {
        format!(
            "brightness, contrast and colour alone say the class of {:.0} % of the training rows (the commonest class is {:.0} %), and \
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

/// Sums over all training rows in an order that the ranks do not change: a shard's rows one after another, then the shards in the fixed
/// tree. `add` gets a row's number in this rank's part, its label and the sums of its shard.
fn sum_of_shards(
    train: &Part,
    comm: &dyn Communicator,
    length: usize,
    mut add: impl FnMut(usize, usize, &mut [f64]),
) -> Vec<f64> {
    let shards = train.shards.count();
    let first = train.shards.rows_of(train.owned.clone()).start;
    // Each shard has one owner; everyone else adds zeros, which changes nothing.
    let mut sums = vec![0.0; shards * length];
    for shard in train.owned.clone() {
        for row in train.rows_of(shard) {
            let label = train.labels()[row - first] as usize;
            add(row - first, label, &mut sums[shard * length..(shard + 1) * length]);
        }
    }
    comm.sum_f64(&mut sums);
    let of = |place: usize| {
        let shard_sum = &mut |shard: usize| Some(sums[shard * length + place]);
        kernels::tree(shards, shard_sum, &|a, b| a + b).unwrap_or(0.0)
    };
    (0..length).map(of).collect()
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
