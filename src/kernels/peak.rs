//! What the processor can do at most: fused multiply-adds that wait for nothing but each other.

use super::isa::dispatch;
use super::simd::Simd;

/// Chains of multiply-adds side by side: enough to fill every unit while each waits for its last result, few enough to
/// stay in the registers of every instruction set.
const CHAINS: usize = 12;

dispatch! {
    /// Runs `rounds` rounds of independent multiply-adds on vectors, and touches no memory while it does. Returns the
    /// floating-point operations that were made, and a number that depends on all of them. For the scalar set this is what
    /// the compiler makes of it: it may put some chains side by side into a vector, as it may in the scalar kernels.
    pub fn fma_chains(rounds: usize, start: f32) -> (u64, f32) = chains
}

#[inline(always)]
fn chains<S: Simd>(rounds: usize, start: f32) -> (u64, f32) {
    let mut last = [0.0f32; 16];
    let mut total = 0.0;
    // SAFETY: inside `dispatch!`; `last` is as long as the widest vector.
    unsafe {
        // Every chain tends to b / (1 − a) = 2: nothing overflows, nothing becomes so small that it slows down.
        let (a, b) = (S::splat(0.5), S::splat(1.0));
        let mut sums = [S::splat(start); CHAINS];
        for (chain, sum) in sums.iter_mut().enumerate() {
            // Equal chains would be one.
            *sum = S::splat(start + chain as f32);
        }
        for _ in 0..rounds {
            // Plain loops over constants, as in `tile`: sums stay in registers.
            for sum in &mut sums {
                *sum = S::mul_add(*sum, a, b);
            }
        }
        for sum in sums {
            S::store(last.as_mut_ptr(), sum);
            total += last[0];
        }
    }
    ((rounds * CHAINS * S::LANES * 2) as u64, total)
}
