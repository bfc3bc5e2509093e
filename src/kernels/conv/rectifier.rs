//! Activations that are fused into a convolution: linear above zero, another line below.

use super::super::simd::Simd;

/// `v` where positive (or NaN), else a fixed multiple of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rectifier {
    /// `max(v, 0)`
    Relu,
    /// `v` where positive, else this times `v`. The factor is positive.
    Leaky(f32),
}

impl Rectifier {
    /// The slope below zero.
    #[inline(always)]
    pub(super) fn slope_below(self) -> f32 {
        match self {
            Rectifier::Relu => 0.0,
            Rectifier::Leaky(slope) => slope,
        }
    }

    /// A value times the slope below zero. A relu gives +0 whatever the value.
    #[inline(always)]
    pub(super) fn below(self, slope: f32, value: f32) -> f32 {
        if self == Rectifier::Relu { 0.0 } else { slope * value }
    }

    /// The function itself. NaN stays NaN.
    ///
    /// # Safety
    /// As [`Simd`].
    #[inline(always)]
    pub(super) unsafe fn apply<S: Simd>(self, v: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = S::splat(0.0);
            let below = match self {
                Rectifier::Relu => zero,
                Rectifier::Leaky(slope) => S::mul(S::splat(slope), v),
            };
            S::select(S::at_most(v, zero), below, v)
        }
    }

    /// `gradient` times the slope, given the function's `output`.
    ///
    /// # Safety
    /// As [`Simd`].
    #[inline(always)]
    pub(super) unsafe fn gate<S: Simd>(self, output: S::V, gradient: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe {
            let zero = S::splat(0.0);
            let below = match self {
                Rectifier::Relu => zero,
                Rectifier::Leaky(slope) => S::mul(S::splat(slope), gradient),
            };
            S::select(S::greater(output, zero), gradient, below)
        }
    }
}
