//! The transforms of F(4×4, 3×3), by the points 0, ±3/4, ±3/2 and infinity (Lavin and Gray, "Fast Algorithms for
//! Convolutional Neural Networks", with other points: rounding errors are half those of 0, ±1, ±2, the largest a third
//! (`benches/winograd_points.py`), and all factors of images and outputs are exact).
//!
//! Each is one transform of a line, done along the columns of a tile first, then along its rows; the operations and their
//! order are the ones that stand here.

use super::super::super::simd::Simd;

/// The points A and B, their powers, and what the lines of the weights are divided by.
const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
const A3: f32 = A * A * A;
const B3: f32 = B * B * B;
const BOTH: f32 = A2 * B2;
const SUM: f32 = A2 + B2;
const AT_0: f32 = 1.0 / BOTH;
const AT_A: f32 = 1.0 / (2.0 * A2 * (A2 - B2));
const AT_B: f32 = 1.0 / (2.0 * B2 * (B2 - A2));

/// Six pixels.
///
/// # Safety
/// As [`Simd`]; so with all of them.
#[inline(always)]
pub unsafe fn image<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let even_a = S::mul_add(S::splat(-B2), d[2], d[4]);
        let odd_a = S::mul_add(S::splat(-B2), d[1], d[3]);
        let even_b = S::mul_add(S::splat(-A2), d[2], d[4]);
        let odd_b = S::mul_add(S::splat(-A2), d[1], d[3]);
        [
            S::mul_add(S::splat(BOTH), d[0], S::mul_add(S::splat(-SUM), d[2], d[4])),
            S::mul_add(S::splat(A), odd_a, even_a),
            S::mul_add(S::splat(-A), odd_a, even_a),
            S::mul_add(S::splat(B), odd_b, even_b),
            S::mul_add(S::splat(-B), odd_b, even_b),
            S::mul_add(S::splat(BOTH), d[1], S::mul_add(S::splat(-SUM), d[3], d[5])),
        ]
    }
}

/// Six sums to four outputs.
#[inline(always)]
pub unsafe fn output<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let (sum_a, sum_b) = (S::add(m[1], m[2]), S::add(m[3], m[4]));
        let (gap_a, gap_b) = (S::sub(m[1], m[2]), S::sub(m[3], m[4]));
        [
            S::add(S::add(m[0], sum_a), sum_b),
            S::mul_add(S::splat(B), gap_b, S::mul(S::splat(A), gap_a)),
            S::mul_add(S::splat(B2), sum_b, S::mul(S::splat(A2), sum_a)),
            S::mul_add(S::splat(B3), gap_b, S::mul_add(S::splat(A3), gap_a, m[5])),
        ]
    }
}

/// Three weights.
#[inline(always)]
pub unsafe fn weight<S: Simd>(g: [S::V; 3]) -> [S::V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let even_a = S::mul_add(S::splat(AT_A * A2), g[2], S::mul(S::splat(AT_A), g[0]));
        let even_b = S::mul_add(S::splat(AT_B * B2), g[2], S::mul(S::splat(AT_B), g[0]));
        let odd_a = S::mul(S::splat(AT_A * A), g[1]);
        let odd_b = S::mul(S::splat(AT_B * B), g[1]);
        [
            S::mul(S::splat(AT_0), g[0]),
            S::add(even_a, odd_a),
            S::sub(even_a, odd_a),
            S::add(even_b, odd_b),
            S::sub(even_b, odd_b),
            g[2],
        ]
    }
}

/// Four gradients of outputs: the backward pass of [`output`].
#[inline(always)]
pub unsafe fn d_output<S: Simd>(y: [S::V; 4]) -> [S::V; 6] {
    // SAFETY: the caller's promise.
    unsafe {
        let even_a = S::mul_add(S::splat(A2), y[2], y[0]);
        let odd_a = S::mul_add(S::splat(A2), y[3], y[1]);
        let even_b = S::mul_add(S::splat(B2), y[2], y[0]);
        let odd_b = S::mul_add(S::splat(B2), y[3], y[1]);
        [
            y[0],
            S::mul_add(S::splat(A), odd_a, even_a),
            S::mul_add(S::splat(-A), odd_a, even_a),
            S::mul_add(S::splat(B), odd_b, even_b),
            S::mul_add(S::splat(-B), odd_b, even_b),
            y[3],
        ]
    }
}

/// Six sums to three gradients of weights: the backward pass of [`weight`].
#[inline(always)]
pub unsafe fn d_weight<S: Simd>(u: [S::V; 6]) -> [S::V; 3] {
    // SAFETY: the caller's promise.
    unsafe {
        let (sum_a, sum_b) = (S::add(u[1], u[2]), S::add(u[3], u[4]));
        let (gap_a, gap_b) = (S::sub(u[1], u[2]), S::sub(u[3], u[4]));
        let first = S::mul_add(S::splat(AT_A), sum_a, S::mul(S::splat(AT_0), u[0]));
        [
            S::mul_add(S::splat(AT_B), sum_b, first),
            S::mul_add(S::splat(AT_B * B), gap_b, S::mul(S::splat(AT_A * A), gap_a)),
            S::mul_add(S::splat(AT_B * B2), sum_b, S::mul_add(S::splat(AT_A * A2), sum_a, u[5])),
        ]
    }
}
