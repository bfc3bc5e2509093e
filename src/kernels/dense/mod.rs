//! Dense layers that read their weights from memory once a pass, whatever the batch: at batch 1 to 256 that is what
//! binds them. The weights are never copied; a block of them stays in the cache while all rows use it.

// Plain loops over constants: what iterators make of tiles does not stay in registers.
#![allow(clippy::needless_range_loop)]

mod backward_data;
mod backward_weights;
mod forward;
mod rows;
mod scratch;

pub use backward_data::{dense_backward_data, dense_backward_inputs, dense_turn, dense_turned};
pub use backward_weights::{dense_backward_bias, dense_backward_range, dense_backward_weights};
pub use forward::{DENSE_BLOCK, dense_forward, dense_forward_blocks, dense_forward_sums, dense_outputs};
pub use rows::{Groups, GroupsMut, Rows, RowsMut};
pub use scratch::{dense_backward_scratch, dense_scratch};

use super::shape::DenseShape;
use super::simd::Simd;

/// Inputs that are turned around, from rows to columns or back, at once.
const TURN: usize = 48;

fn check(shape: DenseShape, batch: usize, input: &[f32], weight: &[f32], output: &[f32]) {
    assert_eq!(input.len(), batch * shape.inputs, "input of {shape:?} x {batch}");
    assert_eq!(output.len(), batch * shape.outputs, "output of {shape:?} x {batch}");
    assert_eq!(weight.len(), shape.inputs * shape.outputs, "weight of {shape:?}");
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
    ($S:ty, $wide:literal, $vectors:expr, $last:expr, $N:ident, $TAIL:ident => $work:expr) => {{
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
            (4, false) if $wide => arm!(4, false),
            (8, false) if $wide => arm!(8, false),
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

use with_piece;
