//! How the winners of a 2×2 max-pool are kept: which of its four pixels each is, as two bits.

use super::super::isa::dispatch;
use super::super::simd::Simd;

/// Words for the winners of one row of `w` pooled pixels: two a vector of channels, the bits of the winner's number.
#[inline(always)]
pub fn winner_words<S: Simd>(w: usize, channels: usize) -> usize {
    w * channels.div_ceil(S::LANES) * 2
}

dispatch! {
    /// [`winner_words`] for the instruction set in use.
    pub fn words_of_row(w: usize, channels: usize) -> usize = winner_words
}
