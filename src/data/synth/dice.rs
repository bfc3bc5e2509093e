//! A cursor over one addressed stream: what a drawing rolls, one number after the other.

use crate::kernels::rng::{Purpose, Stream, unit};

/// Rolls the elements of one row's stream in order. Each row has streams of its own, so rows can be drawn in any order
/// and by any thread.
pub(super) struct Dice {
    stream: Stream,
    block: [u32; 4],
    next: usize,
}

impl Dice {
    /// The numbers of one row; `layer` keeps the streams of one row apart.
    pub fn new(seed: u64, layer: usize, row: usize) -> Self {
        Dice { stream: Stream::new(seed, Purpose::Synth, layer, 0, row), block: [0; 4], next: 0 }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        let place = self.next % 4;
        if place == 0 {
            self.block = self.stream.block((self.next / 4) as u32);
        }
        self.next += 1;
        self.block[place]
    }

    /// Uniform in `[low, high)`.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * unit(self.bits())
    }

    /// Uniform in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.bits()) * n as u64) >> 32) as usize
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        unit(self.bits()) < p
    }

    /// -1 or 1.
    pub fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// One of `items`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_roll_the_elements_of_their_stream_in_order() {
        let stream = Stream::new(9, Purpose::Synth, 3, 0, 5);
        let mut dice = Dice::new(9, 3, 5);
        for element in 0..11 {
            assert_eq!(dice.bits(), stream.bits(element));
        }
        assert_eq!(dice.below(7), stream.below(11, 7));
    }
}
