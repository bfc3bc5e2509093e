//! The products of matrices: at each position `[tiles, c_in] · [c_in, lanes]`.

use super::super::super::simd::{Simd, Work};
use super::super::super::tile::{Walk, most_rows, multiply, with_rows};
use super::POSITIONS;

/// Transformed tiles, weights of one block of channels, and where the sums go: `[tiles, lanes]` a position.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Channels that are summed over.
    pub c_in: usize,
    /// Tiles `[tiles, c_in]`, and the floats from position to position.
    pub tiles: *const f32,
    /// Floats from position to position of the tiles.
    pub tiles_position: usize,
    /// Weights `[c_in, lanes]`, position after position.
    pub weights: *const f32,
    /// The sums.
    pub sums: *mut f32,
    /// Floats from position to position of the sums.
    pub sums_position: usize,
}

/// Some groups of `P` tiles.
struct Groups<const P: usize, const N: usize> {
    product: Product,
    count: usize,
}

/// `tiles` tiles by one block of channels, `N` vectors wide, at all positions.
///
/// # Safety
/// As [`Simd`]; the product's places hold what they say.
#[inline(always)]
pub unsafe fn product<S: Simd, const N: usize>(product: Product, tiles: usize) {
    let parts = tiles.div_ceil(most_rows::<S>(N));
    let (size, longer) = (tiles / parts, tiles % parts);
    // SAFETY: the caller's promise; the groups of both sizes are all tiles.
    unsafe {
        if longer > 0 {
            with_rows!(S, N, size + 1, P => S::outline(&Groups::<P, N> { product, count: longer }));
        }
        let rest = Product {
            tiles: product.tiles.add(longer * (size + 1) * product.c_in),
            sums: product.sums.add(longer * (size + 1) * N * S::LANES),
            ..product
        };
        with_rows!(S, N, size, P => S::outline(&Groups::<P, N> { product: rest, count: parts - longer }));
    }
}

impl<const P: usize, const N: usize> Work for Groups<P, N> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    unsafe fn work<S: Simd>(&self) {
        let Product { c_in, tiles, tiles_position, weights, sums, sums_position } = self.product;
        let lanes = N * S::LANES;
        let walk = Walk { runs: 1, len: c_in, a_row: c_in, a_k: 1, b_k: lanes, ..Walk::default() };
        for position in 0..POSITIONS {
            // SAFETY: the caller's promise.
            unsafe {
                let weights = weights.add(position * c_in * lanes);
                let (mut from, mut to) = (tiles.add(position * tiles_position), sums.add(position * sums_position));
                for _ in 0..self.count {
                    let mut c = [[S::splat(0.0); N]; P];
                    multiply::<S, P, N, false>(&mut c, from, weights, walk, 0);
                    for p in 0..P {
                        for n in 0..N {
                            S::store(to.add(p * lanes + n * S::LANES), c[p][n]);
                        }
                    }
                    (from, to) = (from.add(P * c_in), to.add(P * lanes));
                }
            }
        }
    }
}
