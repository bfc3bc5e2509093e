//! From stored values to what the network reads. Sums over u8 pixels are integers, so the order cannot matter.

use serde::{Deserialize, Serialize};

use super::RowShape;
use crate::kernels;

/// How a row is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// Subtract the mean and divide by the deviation of each channel of this image (of this row of features)
    PerImage,
    /// Subtract the mean and divide by the deviation of each channel (feature) over the training rows
    Dataset,
    /// Divide u8 pixels by 255
    Unit,
    /// Take the values as they are
    None,
}

impl Normalize {
    /// Where nobody says it.
    pub fn of(shape: RowShape) -> Normalize {
        match shape {
            RowShape::Image { .. } => Normalize::PerImage,
            RowShape::Features { .. } => Normalize::Dataset,
        }
    }

    /// As it is typed and written.
    pub fn name(self) -> &'static str {
        match self {
            Normalize::PerImage => "per-image",
            Normalize::Dataset => "dataset",
            Normalize::Unit => "unit",
            Normalize::None => "none",
        }
    }
}

/// A [`Normalize`] with the numbers that it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalizer {
    mode: Normalize,
    channels: usize,
    /// For `Dataset`: mean of each channel (feature).
    mean: Vec<f32>,
    /// For `Dataset`: one over the deviation, or 0 where a channel never varies.
    inverse: Vec<f32>,
}

/// Mean, and one over the deviation (0 where there is none).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moments {
    mean: f32,
    inverse: f32,
}

impl Moments {
    /// Population mean and deviation from integer sums: exact until the last rounding.
    fn of_integers(count: u64, sum: u64, squares: u64) -> Moments {
        let (n, sum, squares) = (u128::from(count), u128::from(sum), u128::from(squares));
        let spread = (n * squares - sum * sum) as f64;
        let deviation = spread.sqrt() / count as f64;
        Moments { mean: (sum as f64 / count as f64) as f32, inverse: inverse(deviation) }
    }
}

fn inverse(deviation: f64) -> f32 {
    if deviation > 0.0 { (1.0 / deviation) as f32 } else { 0.0 }
}

impl Normalizer {
    /// A mode that needs no statistics of the training rows.
    pub fn new(mode: Normalize, channels: usize) -> Normalizer {
        Normalizer { mode, channels, mean: Vec::new(), inverse: Vec::new() }
    }

    /// `Dataset` on pixels: counts of values, sums and sums of squares of each channel over the training rows.
    pub fn from_integer_sums(count: u64, sums: &[u64], squares: &[u64]) -> Normalizer {
        let moments = sums.iter().zip(squares).map(|(&sum, &squares)| Moments::of_integers(count, sum, squares));
        let (mean, inverse) = moments.map(|m| (m.mean, m.inverse)).unzip();
        Normalizer { mode: Normalize::Dataset, channels: sums.len(), mean, inverse }
    }

    /// `Dataset` from means and variances.
    pub fn from_moments(mean: &[f64], variance: &[f64]) -> Normalizer {
        let inverse = variance.iter().map(|v| inverse(v.max(0.0).sqrt())).collect();
        let mean: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
        Normalizer { mode: Normalize::Dataset, channels: mean.len(), mean, inverse }
    }

    /// As it was recorded in a model.
    pub fn from_parts(mode: Normalize, channels: usize, mean: Vec<f32>, inverse: Vec<f32>) -> Normalizer {
        Normalizer { mode, channels, mean, inverse }
    }

    /// The mode.
    pub fn mode(&self) -> Normalize {
        self.mode
    }

    /// Mean and one over the deviation of each channel; empty where the mode needs none.
    pub fn parts(&self) -> (&[f32], &[f32]) {
        (&self.mean, &self.inverse)
    }

