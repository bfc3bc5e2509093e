//! Dense layers that read their weights from memory once a pass, whatever the batch: at batch 1 to 256 that is what
//! binds them. The weights are never copied; a block of them stays in the cache while all rows use it.

// Plain loops over constants: what iterators make of tiles does not stay in registers.
#![allow(clippy::needless_range_loop)]

use std::mem::MaybeUninit;

use super::isa::dispatch;
use super::shape::DenseShape;
use super::simd::Simd;
use super::sum::{Leaf, MOST_JOINS, joins_of_block};
use super::tile::{Walk, cut, most_rows, multiply, with_rows};

/// Inputs in a block: a sum over inputs is one chain in each block, blocks are joined in the fixed tree.
pub const DENSE_BLOCK: usize = 256;

/// Inputs whose gradients are formed before they are turned around into rows.
const TURN: usize = 48;

fn check(shape: DenseShape, batch: usize, input: &[f32], weight: &[f32], output: &[f32]) {
    assert_eq!(input.len(), batch * shape.inputs, "input of {shape:?} x {batch}");
    assert_eq!(output.len(), batch * shape.outputs, "output of {shape:?} x {batch}");
    assert_eq!(weight.len(), shape.inputs * shape.outputs, "weight of {shape:?}");
}

/// Floats of scratch memory that the dense kernels take for `batch` rows.
pub fn dense_scratch(shape: DenseShape, batch: usize) -> usize {
    let levels = shape.inputs.div_ceil(DENSE_BLOCK).ilog2() as usize + 1;
    let forward = levels * batch * shape.outputs;
    let backward = (batch.next_multiple_of(32) * shape.outputs) + TURN * 32;
    forward.max(backward)
}

/// The pieces of a row of `outputs`, at most `n` vectors wide: (first, vectors, lanes used of the last one).
#[inline(always)]
fn pieces<S: Simd>(outputs: usize, n: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let wide = outputs / (n * S::LANES);
    let rest = wide * n * S::LANES;
    let narrow = (rest..outputs).step_by(2 * S::LANES).map(move |first| {
        let count = (outputs - first).min(2 * S::LANES);
        let vectors = count.div_ceil(S::LANES);
        (first, vectors, count - (vectors - 1) * S::LANES)
    });
    (0..wide).map(move |piece| (piece * n * S::LANES, n, S::LANES)).chain(narrow)
}

/// Runs `$work` with the constants `$N` and `$TAIL` of a piece.
macro_rules! with_piece {
    ($S:ty, $vectors:expr, $last:expr, $N:ident, $TAIL:ident => $work:expr) => {{
        macro_rules! arm {
            ($n:literal, $tail:literal) => {{
                const $N: usize = $n;
                const $TAIL: bool = $tail;
                $work
            }};
        }
        match ($vectors, $last < <$S>::LANES) {
            (1, false) => arm!(1, false),
            (1, true) => arm!(1, true),
            (2, false) => arm!(2, false),
            (2, true) => arm!(2, true),
            (4, false) => arm!(4, false),
            (8, false) => arm!(8, false),
            other => unreachable!("a piece {other:?}"),
        }
    }};
}

#[inline(always)]
unsafe fn load<S: Simd, const N: usize, const TAIL: bool>(from: *const f32, n: usize, last: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let from = from.add(n * S::LANES);
        if TAIL && n == N - 1 { S::load_first(from, last) } else { S::load(from) }
    }
}

#[inline(always)]
unsafe fn store<S: Simd, const N: usize, const TAIL: bool>(to: *mut f32, n: usize, last: usize, value: S::V) {
    // SAFETY: the caller's promise.
    unsafe {
        let to = to.add(n * S::LANES);
        if TAIL && n == N - 1 { S::store_first(to, value, last) } else { S::store(to, value) }
    }
}

dispatch! {
    /// `output[n, o] = bias[o] + Σ input[n, i] · weight[i, o]`: `input [batch, inputs]`, `weight [inputs, outputs]`,
    /// `bias [outputs]`, `output [batch, outputs]`, `scratch` at least [`dense_scratch`] long.
    pub fn dense_forward(
        shape: DenseShape,
        batch: usize,
        input: &[f32],
        weight: &[f32],
        bias: &[f32],
        output: &mut [f32],
        scratch: &mut [f32],
    ) = forward
}

