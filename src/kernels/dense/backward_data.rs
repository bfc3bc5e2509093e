//! The gradient of the input: one chain over the outputs. Lanes run across rows, so that each weight is read once and in
//! the order in which it lies.

use super::super::isa::dispatch;
use super::super::shape::DenseShape;
use super::super::simd::{Simd, Work};
use super::super::tile::{Ahead, Walk, cut, most_rows, multiply_ahead, with_rows};
use super::{TURN, check};

/// Floats of scratch memory: the output's gradient turned around, and the input's before it is.
pub(super) fn scratch(shape: DenseShape, batch: usize) -> usize {
    batch.next_multiple_of(32) * shape.outputs + TURN * 32
}

dispatch! {
    /// The gradient of the input: `d_input [batch, inputs]` is overwritten; `scratch` at least [`dense_scratch`](super::dense_scratch) long.
    pub fn dense_backward_data(
        shape: DenseShape,
        batch: usize,
        d_output: &[f32],
        weight: &[f32],
        d_input: &mut [f32],
        scratch: &mut [f32],
    ) = backward_data
}

#[inline(always)]
fn backward_data<S: Simd>(
    shape: DenseShape,
    batch: usize,
    d_output: &[f32],
    weight: &[f32],
    d_input: &mut [f32],
    scratch: &mut [f32],
) {
    check(shape, batch, d_input, weight, d_output);
    assert!(scratch.len() >= self::scratch(shape, batch));
    let DenseShape { inputs, outputs } = shape;
    // Lanes run across rows: `d_output` turned around, [chunk of rows, outputs, lanes], zeros where there is no row.
    let lanes = if batch > S::LANES { 2 * S::LANES } else { S::LANES };
    let (turned, sums) = scratch.split_at_mut(batch.next_multiple_of(32) * outputs);
    let chunk = lanes * outputs;
    for (turned, d_output) in turned.chunks_exact_mut(chunk).zip(d_output.chunks(chunk)) {
        turned.fill(0.0);
        for (n, row) in d_output.chunks_exact(outputs).enumerate() {
            for (o, &value) in row.iter().enumerate() {
                turned[o * lanes + n] = value;
            }
        }
    }
    let walk = Walk { runs: 1, len: outputs, a_row: outputs, a_run: 0, a_k: 1, b_run: 0, b_k: lanes };
    let vectors = lanes / S::LANES;
    let tiles = cut(TURN, most_rows::<S>(vectors)).count() * batch.div_ceil(lanes);
    let share = (TURN * outputs).div_ceil(16).div_ceil(tiles.max(1));
    for first in (0..inputs).step_by(TURN) {
        let count = TURN.min(inputs - first);
        let mut ahead = weight.as_ptr().wrapping_add((first + TURN) * outputs);
        for (chunk_index, turned) in turned.chunks_exact(chunk).enumerate().take(batch.div_ceil(lanes)) {
            for (i, rows) in cut(count, most_rows::<S>(vectors)) {
                // SAFETY: `check`; `turned` holds `outputs` lines of `lanes`, `sums` holds TURN of them.
                unsafe {
                    let (a, b) = (weight.as_ptr().add((first + i) * outputs), turned.as_ptr());
                    let to = sums.as_mut_ptr().add(i * lanes);
                    let tile = Tile { a, b, walk, ahead: Ahead { from: ahead, lines: share }, to };
                    if lanes == S::LANES {
                        with_rows!(S, 1, rows, P => S::outline(&DataTile::<P, 1>(tile)));
                    } else {
                        with_rows!(S, 2, rows, P => S::outline(&DataTile::<P, 2>(tile)));
                    }
                }
                ahead = ahead.wrapping_add(share * 16);
            }
            let rows = lanes.min(batch - chunk_index * lanes);
            for n in 0..rows {
                let to = &mut d_input[(chunk_index * lanes + n) * inputs + first..][..count];
                for (to, sums) in to.iter_mut().zip(sums.chunks_exact(lanes)) {
                    *to = sums[n];
                }
            }
        }
    }
}

/// The gradients of some inputs, for a chunk of rows.
#[derive(Clone, Copy)]
struct Tile {
    a: *const f32,
    b: *const f32,
    walk: Walk,
    ahead: Ahead,
    to: *mut f32,
}

struct DataTile<const P: usize, const N: usize>(Tile);

impl<const P: usize, const N: usize> Work for DataTile<P, N> {
    #[inline(always)]
    unsafe fn work<S: Simd>(&self) {
        let Tile { a, b, walk, ahead, to } = self.0;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); N]; P];
            multiply_ahead::<S, P, N, false>(&mut sums, a, b, walk, 0, ahead);
            for p in 0..P {
                for n in 0..N {
                    S::store(to.add((p * N + n) * S::LANES), sums[p][n]);
                }
            }
        }
    }
}
