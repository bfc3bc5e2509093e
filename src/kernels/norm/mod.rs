//! Normalisation within a row. Means and variances are sums in f64; `1 / √(variance + ε)` is rounded once to f32.

mod group;
mod layer;

pub use group::{GroupNormShape, group_norm_backward, group_norm_forward};
pub use layer::{layer_norm_backward, layer_norm_forward};

/// What the forward pass of a normalisation reads and writes.
pub struct NormForward<'a> {
    /// The rows of the input.
    pub input: &'a [f32],
    /// A factor a channel.
    pub weight: &'a [f32],
    /// A summand a channel.
    pub bias: &'a [f32],
    /// The rows of the output.
    pub output: &'a mut [f32],
    /// As long as the kernel asks for.
    pub scratch: &'a mut [f32],
}

/// What the backward pass reads and writes.
pub struct NormBackward<'a> {
    /// The rows of the input.
    pub input: &'a [f32],
    /// A factor a channel.
    pub weight: &'a [f32],
    /// The gradient of the output.
    pub d_output: &'a [f32],
    /// Where that of the input goes, if it is wanted.
    pub d_input: Option<&'a mut [f32]>,
    /// Where those of weight and bias go, if they are wanted.
    pub d_params: Option<[&'a mut [f32]; 2]>,
    /// Whether these are added to, row after row, or overwritten.
    pub accumulate: bool,
    /// As long as the kernel asks for.
    pub scratch: &'a mut [f32],
}

/// Interleaved sums that vectors of lanes run along.
const LANES: usize = 16;

/// Their sum: halves are added to halves.
#[inline(always)]
fn sum_of_lanes(lanes: [f64; LANES]) -> f64 {
    let eight: [f64; 8] = fold(&lanes);
    let four: [f64; 4] = fold(&eight);
    let two: [f64; 2] = fold(&four);
    two[0] + two[1]
}

/// The first half of `values`, to which the second is added.
#[inline(always)]
fn fold<const HALF: usize>(values: &[f64]) -> [f64; HALF] {
    let (first, second) = values.split_at(HALF);
    let mut sums = [0.0; HALF];
    for ((sum, a), b) in sums.iter_mut().zip(first).zip(second) {
        *sum = a + b;
    }
    sums
}

/// `1 / √(variance + eps)`
#[inline(always)]
fn inverse_deviation(variance: f64, eps: f64) -> f32 {
    (1.0 / (variance + eps).sqrt()) as f32
}
