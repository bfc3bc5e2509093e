//! The weights' way to the 36 positions.

use super::super::super::simd::Simd;
use super::super::sweep::blocks;
use super::{IN, POSITIONS, transform};

/// Puts a window's weights, `[3, 3, inputs, outputs]` but with steps of their own between inputs and between outputs,
/// in the order in which the products read them: for each block of outputs `[positions, inputs, lanes]`. `turned`: by 180°.
#[inline(always)]
pub fn pack<S: Simd>(
    weight: &[f32],
    [inputs, outputs]: [usize; 2],
    [input_step, output_step]: [usize; 2],
    turned: bool,
    packed: &mut [f32],
) {
    assert!(weight.len() == 9 * inputs * outputs);
    for (first, lanes) in blocks::<S>(outputs) {
        let block = &mut packed[first * POSITIONS * inputs..][..lanes * POSITIONS * inputs];
        for input in 0..inputs {
            for lane in (0..lanes).step_by(S::LANES) {
                let mut taps = [[0.0; 16]; 9];
                let count = S::LANES.min(outputs - first - lane);
                for (tap, taps) in taps.iter_mut().enumerate() {
                    let tap = if turned { 8 - tap } else { tap };
                    let from = tap * inputs * outputs + input * input_step + (first + lane) * output_step;
                    for (value, from) in taps[..count].iter_mut().zip(weight[from..].iter().step_by(output_step)) {
                        *value = *from;
                    }
                }
                // SAFETY: every place is one of `block`, which holds all positions of all inputs.
                unsafe {
                    let to = block[input * lanes + lane..].as_mut_ptr();
                    transform_taps::<S>(&taps, to, inputs * lanes);
                }
            }
        }
    }
}

/// One vector of outputs: columns, then rows.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn transform_taps<S: Simd>(taps: &[[f32; 16]; 9], to: *mut f32, position: usize) {
    // SAFETY: the caller's promise; a vector has at most 16 lanes.
    unsafe {
        let mut columns = [[S::splat(0.0); 3]; IN];
        for x in 0..3 {
            let at = |y: usize| taps[y * 3 + x].as_ptr();
            let line = transform::weight::<S>([S::load(at(0)), S::load(at(1)), S::load(at(2))]);
            for y in 0..IN {
                columns[y][x] = line[y];
            }
        }
        for y in 0..IN {
            let line = transform::weight::<S>(columns[y]);
            for x in 0..IN {
                S::store(to.add((y * IN + x) * position), line[x]);
            }
        }
    }
}
