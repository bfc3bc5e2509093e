//! The forward pass: blocks of inputs, each a chain, joined in the fixed tree.

use super::super::isa::dispatch;
use super::super::shape::DenseShape;
use super::super::simd::{Simd, Work};
use super::super::sum::joins_of_block;
use super::super::tile::{Ahead, Walk, cut, most_rows, multiply_ahead, with_rows};
use super::{check, load, pieces, store, with_piece};

/// Inputs in a block: a sum over inputs is one chain in each block, blocks are joined in the fixed tree.
pub const DENSE_BLOCK: usize = 256;

/// Floats of scratch memory: a sum a level of the tree.
pub(super) fn scratch(shape: DenseShape, batch: usize) -> usize {
    (shape.inputs.div_ceil(DENSE_BLOCK).ilog2() as usize + 1) * batch * shape.outputs
}

dispatch! {
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
    assert!(bias.len() == shape.outputs && scratch.len() >= self::scratch(shape, batch));
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
        // While a block is worked on, the next one is asked for, a share with each tile.
        let tiles = cut(batch, most_rows::<S>(wide)).count() * pieces::<S>(outputs, wide).count();
        let share = (len * outputs).div_ceil(16).div_ceil(tiles.max(1));
        let step = batch * outputs;
        let mut ahead = weight.as_ptr().wrapping_add((first + len) * outputs);
        for (row, rows) in cut(batch, most_rows::<S>(wide)) {
            for (o, vectors, last) in pieces::<S>(outputs, wide) {
                // SAFETY: `check`; levels and places lie within `scratch`.
                unsafe {
                    let stack = scratch.as_mut_ptr().add(row * outputs + o);
                    let tile = Tile {
                        a: input.as_ptr().add(row * inputs + first),
                        b: weight.as_ptr().add(first * outputs + o),
                        walk,
                        last,
                        ahead: Ahead { from: ahead, lines: share },
                        to: stack.add((level - joins) * step),
                        joins,
                        step,
                        outputs,
                    };
                    with_piece!(S, true, vectors, last, N, TAIL => {
                        with_rows!(S, if N < 2 { 2 } else { N }, rows, P => S::outline(&ForwardTile::<P, N, TAIL>(tile)));
                    });
                }
                ahead = ahead.wrapping_add(share * 16);
            }
        }
    }
    for (output, sums) in output.chunks_exact_mut(outputs).zip(scratch.chunks_exact(outputs)) {
        for ((output, sum), bias) in output.iter_mut().zip(sums).zip(bias) {
            *output = sum + bias;
        }
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
    /// Where the sum goes after it was joined with `joins` others, which wait `step` floats after one another behind it.
    to: *mut f32,
    joins: usize,
    step: usize,
    outputs: usize,
}

struct ForwardTile<const P: usize, const N: usize, const TAIL: bool>(Tile);

impl<const P: usize, const N: usize, const TAIL: bool> Work for ForwardTile<P, N, TAIL> {
    #[inline(always)]
    unsafe fn work<S: Simd>(&self) {
        let Tile { a, b, walk, last, ahead, to, joins, step, outputs } = self.0;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); N]; P];
            multiply_ahead::<S, P, N, TAIL>(&mut sums, a, b, walk, last, ahead);
            for join in (0..joins).rev() {
                for p in 0..P {
                    for n in 0..N {
                        let left = load::<S, N, TAIL>(to.add(join * step + p * outputs), n, last);
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
