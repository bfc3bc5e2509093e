//! One lane: the reference. Plain Rust, and what every other instruction set must agree with bit for bit.

use super::Simd;

/// Plain `f32`.
#[derive(Clone, Copy, Debug)]
pub struct Scalar;

impl Simd for Scalar {
    const LANES: usize = 1;
    const REGISTERS: usize = 16;
    type V = f32;
    type M = bool;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> f32 {
        // SAFETY: one lane is readable, by the contract of the trait.
        unsafe { *from }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: f32) {
        // SAFETY: one lane is writable, by the contract of the trait.
        unsafe { *to = v }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> f32 {
        // SAFETY: `count` lanes are readable, by the contract of the trait.
        if count > 0 { unsafe { *from } } else { 0.0 }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: f32, count: usize) {
        if count > 0 {
            // SAFETY: `count` lanes are writable, by the contract of the trait.
            unsafe { *to = v }
        }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> f32 {
        value
    }
    #[inline(always)]
    unsafe fn add(a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    unsafe fn sub(a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    unsafe fn mul(a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    unsafe fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
    #[inline(always)]
    unsafe fn greater(a: f32, b: f32) -> bool {
        a > b
    }
    #[inline(always)]
    unsafe fn at_most(a: f32, b: f32) -> bool {
        a <= b
    }
    #[inline(always)]
    unsafe fn is_nan(v: f32) -> bool {
        v.is_nan()
    }
    #[inline(always)]
    unsafe fn or(a: bool, b: bool) -> bool {
        a | b
    }
    #[inline(always)]
    unsafe fn select(mask: bool, a: f32, b: f32) -> f32 {
        if mask { a } else { b }
    }
    #[inline(always)]
    unsafe fn to_bits(mask: bool) -> u16 {
        u16::from(mask)
    }
    #[inline(always)]
    unsafe fn from_bits(bits: u16) -> bool {
        bits & 1 == 1
    }
    #[inline(never)]
    unsafe fn outline<W: super::Work>(work: &W) {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "fma")]
        #[inline(never)]
        fn with_fma<W: super::Work>(work: &W) {
            // SAFETY: the caller's promise.
            unsafe { work.work::<Scalar>() }
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("fma") {
            // SAFETY: asked for right here; without it, `mul_add` is a slow call.
            return unsafe { with_fma(work) };
        }
        // SAFETY: the caller's promise.
        unsafe { work.work::<Scalar>() }
    }
}
