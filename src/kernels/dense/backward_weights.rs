//! The gradients of weight and bias: each shard's rows a chain, the shards merged in the fixed tree, a tile at a time.

use std::ops::Range;

use super::super::isa::dispatch;
use super::super::shape::DenseShape;
use super::super::simd::{Simd, Work, prefetch};
use super::super::sum::{Leaf, MOST_MERGES};
use super::super::tile::{Ahead, Walk, cut, most_rows, multiply, with_rows};
use super::rows::{Groups, Rows, rows_of};
use super::{TURN, check, load, pieces, store, with_piece};

/// The most floats of a tile of weights.
const TILE: usize = 7 * 2 * 16;

/// Floats of scratch memory: inputs turned around, and sums that wait for their other half.
pub(super) fn scratch(batch: usize) -> usize {
    TURN * batch + MOST_MERGES * TILE
}

/// The gradients of weight and bias, into `d_weight [inputs, outputs]` and `d_bias [outputs]`: the rows of each leaf are
/// summed in one chain, the leaves merged as they say, in registers; the gradient is written once. With `accumulate` (one
/// leaf only) the chain goes on from what the gradients hold.
#[allow(clippy::too_many_arguments)]
pub fn dense_backward_weights(
    shape: DenseShape,
    leaves: &[Leaf],
    input: &[f32],
    d_output: &[f32],
    d_weight: &mut [f32],
    d_bias: &mut [f32],
    accumulate: bool,
    scratch: &mut [f32],
) {
    let batch = leaves.last().map_or(0, |leaf| leaf.end);
    check(shape, batch, input, d_weight, d_output);
    let rows = Rows::whole(input, shape.inputs, batch);
    dense_backward_range(shape, 0..shape.inputs, leaves, &rows, d_output, d_weight, accumulate, scratch);
    dense_backward_bias(shape.outputs, leaves, d_output, d_bias, accumulate, scratch);
}

dispatch! {
    /// As [`dense_backward_weights`], for the weights of the inputs in `range` alone, `d_weight [range, outputs]`; the rows of
    /// all groups, in order, are those of the leaves.
    pub fn dense_backward_range(
        shape: DenseShape,
        range: Range<usize>,
        leaves: &[Leaf],
        groups: &dyn Groups,
        d_output: &[f32],
        d_weight: &mut [f32],
        accumulate: bool,
        scratch: &mut [f32],
    ) = backward_range
}

