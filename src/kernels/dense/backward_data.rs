//! The gradient of the input: one chain over the outputs. Lanes run across rows, so that each weight is read once and in
//! the order in which it lies.

use std::ops::Range;

use super::super::isa::dispatch;
use super::super::shape::DenseShape;
use super::super::simd::{Simd, Work};
use super::super::tile::{Ahead, Walk, cut, most_rows, multiply_ahead, with_rows};
use super::rows::{GroupsMut, RowsMut};
use super::{TURN, check};

/// Floats of scratch memory: the output's gradient turned around, and the input's before it is.
pub(super) fn scratch(shape: DenseShape, batch: usize) -> usize {
    dense_turned(shape, batch) + SUMS
}

/// Floats of a chunk of inputs' gradients before they are turned around.
const SUMS: usize = TURN * 32;

/// Floats of `batch` rows' output gradients, turned around, and of the scratch memory behind them.
pub fn dense_turned(shape: DenseShape, batch: usize) -> usize {
    batch.next_multiple_of(32) * shape.outputs + SUMS
}

/// The gradient of the input: `d_input [batch, inputs]` is overwritten; `scratch` at least
/// [`dense_scratch`](super::dense_scratch) long.
pub fn dense_backward_data(
    shape: DenseShape,
    batch: usize,
    d_output: &[f32],
    weight: &[f32],
    d_input: &mut [f32],
    scratch: &mut [f32],
) {
    check(shape, batch, d_input, weight, d_output);
    dense_turn(shape, d_output, scratch);
    let mut rows = RowsMut::whole(d_input, shape.inputs, batch);
    dense_backward_inputs(shape, 0..shape.inputs, weight, &mut rows, scratch);
}

dispatch! {
    /// Turns the output's gradients `d_output [rows, outputs]` around, for [`dense_backward_inputs`]: `turned` is at least
    /// [`dense_turned`] long.
    pub fn dense_turn(shape: DenseShape, d_output: &[f32], turned: &mut [f32]) = turn
}

/// Rows that lanes run across at once.
#[inline(always)]
fn lanes_of<S: Simd>(batch: usize) -> usize {
    if batch > S::LANES { 2 * S::LANES } else { S::LANES }
}

#[inline(always)]
fn turn<S: Simd>(shape: DenseShape, d_output: &[f32], turned: &mut [f32]) {
    let batch = d_output.len() / shape.outputs;
    assert!(turned.len() >= dense_turned(shape, batch));
    // Lanes run across rows: [chunk of rows, outputs, lanes], zeros where there is no row.
    let lanes = lanes_of::<S>(batch);
    let chunk = lanes * shape.outputs;
    for (turned, d_output) in turned.chunks_exact_mut(chunk).zip(d_output.chunks(chunk)) {
        turned.fill(0.0);
        for (n, row) in d_output.chunks_exact(shape.outputs).enumerate() {
            for (o, &value) in row.iter().enumerate() {
                turned[o * lanes + n] = value;
            }
        }
    }
}

dispatch! {
    /// The gradients of the inputs in `range`, of all rows of all groups: their places are overwritten. `turned` holds the output's
    /// gradients as [`dense_turn`] left them, all groups' rows in order.
    pub fn dense_backward_inputs(
        shape: DenseShape,
        range: Range<usize>,
        weight: &[f32],
        d_input: &mut dyn GroupsMut,
        turned: &mut [f32],
    ) = backward_inputs
}

#[inline(always)]
fn backward_inputs<S: Simd>(
    shape: DenseShape,
    range: Range<usize>,
    weight: &[f32],
    d_input: &mut dyn GroupsMut,
    turned: &mut [f32],
) {
    let outputs = shape.outputs;
    assert!(weight.len() == shape.inputs * outputs && range.end <= shape.inputs, "weight of {shape:?}");
    let mut batch = 0;
    for group in 0..d_input.count() {
        let rows = d_input.rows_mut(group);
        rows.check(range.start, range.end);
        batch += rows.count;
    }
    assert!(turned.len() >= dense_turned(shape, batch));
    let (turned, sums) = turned.split_at_mut(batch.next_multiple_of(32) * outputs);
    let lanes = lanes_of::<S>(batch);
    let walk = Walk { runs: 1, len: outputs, a_row: outputs, a_run: 0, a_k: 1, b_run: 0, b_k: lanes };
    let vectors = lanes / S::LANES;
    let tiles = cut(TURN, most_rows::<S>(vectors)).count() * batch.div_ceil(lanes);
    let share = (TURN * outputs).div_ceil(16).div_ceil(tiles.max(1));
    for first in range.clone().step_by(TURN) {
        let count = TURN.min(range.end - first);
        let mut ahead = weight.as_ptr().wrapping_add((first + TURN) * outputs);
        // The group of the next row, and its place there.
        let (mut group, mut row) = (0, 0);
        for (index, turned) in turned.chunks_exact(lanes * outputs).enumerate().take(batch.div_ceil(lanes)) {
            for (i, rows) in cut(count, most_rows::<S>(vectors)) {
                // SAFETY: the checks above; `turned` holds `outputs` lines of `lanes`, `sums` holds TURN of them.
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
            for n in 0..lanes.min(batch - index * lanes) {
                while row == d_input.rows_mut(group).count {
                    (group, row) = (group + 1, 0);
                }
                let rows = d_input.rows_mut(group);
                let to = &mut rows.values[row * rows.stride + first - rows.first..][..count];
                for (to, sums) in to.iter_mut().zip(sums.chunks_exact(lanes)) {
                    *to = sums[n];
                }
                row += 1;
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