#[inline(always)]
fn forward<S: Simd>(
    shape: DenseShape,
    batch: usize,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    output: &mut [f32],
    scratch: &mut [f32],
) {
    check(shape, batch, input, weight, output);
    assert!(bias.len() == shape.outputs && scratch.len() >= dense_scratch(shape, batch));
    let DenseShape { inputs, outputs } = shape;
    let blocks = inputs.div_ceil(DENSE_BLOCK);
    // Fewer rows take wider tiles: twelve sums keep the processor busy.
    let wide = match batch {
        1 => 8,
        2 | 3 => 4,
        _ => 2,
    };
    for block in 0..blocks {
        let first = block * DENSE_BLOCK;
        let len = DENSE_BLOCK.min(inputs - first);
        let walk = Walk { runs: 1, len, a_row: inputs, a_run: 0, a_k: 1, b_run: 0, b_k: outputs };
        // Sums wait in `scratch` for the other half of their subtree, level by level.
        let (level, joins) = (block.count_ones() as usize, joins_of_block(block, blocks));
        for (row, rows) in cut(batch, most_rows::<S>(wide)) {
            for (o, vectors, last) in pieces::<S>(outputs, wide) {
                with_piece!(S, vectors, last, N, TAIL => with_rows!(S, N, rows, P => {
                    // SAFETY: `check`; levels and places lie within `dense_scratch`.
                    unsafe {
                        let mut sums = [[S::splat(0.0); N]; P];
                        let (a, b) = (input.as_ptr().add(row * inputs + first), weight.as_ptr().add(first * outputs + o));
                        multiply::<S, P, N, TAIL>(&mut sums, a, b, walk, last);
                        let stack = scratch.as_mut_ptr().add(row * outputs + o);
                        let step = batch * outputs;
                        for join in 1..=joins {
                            let left = stack.add((level - join) * step);
                            for p in 0..P {
                                for n in 0..N {
                                    let left = load::<S, N, TAIL>(left.add(p * outputs), n, last);
                                    sums[p][n] = S::add(left, sums[p][n]);
                                }
                            }
                        }
                        let to = stack.add((level - joins) * step);
                        for p in 0..P {
                            for n in 0..N {
                                store::<S, N, TAIL>(to.add(p * outputs), n, last, sums[p][n]);
                            }
                        }
                    }
                }));
            }
        }
    }
    for (output, sums) in output.chunks_exact_mut(outputs).zip(scratch.chunks_exact(outputs)) {
        for ((output, sum), bias) in output.iter_mut().zip(sums).zip(bias) {
            *output = sum + bias;
        }
    }
}

dispatch! {
    /// The gradient of the input: `d_input [batch, inputs]` is overwritten; `scratch` at least [`dense_scratch`] long.
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
    assert!(scratch.len() >= dense_scratch(shape, batch));
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
    for first in (0..inputs).step_by(TURN) {
        let count = TURN.min(inputs - first);
        for (chunk_index, turned) in turned.chunks_exact(chunk).enumerate().take(batch.div_ceil(lanes)) {
            for (i, rows) in cut(count, most_rows::<S>(lanes / S::LANES)) {
                // SAFETY: `check`; `turned` holds `outputs` lines of `lanes`, `sums` holds TURN of them.
                unsafe {
                    let (a, b) = (weight.as_ptr().add((first + i) * outputs), turned.as_ptr());
                    let to = sums.as_mut_ptr().add(i * lanes);
                    if lanes == S::LANES {
                        with_rows!(S, 1, rows, P => product::<S, P, 1>(a, b, walk, to));
                    } else {
                        with_rows!(S, 2, rows, P => product::<S, P, 2>(a, b, walk, to));
                    }
                }
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

#[inline(always)]
unsafe fn product<S: Simd, const P: usize, const N: usize>(a: *const f32, b: *const f32, walk: Walk, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); N]; P];
        multiply::<S, P, N, false>(&mut sums, a, b, walk, 0);
        for p in 0..P {
            for n in 0..N {
                S::store(to.add((p * N + n) * S::LANES), sums[p][n]);
            }
        }
    }
}