dispatch! {
    /// As [`dense_backward_weights`], for the bias alone: a weight whose input is always 1.
    pub fn dense_backward_bias(
        outputs: usize,
        leaves: &[Leaf],
        d_output: &[f32],
        d_bias: &mut [f32],
        accumulate: bool,
        scratch: &mut [f32],
    ) = backward_bias
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn backward_range<S: Simd>(
    shape: DenseShape,
    range: Range<usize>,
    leaves: &[Leaf],
    groups: &dyn Groups,
    d_output: &[f32],
    d_weight: &mut [f32],
    accumulate: bool,
    scratch: &mut [f32],
) {
    let outputs = shape.outputs;
    let batch = check_leaves(leaves, outputs, d_output, accumulate);
    (0..groups.count()).for_each(|group| groups.rows(group).check(range.start, range.end));
    assert!(rows_of(groups) == batch && range.end <= shape.inputs, "{batch} rows of {shape:?}");
    assert_eq!(d_weight.len(), range.len() * outputs, "the gradient of {range:?} of {shape:?}");
    // The inputs turned around, [inputs, rows]: as they lie, the rows of one input would push each other out of the cache.
    let (turned, stack) = scratch.split_at_mut(TURN * batch);
    assert!(stack.len() >= MOST_MERGES * TILE);
    let walk = Walk { runs: 1, len: 0, a_row: batch, a_run: 0, a_k: 1, b_run: 0, b_k: outputs };
    let tiles = cut(TURN, most_rows::<S>(4)).count();
    let share = (TURN * outputs).div_ceil(16).div_ceil(tiles);
    for first in range.clone().step_by(TURN) {
        let count = TURN.min(range.end - first);
        let mut ahead = d_weight.as_ptr().wrapping_add((first - range.start + TURN) * outputs);
        let mut n = 0;
        for group in 0..groups.count() {
            let rows = groups.rows(group);
            for row in 0..rows.count {
                let values = &rows.values[row * rows.stride + first - rows.first..][..count];
                for (turned, &value) in turned.chunks_exact_mut(batch).zip(values) {
                    turned[n] = value;
                }
                n += 1;
                // The next ones of this row: so many rows are more streams than the processor foresees.
                for line in 0..TURN / 16 {
                    prefetch(values.as_ptr().wrapping_add(TURN + 16 * line));
                }
            }
        }
        for (i, rows) in cut(count, most_rows::<S>(4)) {
            // SAFETY: the checks above, for inputs `first + i .. first + i + rows`.
            unsafe {
                let tile = Tile {
                    leaves,
                    a: turned.as_ptr().add(i * batch),
                    b: d_output.as_ptr(),
                    walk,
                    accumulate,
                    to: d_weight.as_mut_ptr().add((first - range.start + i) * outputs),
                    outputs,
                    stack: stack.as_mut_ptr(),
                    ahead: Ahead { from: ahead, lines: share },
                };
                with_rows!(S, 4, rows, P => S::outline(&WeightRows::<P>(tile)));
            }
            ahead = ahead.wrapping_add(share * 16);
        }
    }
}

#[inline(always)]
fn backward_bias<S: Simd>(
    outputs: usize,
    leaves: &[Leaf],
    d_output: &[f32],
    d_bias: &mut [f32],
    accumulate: bool,
    scratch: &mut [f32],
) {
    check_leaves(leaves, outputs, d_output, accumulate);
    assert!(d_bias.len() == outputs && scratch.len() >= MOST_MERGES * TILE);
    let walk = Walk { runs: 1, len: 0, a_row: 0, a_run: 0, a_k: 0, b_run: 0, b_k: outputs };
    let (b, to, stack) = (d_output.as_ptr(), d_bias.as_mut_ptr(), scratch.as_mut_ptr());
    let ahead = Ahead { from: b, lines: 0 };
    let tile = Tile { leaves, a: &raw const ONE, b, walk, accumulate, to, outputs, stack, ahead };
    // SAFETY: the checks above, for one input.
    unsafe { S::outline(&WeightRows::<1>(tile)) }
}

/// The leaves' rows follow one another, and their sums are merged to one without too many waiting; how many rows they have.
#[inline(always)]
fn check_leaves(leaves: &[Leaf], outputs: usize, d_output: &[f32], accumulate: bool) -> usize {
    let (mut start, mut waiting) = (0, 0);
    for leaf in leaves {
        assert!(leaf.end > start && leaf.merges <= waiting, "leaves that are none: {leaves:?}");
        (start, waiting) = (leaf.end, waiting + 1 - leaf.merges);
        assert!(waiting <= MOST_MERGES, "too many leaves wait: {leaves:?}");
    }
    assert!(waiting <= 1, "leaves that are not merged: {leaves:?}");
    assert!(d_output.len() == start * outputs && (leaves.len() == 1 || !accumulate));
    start
}

/// Some rows of weights, all outputs of them.
#[derive(Clone, Copy)]
struct Tile<'a> {
    leaves: &'a [Leaf],
    a: *const f32,
    b: *const f32,
    walk: Walk,
    accumulate: bool,
    to: *mut f32,
    outputs: usize,
    stack: *mut f32,
    /// Gradients that are written soon.
    ahead: Ahead,
}

struct WeightRows<'a, const P: usize>(Tile<'a>);

impl<const P: usize> Work for WeightRows<'_, P> {
    #[inline(always)]
    unsafe fn work<S: Simd>(&self) {
        let Tile { leaves, a, b, walk, accumulate, to, outputs, stack, ahead } = self.0;
        let share = ahead.lines.div_ceil(outputs.div_ceil(2 * S::LANES));
        let mut line = ahead.from;
        let batch = leaves.last().map_or(0, |leaf| leaf.end);
        for (o, vectors, last) in pieces::<S>(outputs, 2) {
            for _ in 0..share {
                prefetch(line);
                line = line.wrapping_add(16);
            }
            // SAFETY: the caller's promise, for this piece of outputs.
            unsafe {
                let (b, to) = (b.add(o), to.add(o));
                with_piece!(S, false, vectors, last, N, TAIL => {
                    if accumulate {
                        go_on::<S, P, N, TAIL>(a, b, Walk { len: batch, ..walk }, last, to, outputs);
                    } else {
                        sum_leaves::<S, P, N, TAIL>(leaves, a, b, walk, last, to, outputs, stack);
                    }
                });
            }
        }
    }
}

