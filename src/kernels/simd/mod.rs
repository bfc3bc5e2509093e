//! One vector of `f32` lanes, whatever the instruction set: kernels are written once over [`Simd`] and compiled for each.
//!
//! What runs on vectors must be `#[inline(always)]` down to the last function, and no closure: a closure may be compiled by
//! itself, without the instruction set, and then every operation in it is a call.

#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// The operations that kernels are made of. Lanes never meet: an operation gives the same bits in a lane of any width.
///
/// # Safety
/// Every function may only be called where the instruction set is enabled (inside [`dispatch!`](super::isa::dispatch)),
/// and pointers must be valid for the lanes that are named. No alignment is asked for.
#[allow(clippy::missing_safety_doc)] // Said once, above.
pub trait Simd: Copy {
    /// Lanes of a vector.
    const LANES: usize;
    /// Vectors that the processor can name at once.
    const REGISTERS: usize;
    /// A vector.
    type V: Copy;
    /// A truth value a lane.
    type M: Copy;

    unsafe fn load(from: *const f32) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    /// The first `count` lanes; the others are 0 and nothing is read for them. `count` is at most [`Simd::LANES`].
    unsafe fn load_first(from: *const f32, count: usize) -> Self::V;
    /// Only the first `count` lanes.
    unsafe fn store_first(to: *mut f32, v: Self::V, count: usize);
    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b`; false where one is NaN.
    unsafe fn greater(a: Self::V, b: Self::V) -> Self::M;
    /// `a ≤ b`; false where one is NaN.
    unsafe fn at_most(a: Self::V, b: Self::V) -> Self::M;
    unsafe fn is_nan(v: Self::V) -> Self::M;
    unsafe fn or(a: Self::M, b: Self::M) -> Self::M;
    /// `a` where true, `b` elsewhere.
    unsafe fn select(mask: Self::M, a: Self::V, b: Self::V) -> Self::V;
    /// Lane `i` as bit `i`.
    unsafe fn to_bits(mask: Self::M) -> u16;
    /// Bit `i` as lane `i`.
    unsafe fn from_bits(bits: u16) -> Self::M;
    /// Runs `work` as a function of its own, compiled for this instruction set: where a routine has dozens of variants,
    /// one function that holds them all takes the compiler quadratic time.
    unsafe fn outline<W: Work>(work: &W);
}

/// What [`Simd::outline`] runs.
pub trait Work {
    /// Must be `#[inline(always)]`.
    ///
    /// # Safety
    /// As [`Simd`], and as the work itself says.
    unsafe fn work<S: Simd>(&self);
}

/// `count` lanes, at most all: the rest are 0.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub unsafe fn load_some<S: Simd>(from: *const f32, count: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if count == S::LANES { S::load(from) } else { S::load_first(from, count) } }
}

/// `count` lanes, at most all.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub unsafe fn store_some<S: Simd>(to: *mut f32, v: S::V, count: usize) {
    // SAFETY: the caller's promise.
    unsafe { if count == S::LANES { S::store(to, v) } else { S::store_first(to, v, count) } }
}

/// Asks for the cache line at `from`, which need not be valid memory.
#[inline(always)]
pub fn prefetch(from: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it never faults, and every x86-64 processor has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}