dispatch! {
    /// The gradients of weight and bias, into `d_weight [inputs, outputs]` and `d_bias [outputs]`: the rows of each leaf
    /// are summed in one chain, the leaves joined as they say, in registers; the gradient is written once. With
    /// `accumulate` (one leaf only) the chain goes on from what the gradients hold.
    pub fn dense_backward_weights(
        shape: DenseShape,
        leaves: &[Leaf],
        input: &[f32],
        d_output: &[f32],
        d_weight: &mut [f32],
        d_bias: &mut [f32],
        accumulate: bool,
    ) = backward_weights
}

#[inline(always)]
fn backward_weights<S: Simd>(
    shape: DenseShape,
    leaves: &[Leaf],
    input: &[f32],
    d_output: &[f32],
    d_weight: &mut [f32],
    d_bias: &mut [f32],
    accumulate: bool,
) {
    let batch = leaves.last().map_or(0, |leaf| leaf.end);
    check(shape, batch, input, d_weight, d_output);
    assert!(d_bias.len() == shape.outputs && (leaves.len() == 1 || !accumulate));
    assert!(leaves.iter().all(|leaf| leaf.joins <= MOST_JOINS));
    let DenseShape { inputs, outputs } = shape;
    let walk = Walk { runs: 1, len: 0, a_row: 1, a_run: 0, a_k: inputs, b_run: 0, b_k: outputs };
    for (i, rows) in cut(inputs, most_rows::<S>(2)) {
        for (o, vectors, last) in pieces::<S>(outputs, 2) {
            // SAFETY: `check`, for inputs `i .. i + rows` and this piece of outputs.
            unsafe {
                let (a, b) = (input.as_ptr().add(i), d_output.as_ptr().add(o));
                let to = d_weight.as_mut_ptr().add(i * outputs + o);
                with_piece!(S, vectors, last, N, TAIL => with_rows!(S, 2, rows, P => {
                    sum_leaves::<S, P, N, TAIL>(leaves, a, b, walk, last, accumulate, to, outputs);
                }));
            }
        }
    }
    // The bias is a weight whose input is always 1.
    let walk = Walk { a_k: 0, ..walk };
    for (o, vectors, last) in pieces::<S>(outputs, 2) {
        // SAFETY: as above, for one input.
        unsafe {
            let (b, to) = (d_output.as_ptr().add(o), d_bias.as_mut_ptr().add(o));
            with_piece!(S, vectors, last, N, TAIL => {
                sum_leaves::<S, 1, N, TAIL>(leaves, &raw const ONE, b, walk, last, accumulate, to, outputs);
            });
        }
    }
}

static ONE: f32 = 1.0;

/// A tile of weights: each leaf's chain, joined on a stack.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn sum_leaves<S: Simd, const P: usize, const N: usize, const TAIL: bool>(
    leaves: &[Leaf],
    a: *const f32,
    b: *const f32,
    walk: Walk,
    last: usize,
    accumulate: bool,
    to: *mut f32,
    outputs: usize,
) {
    // SAFETY: the caller's promise; every place of the stack was written
    // before it is joined, and fewer than MOST_JOINS wait at once.
    unsafe {
        let mut stack = [const { MaybeUninit::<[[S::V; N]; P]>::uninit() }; MOST_JOINS];
        let (mut depth, mut start) = (0, 0);
        for (index, leaf) in leaves.iter().enumerate() {
            let mut sums = [[S::splat(0.0); N]; P];
            if accumulate {
                for p in 0..P {
                    for n in 0..N {
                        sums[p][n] = load::<S, N, TAIL>(to.add(p * outputs), n, last);
                    }
                }
            }
            let walk = Walk { len: leaf.end - start, ..walk };
            multiply::<S, P, N, TAIL>(&mut sums, a.add(start * walk.a_k), b.add(start * walk.b_k), walk, last);
            start = leaf.end;
            for _ in 0..leaf.joins {
                depth -= 1;
                let left = stack[depth].as_ptr();
                for p in 0..P {
                    for n in 0..N {
                        sums[p][n] = S::add((*left)[p][n], sums[p][n]);
                    }
                }
            }
            if index + 1 == leaves.len() {
                for p in 0..P {
                    for n in 0..N {
                        store::<S, N, TAIL>(to.add(p * outputs), n, last, sums[p][n]);
                    }
                }
            } else {
                stack[depth].write(sums);
                depth += 1;
            }
        }
    }
}