static ONE: f32 = 1.0;

/// A tile of weights: the chain of one leaf goes on from what stands there.
#[inline(always)]
unsafe fn go_on<S: Simd, const P: usize, const N: usize, const TAIL: bool>(
    a: *const f32,
    b: *const f32,
    walk: Walk,
    last: usize,
    to: *mut f32,
    outputs: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); N]; P];
        for p in 0..P {
            for n in 0..N {
                sums[p][n] = load::<S, N, TAIL>(to.add(p * outputs), n, last);
            }
        }
        multiply::<S, P, N, TAIL>(&mut sums, a, b, walk, last);
        for p in 0..P {
            for n in 0..N {
                store::<S, N, TAIL>(to.add(p * outputs), n, last, sums[p][n]);
            }
        }
    }
}

/// A tile of weights: each leaf's chain, merged on a stack. Two neighbours that are merged at once stay in registers.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn sum_leaves<S: Simd, const P: usize, const N: usize, const TAIL: bool>(
    leaves: &[Leaf],
    a: *const f32,
    b: *const f32,
    walk: Walk,
    last: usize,
    to: *mut f32,
    outputs: usize,
    stack: *mut f32,
) {
    // SAFETY: the caller's promise; every place of the stack was written before it is merged, and fewer than MOST_MERGES
    // wait at once.
    unsafe {
        let level = |depth: usize, p: usize, n: usize| depth * TILE + (p * N + n) * S::LANES;
        let (mut depth, mut start, mut index) = (0, 0, 0);
        while index < leaves.len() {
            let mut sums = [[S::splat(0.0); N]; P];
            let mut leaf = leaves[index];
            chain::<S, P, N, TAIL>(&mut sums, a, b, walk, start..leaf.end, last);
            if leaf.merges == 0 && index + 1 < leaves.len() && leaves[index + 1].merges > 0 {
                index += 1;
                start = leaf.end;
                leaf = Leaf { merges: leaves[index].merges - 1, ..leaves[index] };
                let mut right = [[S::splat(0.0); N]; P];
                chain::<S, P, N, TAIL>(&mut right, a, b, walk, start..leaf.end, last);
                for p in 0..P {
                    for n in 0..N {
                        sums[p][n] = S::add(sums[p][n], right[p][n]);
                    }
                }
            }
            (index, start) = (index + 1, leaf.end);
            for _ in 0..leaf.merges {
                depth -= 1;
                for p in 0..P {
                    for n in 0..N {
                        sums[p][n] = S::add(S::load(stack.add(level(depth, p, n))), sums[p][n]);
                    }
                }
            }
            if index < leaves.len() {
                for p in 0..P {
                    for n in 0..N {
                        S::store(stack.add(level(depth, p, n)), sums[p][n]);
                    }
                }
                depth += 1;
            } else {
                for p in 0..P {
                    for n in 0..N {
                        store::<S, N, TAIL>(to.add(p * outputs), n, last, sums[p][n]);
                    }
                }
            }
        }
    }
}

/// The chain over `rows`. A shard has few rows in a batch: short chains without a loop.
#[inline(always)]
unsafe fn chain<S: Simd, const P: usize, const N: usize, const TAIL: bool>(
    sums: &mut [[S::V; N]; P],
    a: *const f32,
    b: *const f32,
    walk: Walk,
    rows: Range<usize>,
    last: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (a, b) = (a.add(rows.start * walk.a_k), b.add(rows.start * walk.b_k));
        match rows.len() {
            2 => terms::<S, P, N, TAIL, 2>(sums, a, b, walk, last),
            len => multiply::<S, P, N, TAIL>(sums, a, b, Walk { len, ..walk }, last),
        }
    }
}

/// As [`multiply`], for `K` terms.
#[inline(always)]
unsafe fn terms<S: Simd, const P: usize, const N: usize, const TAIL: bool, const K: usize>(
    sums: &mut [[S::V; N]; P],
    a: *const f32,
    b: *const f32,
    walk: Walk,
    last: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for k in 0..K {
            let mut line = [S::splat(0.0); N];
            for n in 0..N {
                line[n] = load::<S, N, TAIL>(b.add(k * walk.b_k), n, last);
            }
            for p in 0..P {
                let value = S::splat(*a.add(p * walk.a_row + k * walk.a_k));
                for n in 0..N {
                    sums[p][n] = S::mul_add(value, line[n], sums[p][n]);
                }
            }
        }
    }
}
