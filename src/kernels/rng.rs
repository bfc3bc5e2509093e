//! Randomness that is addressed, not drawn.
//!
//! A number is a pure function of (seed, purpose, layer, epoch, row, element): no state to carry, save or share, and
//! no order of use. The generator is Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
//! SC'11). The key is the seed (low word, high word); the counter is
//! `[element / 4, row, epoch, purpose << 16 | layer]`, and word `element % 4` of its block is the number.

/// What a stream of numbers is for. Streams of different purposes never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights: `layer` is the parameter's index in the table, `element` the weight's index in it.
    Weights = 1,
    /// The order of a shard's rows: `row` is the shard, `element` the position.
    Shuffle = 2,
    /// Dropout: `layer` is the index in the layer list, `row` the dataset row, `element` the activation's index; of a
    /// dropped path, 0.
    Dropout = 3,
    /// Pixels and shapes of synthetic data: `row` is the row in the file.
    Synth = 4,
    /// Which rows are held back when a dataset is made, and the order in which rows are written.
    Split = 5,
    /// Changes to a training row: `row` is the dataset row, element 0 decides on the mirror.
    Augment = 6,
    /// Which row stands at a place of a bootstrapped split: `element` is the place.
    Bootstrap = 7,
    /// The order of a shard's blocks of rows: `row` is the shard, `element` the position.
    Blocks = 8,
}

/// The address of a stream of numbers; `element` counts within it.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    key: [u32; 2],
    row: u32,
    epoch: u32,
    tag: u32,
}

/// Where in a run a training pass is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingPass {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: usize,
}

impl TrainingPass {
    /// The stream of `purpose` for one layer and row.
    pub fn stream(&self, purpose: Purpose, layer: usize, row: usize) -> Stream {
        Stream::new(self.seed, purpose, layer, self.epoch, row)
    }
}

impl Stream {
    /// The stream of `purpose` for one layer, epoch (from 0) and row.
    pub fn new(seed: u64, purpose: Purpose, layer: usize, epoch: usize, row: usize) -> Self {
        debug_assert!(layer < 1 << 16 && epoch <= u32::MAX as usize && row <= u32::MAX as usize);
        Stream {
            key: [seed as u32, (seed >> 32) as u32],
            row: row as u32,
            epoch: epoch as u32,
            tag: (purpose as u32) << 16 | layer as u32,
        }
    }

    /// Four numbers: elements `4 * index ..= 4 * index + 3`.
    #[inline(always)]
    pub fn block(&self, index: u32) -> [u32; 4] {
        philox4x32([index, self.row, self.epoch, self.tag], self.key)
    }

    /// 32 random bits.
    #[inline]
    pub fn bits(&self, element: usize) -> u32 {
        self.block((element / 4) as u32)[element % 4]
    }

    /// Uniform in `[0, 1)`, on a grid of 2⁻²⁴.
    #[inline]
    pub fn uniform(&self, element: usize) -> f32 {
        unit(self.bits(element))
    }

    /// Uniform in `0..n` (Lemire's multiplication; the bias is below n · 2⁻³²).
    #[inline]
    pub fn below(&self, element: usize, n: usize) -> usize {
        ((u64::from(self.bits(element)) * n as u64) >> 32) as usize
    }

    /// Fills `out` with normal numbers of mean 0 and deviation `std` (Box–Muller on neighbouring elements, in f64 with
    /// a pure-Rust libm: the same bits on every platform).
    pub fn fill_normal(&self, out: &mut [f32], std: f64) {
        for (index, four) in out.chunks_mut(4).enumerate() {
            let words = self.block(index as u32);
            let (a, b) = box_muller(words[0], words[1]);
            let (c, d) = box_muller(words[2], words[3]);
            for (value, normal) in four.iter_mut().zip([a, b, c, d]) {
                *value = (normal * std) as f32;
            }
        }
    }

    /// A permutation of `0..n` (Fisher–Yates from the top; step `i` uses element `i`).
    pub fn permutation(&self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        self.shuffle(0, &mut order);
        order
    }

    /// Permutes `values` (Fisher–Yates from the top; step `i` uses element `first + i`).
    pub fn shuffle<T>(&self, first: usize, values: &mut [T]) {
        for i in (1..values.len()).rev() {
            values.swap(i, self.below(first + i, i + 1));
        }
    }
}

/// 24 random bits as a number in `[0, 1)`.
#[inline(always)]
pub fn unit(bits: u32) -> f32 {
    (bits >> 8) as f32 * (1.0 / 16_777_216.0)
}

fn box_muller(a: u32, b: u32) -> (f64, f64) {
    let u = (f64::from(a >> 8) + 1.0) / 16_777_216.0;
    let angle = 2.0 * std::f64::consts::PI * f64::from(b >> 8) / 16_777_216.0;
    let radius = (-2.0 * libm::log(u)).sqrt();
    let (sin, cos) = libm::sincos(angle);
    (radius * cos, radius * sin)
}

#[inline(always)]
fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let low = u64::from(counter[0]) * 0xD251_1F53;
        let high = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (high >> 32) as u32 ^ counter[1] ^ key[0],
            high as u32,
            (low >> 32) as u32 ^ counter[3] ^ key[1],
            low as u32,
        ];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_known_answers_of_random123() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn normal_numbers_have_the_asked_mean_and_deviation() {
        let mut values = vec![0.0; 100_000];
        Stream::new(7, Purpose::Weights, 0, 0, 0).fill_normal(&mut values, 2.0);
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 4.0).abs() < 0.06, "{variance}");
    }

    #[test]
    fn a_permutation_holds_every_number_once_and_changes_with_its_address() {
        let stream = |epoch, shard| Stream::new(1, Purpose::Shuffle, 0, epoch, shard).permutation(1000);
        let mut sorted = stream(0, 0);
        sorted.sort_unstable();
        assert!(sorted.iter().copied().eq(0..1000));
        assert_ne!(stream(0, 0), stream(1, 0));
        assert_ne!(stream(0, 0), stream(0, 1));
        assert_eq!(stream(3, 2), stream(3, 2));
    }
}
