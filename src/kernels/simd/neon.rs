//! NEON, for aarch64. Untested: never compiled or run by us, for want of such a machine.

use std::arch::aarch64::*;

use super::Simd;

/// Four lanes, thirty-two registers.
#[derive(Clone, Copy, Debug)]
pub struct Neon;

// SAFETY of every block: NEON is part of aarch64, and the named lanes are valid memory, by the contract of `Simd`.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Neon {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    type V = float32x4_t;
    type M = uint32x4_t;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: float32x4_t) {
        unsafe { vst1q_f32(to, v) }
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> float32x4_t {
        let mut lanes = [0.0; 4];
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            vld1q_f32(lanes.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_first(to: *mut f32, v: float32x4_t, count: usize) {
        let mut lanes = [0.0; 4];
        unsafe {
            vst1q_f32(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    unsafe fn greater(a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        unsafe { vcgtq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn at_most(a: float32x4_t, b: float32x4_t) -> uint32x4_t {
        unsafe { vcleq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn is_nan(v: float32x4_t) -> uint32x4_t {
        unsafe { vmvnq_u32(vceqq_f32(v, v)) }
    }
    #[inline(always)]
    unsafe fn or(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        unsafe { vorrq_u32(a, b) }
    }
    #[inline(always)]
    unsafe fn select(mask: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(mask, a, b) }
    }
    #[inline(always)]
    unsafe fn to_bits(mask: uint32x4_t) -> u16 {
        let lane = [1u32, 2, 4, 8];
        unsafe { vaddvq_u32(vandq_u32(mask, vld1q_u32(lane.as_ptr()))) as u16 }
    }
    #[inline(always)]
    unsafe fn from_bits(bits: u16) -> uint32x4_t {
        let lane = [1u32, 2, 4, 8];
        unsafe { vtstq_u32(vdupq_n_u32(u32::from(bits)), vld1q_u32(lane.as_ptr())) }
    }
    #[inline(never)]
    unsafe fn outline<W: super::Work>(work: &W) {
        unsafe { work.work::<Neon>() }
    }
}
