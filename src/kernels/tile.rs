//! The one inner loop of all convolutions and dense layers: a tile of sums held in registers.
//!
//! Every sum is one chain of fused multiply-adds in the order of its terms, whatever the tile: that is what makes the bits
//! independent of tiling, batch and instruction set.

use super::simd::{Simd, prefetch};

/// How a tile's operands are walked; all steps in floats.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// Outer and inner length of the sum.
    pub runs: usize,
    pub len: usize,
    /// From row to row of the tile, from run to run, and from term to term in `a` (one value is read a row).
    pub a_row: usize,
    pub a_run: usize,
    pub a_k: usize,
    /// From run to run and from term to term in `b` (a whole line of lanes is read).
    pub b_run: usize,
    pub b_k: usize,
}

/// Rows that a tile `n` vectors wide may have: sums, one line of `b` and a value of `a` must fit the registers. Eight
/// chains keep two multiply-adds a cycle busy; ten rows are as good as more. The reference may be slow, and is small.
pub const fn most_rows<S: Simd>(n: usize) -> usize {
    let rows = (S::REGISTERS - 4) / n;
    let most = match (S::LANES, n) {
        (1, _) => 3,
        (_, 1) => 8,
        _ => 10,
    };
    if rows < most { rows } else { most }
}

/// Cuts `0 .. count` into as few ranges of at most `most` as possible, of nearly equal size: (start, length).
#[inline(always)]
pub fn cut(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = count.div_ceil(most);
    let (size, longer) = (count / parts.max(1), count % parts.max(1));
    (0..parts).map(move |part| (part * size + part.min(longer), size + usize::from(part < longer)))
}

/// The same pointer, about which the compiler knows nothing: it can then not load for later terms first, which it likes to,
/// and for which there are no registers left.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block)] // The pointer is not followed.
fn opaque(pointer: *const f32) -> *const f32 {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut pointer = pointer;
        // SAFETY: no instruction at all.
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) pointer, options(nomem, nostack, preserves_flags));
        }
        pointer
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pointer
}

/// `sums[p][n] += Σ a[p·a_row + run·a_run + k·a_k] · b[run·b_run + k·b_k + n·LANES ..]`, run after run, k after k.
///
/// With `TAIL` only the first `last` lanes of the last vector of `b` are read.
///
/// # Safety
/// As [`Simd`]; `a` and `b` must be readable at every place that `walk` names.
#[inline(always)]
pub unsafe fn multiply<S: Simd, const P: usize, const N: usize, const TAIL: bool>(
    sums: &mut [[S::V; N]; P],
    a: *const f32,
    b: *const f32,
    walk: Walk,
    last: usize,
) {
    let mut c = *sums;
    // SAFETY: every address below is one that the caller vouches for.
    unsafe {
        for run in 0..walk.runs {
            let (mut a, mut b) = (a.add(run * walk.a_run), b.add(run * walk.b_run));
            macro_rules! term {
                () => {
                    let mut line = [S::splat(0.0); N];
                    for (n, vector) in line.iter_mut().enumerate() {
                        let from = b.add(n * S::LANES);
                        *vector = if TAIL && n == N - 1 { S::load_first(from, last) } else { S::load(from) };
                    }
                    for (p, row) in c.iter_mut().enumerate() {
                        let value = S::splat(*a.add(p * walk.a_row));
                        for (sum, &vector) in row.iter_mut().zip(&line) {
                            *sum = S::mul_add(value, vector, *sum);
                        }
                    }
                    a = opaque(a.wrapping_add(walk.a_k));
                    b = opaque(b.wrapping_add(walk.b_k));
                };
            }
            // Few, long rounds: the loop's exit is then foreseen by the processor.
            for _ in 0..walk.len / 4 {
                term!();
                term!();
                term!();
                term!();
            }
            for _ in 0..walk.len % 4 {
                term!();
            }
        }
    }
    *sums = c;
}

/// Memory that will be read soon: it is asked for while a tile is worked on.
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    /// Where it begins.
    pub from: *const f32,
    /// Cache lines.
    pub lines: usize,
}

/// Terms between two requests for memory.
const ROUND: usize = 32;

/// As [`multiply`], with one run; meanwhile asks for `ahead`.
///
/// # Safety
/// As [`multiply`]; `ahead` need not be valid memory.
#[inline(always)]
pub unsafe fn multiply_ahead<S: Simd, const P: usize, const N: usize, const TAIL: bool>(
    sums: &mut [[S::V; N]; P],
    a: *const f32,
    b: *const f32,
    walk: Walk,
    last: usize,
    ahead: Ahead,
) {
    let mut line = ahead.from;
    let lines = ahead.lines.div_ceil(walk.len.div_ceil(ROUND));
    for first in (0..walk.len).step_by(ROUND) {
        for _ in 0..lines {
            prefetch(line);
            line = line.wrapping_add(16);
        }
        let walk = Walk { len: ROUND.min(walk.len - first), ..walk };
        // SAFETY: the caller's promise, for these terms.
        unsafe {
            multiply::<S, P, N, TAIL>(sums, a.add(first * walk.a_k), b.add(first * walk.b_k), walk, last);
        }
    }
}

/// Runs `$work` with the constant `$P` equal to `$rows`, for tiles `$n` vectors wide.
macro_rules! with_rows {
    ($S:ty, $n:expr, $rows:expr, $P:ident => $work:expr) => {{
        macro_rules! arm {
            ($value:literal) => {{
                const $P: usize = $value;
                if $P <= $crate::tile::most_rows::<$S>($n) { $work } else { unreachable!("a tile of {} rows", $P) }
            }};
        }
        match $rows {
            1 => arm!(1),
            2 => arm!(2),
            3 => arm!(3),
            4 => arm!(4),
            5 => arm!(5),
            6 => arm!(6),
            7 => arm!(7),
            8 => arm!(8),
            9 => arm!(9),
            10 => arm!(10),
            rows => unreachable!("a tile of {rows} rows"),
        }
    }};
}

pub(super) use with_rows;

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_length_is_cut_into_few_nearly_equal_parts() {
        let parts = |count, most| cut(count, most).collect::<Vec<_>>();
        assert_eq!(parts(14, 6), [(0, 5), (5, 5), (10, 4)]);
        assert_eq!(parts(12, 6), [(0, 6), (6, 6)]);
        assert_eq!(parts(5, 6), [(0, 5)]);
        assert_eq!(parts(0, 6), []);
    }
}
