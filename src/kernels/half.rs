//! bfloat16: the upper half of an f32, for numbers that travel.

use super::isa::dispatch;
use super::simd::Simd;

/// The nearest bfloat16, of two as near the even one; NaN stays one.
#[inline(always)]
fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    let even = (bits >> 16) & 1;
    let up = bits.wrapping_add(0x7fff + even) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { (bits >> 16) | 0x40 } else { up }
}

dispatch! {
    /// Every value becomes the nearest bfloat16.
    pub fn round_to_bf16(values: &mut [f32]) = round_loops
}

#[inline(always)]
fn round_loops<S: Simd>(values: &mut [f32]) {
    for value in values {
        *value = f32::from_bits(rounded(*value) << 16);
    }
}

/// Floats that take `len` values as bfloat16, two in each.
pub fn packed_len(len: usize) -> usize {
    len.div_ceil(2)
}

dispatch! {
    /// The nearest bfloat16 of every value, two in a float: `packed` is [`packed_len`] long.
    pub fn pack_bf16(values: &[f32], packed: &mut [f32]) = pack_loops
}

#[inline(always)]
fn pack_loops<S: Simd>(values: &[f32], packed: &mut [f32]) {
    assert_eq!(packed.len(), packed_len(values.len()));
    let (pairs, rest) = values.as_chunks::<2>();
    for (packed, [low, high]) in packed.iter_mut().zip(pairs) {
        *packed = f32::from_bits(rounded(*low) | rounded(*high) << 16);
    }
    if let ([value], Some(packed)) = (rest, packed.last_mut()) {
        *packed = f32::from_bits(rounded(*value));
    }
}

dispatch! {
    /// What [`pack_bf16`] packed.
    pub fn unpack_bf16(packed: &[f32], values: &mut [f32]) = unpack_loops
}

#[inline(always)]
fn unpack_loops<S: Simd>(packed: &[f32], values: &mut [f32]) {
    assert_eq!(packed.len(), packed_len(values.len()));
    let (pairs, rest) = values.as_chunks_mut::<2>();
    for (packed, [low, high]) in packed.iter().zip(pairs) {
        let bits = packed.to_bits();
        (*low, *high) = (f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000));
    }
    if let ([value], Some(packed)) = (rest, packed.last()) {
        *value = f32::from_bits(packed.to_bits() << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_the_nearest_bfloat16_and_halves_even() {
        let cases = [
            (1.0, 1.0),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
            (-1.0 - 1.001 / 256.0, -1.0 - 2.0 / 256.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (-0.0, -0.0),
        ];
        for len in [1, 2, 5, cases.len()] {
            let mut values: Vec<f32> = cases[..len].iter().map(|case| case.0).collect();
            let mut packed = vec![0.0; packed_len(len)];
            let mut unpacked = vec![0.0; len];
            pack_bf16(&values, &mut packed);
            unpack_bf16(&packed, &mut unpacked);
            round_to_bf16(&mut values);
            for ((value, unpacked), (_, want)) in values.iter().zip(&unpacked).zip(cases) {
                assert_eq!((value.to_bits(), unpacked.to_bits()), (f32::to_bits(want), f32::to_bits(want)));
            }
        }
        let mut nan = [f32::from_bits(0x7f80_0001)];
        round_to_bf16(&mut nan);
        assert!(nan[0].is_nan());
    }
}
