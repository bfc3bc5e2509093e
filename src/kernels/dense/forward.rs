//! The forward pass: blocks of inputs, each a chain, merged in the fixed tree.

use std::ops::Range;

use super::super::isa::dispatch;
use super::super::shape::DenseShape;
use super::super::simd::{Simd, Work};
use super::super::sum::merges_of_block;
use super::super::tile::{Ahead, Walk, cut, most_rows, multiply_ahead, with_rows};
use super::rows::{Groups, Rows};
use super::{check, load, pieces, store, with_piece};

/// Inputs in a block: a sum over inputs is one chain in each block, blocks are merged in the fixed tree.
pub const DENSE_BLOCK: usize = 256;

/// Floats of scratch memory: a sum a level of the tree.
pub(super) fn scratch(shape: DenseShape, batch: usize) -> usize {
    levels(shape) * batch * shape.outputs
}

/// Of the tree over blocks.
fn levels(shape: DenseShape) -> usize {
    shape.inputs.div_ceil(DENSE_BLOCK).ilog2() as usize + 1
}

/// `output[n, o] = bias[o] + Σ input[n, i] · weight[i, o]`: `input [batch, inputs]`, `weight [inputs, outputs]`,
/// `bias [outputs]`, `output [batch, outputs]`, `scratch` at least [`dense_scratch`](super::dense_scratch) long.
pub fn dense_forward(
    shape: DenseShape,
    batch: usize,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    output: &mut [f32],
    scratch: &mut [f32],
) {
    check(shape, batch, input, weight, output);
    let blocks = shape.inputs.div_ceil(DENSE_BLOCK);
    let merges = |block: usize| merges_of_block(block, blocks);
    dense_forward_blocks(shape, &Rows::whole(input, shape.inputs, batch), 0..blocks, &merges, weight, scratch);
    dense_outputs(&scratch[..batch * shape.outputs], bias, output);
}

/// `output = sums + bias`, row by row: what ends a forward pass.
pub fn dense_outputs(sums: &[f32], bias: &[f32], output: &mut [f32]) {
    let outputs = bias.len();
    assert_eq!(sums.len(), output.len());
    for (output, sums) in output.chunks_exact_mut(outputs).zip(sums.chunks_exact(outputs)) {
        for ((output, sum), bias) in output.iter_mut().zip(sums).zip(bias) {
            *output = sum + bias;
        }
    }
}

/// Floats of the sums of `batch` rows that wait while some blocks are worked on, or are left afterwards.
pub fn dense_forward_sums(shape: DenseShape, batch: usize) -> usize {
    // Those that wait, and those that are left of a stretch of the tree that begins anywhere.
    2 * levels(shape) * batch * shape.outputs
}

dispatch! {
    /// The sums over some blocks of inputs: block `b`'s chain, then merged with `merges(b)` sums that were formed before, the
    /// newest first. What is left stands at the beginning of each group's part of `sums`, in the order in which it was formed.
    /// The groups' parts follow one another, [`dense_forward_sums`] long each (the last one may be shorter if less is needed).
    pub fn dense_forward_blocks(
        shape: DenseShape,
        groups: &dyn Groups,
        blocks: Range<usize>,
        merges: &dyn Fn(usize) -> usize,
        weight: &[f32],
        sums: &mut [f32],
    ) = forward
}

#[inline(always)]
fn forward<S: Simd>(
    shape: DenseShape,
    groups: &dyn Groups,
    blocks: Range<usize>,
    merges: &dyn Fn(usize) -> usize,
    weight: &[f32],
    sums: &mut [f32],
) {
    let DenseShape { inputs, outputs } = shape;
    assert_eq!(weight.len(), inputs * outputs, "weight of {shape:?}");
    let mut depth = 0;
    for block in blocks {
        let first = block * DENSE_BLOCK;
        let len = DENSE_BLOCK.min(inputs - first);
        // Sums wait for the other half of their subtree, level by level.
        let merges = merges(block);
        assert!(merges <= depth, "block {block} merges {merges} of {depth}");
        // While a block is worked on, the next one is asked for, a share with each tile.
        let tiles: usize = (0..groups.count())
            .map(|group| {
                let count = groups.rows(group).count;
                let wide = wide(count);
                cut(count, most_rows::<S>(wide)).count() * pieces::<S>(outputs, wide).count()
            })
            .sum();
        let share = (len * outputs).div_ceil(16).div_ceil(tiles.max(1));
        let mut ahead = weight.as_ptr().wrapping_add((first + len) * outputs);
        let mut start = 0;
        for group in 0..groups.count() {
            let rows = groups.rows(group);
            rows.check(first, first + len);
            let walk = Walk { runs: 1, len, a_row: rows.stride, a_run: 0, a_k: 1, b_run: 0, b_k: outputs };
            let (wide, step) = (wide(rows.count), rows.count * outputs);
            assert!(start + (depth + 1) * step <= sums.len(), "room for {depth} sums that wait");
            for (row, count) in cut(rows.count, most_rows::<S>(wide)) {
                for (o, vectors, last) in pieces::<S>(outputs, wide) {
                    // SAFETY: the checks above; levels and places lie within `sums`.
                    unsafe {
                        let stack = sums.as_mut_ptr().add(start + row * outputs + o);
                        let tile = Tile {
                            a: rows.values.as_ptr().add(row * rows.stride + first - rows.first),
                            b: weight.as_ptr().add(first * outputs + o),
                            walk,
                            last,
                            ahead: Ahead { from: ahead, lines: share },
                            to: stack.add((depth - merges) * step),
                            merges,
                            step,
                            outputs,
                        };
                        with_piece!(S, true, vectors, last, N, TAIL => {
                            with_rows!(S, if N < 2 { 2 } else { N }, count, P => S::outline(&ForwardTile::<P, N, TAIL>(tile)));
                        });
                    }
                    ahead = ahead.wrapping_add(share * 16);
                }
            }
            start += dense_forward_sums(shape, rows.count);
        }
        depth = depth + 1 - merges;
    }
}

/// Vectors in a tile: fewer rows take wider ones, twelve sums keep the processor busy.
#[inline(always)]
fn wide(batch: usize) -> usize {
    match batch {
        1 => 8,
        2 | 3 => 4,
        _ => 2,
    }
}

/// Some rows of one piece of the outputs, for one block of inputs.
#[derive(Clone, Copy)]
struct Tile {
    a: *const f32,
    b: *const f32,
    walk: Walk,
    last: usize,
    ahead: Ahead,
    /// Where the sum goes after it was merged with `merges` others, which wait `step` floats after one another behind it.
    to: *mut f32,
    merges: usize,
    step: usize,
    outputs: usize,
}

struct ForwardTile<const P: usize, const N: usize, const TAIL: bool>(Tile);

impl<const P: usize, const N: usize, const TAIL: bool> Work for ForwardTile<P, N, TAIL> {
    #[inline(always)]
    unsafe fn work<S: Simd>(&self) {
        let Tile { a, b, walk, last, ahead, to, merges, step, outputs } = self.0;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); N]; P];
            multiply_ahead::<S, P, N, TAIL>(&mut sums, a, b, walk, last, ahead);
            for merge in (0..merges).rev() {
                for p in 0..P {
                    for n in 0..N {
                        let left = load::<S, N, TAIL>(to.add(merge * step + p * outputs), n, last);
                        sums[p][n] = S::add(left, sums[p][n]);
                    }
                }
            }
            for p in 0..P {
                for n in 0..N {
                    store::<S, N, TAIL>(to.add(p * outputs), n, last, sums[p][n]);
                }
            }
        }
    }
}