    /// One image `[h, w, c]`.
    pub fn pixels(&self, row: &[u8], output: &mut [f32]) {
        match self.mode {
            // All channels alike.
            Normalize::None => kernels::standardise(1, 0, &[0.0], &[1.0], row, output),
            Normalize::Unit => kernels::standardise(1, 0, &[0.0], &[1.0 / 255.0], row, output),
            Normalize::Dataset => kernels::standardise(self.channels, 0, &self.mean, &self.inverse, row, output),
            Normalize::PerImage => {
                for first in (0..self.channels).step_by(TOGETHER) {
                    standardise_by_itself(row, output, self.channels, first);
                }
            }
        }
    }

    /// One row of features.
    pub fn features(&self, row: &[f32], output: &mut [f32]) {
        match self.mode {
            Normalize::None | Normalize::Unit => output.copy_from_slice(row),
            Normalize::Dataset => {
                for (((out, &v), &mean), &inverse) in output.iter_mut().zip(row).zip(&self.mean).zip(&self.inverse) {
                    *out = (v - mean) * inverse;
                }
            }
            Normalize::PerImage => {
                let n = row.len() as f64;
                let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
                let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
                let (mean, inverse) = (mean as f32, inverse(variance.sqrt()));
                for (out, &v) in output.iter_mut().zip(row) {
                    *out = (v - mean) * inverse;
                }
            }
        }
    }
}

/// Channels that are standardised together: their sums and moments lie on the stack, the step allocates nothing.
const TOGETHER: usize = 16;

/// One image `[h, w, channels]` by its own moments: at most [`TOGETHER`] channels, from `first` on.
fn standardise_by_itself(row: &[u8], output: &mut [f32], channels: usize, first: usize) {
    let count = TOGETHER.min(channels - first);
    let (mut sums, mut mean, mut inverse) = ([[0; 2]; TOGETHER], [0.0; TOGETHER], [0.0; TOGETHER]);
    kernels::channel_sums(channels, first, row, &mut sums[..count]);
    for (channel, [sum, squares]) in sums[..count].iter().enumerate() {
        let moments = Moments::of_integers((row.len() / channels) as u64, *sum, *squares);
        (mean[channel], inverse[channel]) = (moments.mean, moments.inverse);
    }
    kernels::standardise(channels, first, &mean[..count], &inverse[..count], row, output);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standardised_image_has_mean_zero_and_deviation_one_in_each_channel() {
        let row: Vec<u8> = (0..300u32).map(|i| (i * i % 251) as u8).collect();
        let mut output = vec![0.0; 300];
        Normalizer::new(Normalize::PerImage, 3).pixels(&row, &mut output);
        for channel in 0..3 {
            let values: Vec<f64> = output[channel..].iter().step_by(3).map(|&v| f64::from(v)).collect();
            let mean = values.iter().sum::<f64>() / 100.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 100.0;
            assert!(mean.abs() <= 1e-6 && (variance - 1.0).abs() <= 1e-5, "{mean} {variance}");
        }
    }

    #[test]
    fn each_of_many_channels_is_standardised_as_if_it_stood_alone() {
        let row: Vec<u8> = (0..37 * 20u32).map(|i| (i * i % 251) as u8).collect();
        let (mut output, mut alone) = (vec![f32::NAN; row.len()], vec![f32::NAN; 20]);
        Normalizer::new(Normalize::PerImage, 37).pixels(&row, &mut output);
        for channel in 0..37 {
            let pixels: Vec<u8> = row[channel..].iter().step_by(37).copied().collect();
            Normalizer::new(Normalize::PerImage, 1).pixels(&pixels, &mut alone);
            assert_eq!(output[channel..].iter().step_by(37).copied().collect::<Vec<_>>(), alone);
        }
    }

    #[test]
    fn a_flat_image_becomes_zeros_not_nan() {
        let mut output = vec![1.0; 12];
        Normalizer::new(Normalize::PerImage, 3).pixels(&[7; 12], &mut output);
        assert_eq!(output, [0.0; 12]);
    }
}
