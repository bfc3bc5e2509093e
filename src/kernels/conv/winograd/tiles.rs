//! Tiles of an image: where they lie, and how they are read and transformed.

use super::super::super::simd::{Simd, Work, prefetch};
use super::super::frame::Frame;
use super::{IN, OUT, transform};

/// An image cut into tiles of 4×4 outputs, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    values: &'a [f32],
    /// How its pixels lie.
    pub frame: Frame,
    pad: [usize; 2],
    /// Tiles in a row of them.
    pub across: usize,
}

/// Tiles of an image of height and width `size`.
pub fn tiles(size: [usize; 2]) -> usize {
    size[0].div_ceil(OUT) * size[1].div_ceil(OUT)
}

/// A tile, or its copy with zeros beyond the border: its first float and the floats from row to row.
type Place = (*const f32, usize);

impl<'a> Image<'a> {
    /// For outputs `width` pixels wide; `pad` rows of zeros above and columns of zeros to the left are under the first tile.
    pub fn new(values: &'a [f32], frame: Frame, pad: [usize; 2], width: usize) -> Image<'a> {
        assert_eq!(values.len(), frame.len());
        Image { values, frame, pad, across: width.div_ceil(OUT) }
    }

    /// Where the `SIZE` × `SIZE` pixels of tile `tile` stand. Tiles that lie partly outside are copied to `patch`.
    #[inline(always)]
    fn place<const SIZE: usize>(&self, tile: usize, patch: &mut [f32]) -> Place {
        let Frame { h, w, c, left, right } = self.frame;
        let y = (tile / self.across * OUT) as isize - self.pad[0] as isize;
        let x = (tile % self.across * OUT) as isize - self.pad[1] as isize;
        let size = SIZE as isize;
        let rows = y >= 0 && y + size <= h as isize;
        if rows && x + left as isize >= 0 && x + size <= (w + right) as isize {
            let first = y as usize * self.frame.row() + (x + left as isize) as usize * c;
            return (self.values[first..].as_ptr(), self.frame.row());
        }
        let columns = (x.max(0) as usize).min(w)..((x + size).max(0) as usize).min(w);
        for (line, patch) in patch[..SIZE * SIZE * c].chunks_exact_mut(SIZE * c).enumerate() {
            let row = y + line as isize;
            patch.fill(0.0);
            if (0..h as isize).contains(&row) && !columns.is_empty() {
                let from = self.frame.pixels(row as usize).start;
                let to = (columns.start as isize - x) as usize * c;
                patch[to..to + columns.len() * c]
                    .copy_from_slice(&self.values[from + columns.start * c..from + columns.end * c]);
            }
        }
        (patch.as_ptr(), SIZE * c)
    }
}

/// Tiles of an image, transformed to `[positions, tiles, channels]`.
pub struct Transform<'a, 'b, const SIZE: usize> {
    /// The image.
    pub image: &'a Image<'b>,
    /// The first tile, and how many.
    pub tiles: (usize, usize),
    /// Where they go, and the floats from position to position.
    pub to: *mut f32,
    /// Floats from position to position.
    pub position: usize,
    /// Room for one tile.
    pub patch: *mut f32,
}

impl<const SIZE: usize> Transform<'_, '_, SIZE> {
    /// All of them.
    ///
    /// # Safety
    /// As [`Simd`]; `to` has room for 36 positions, `patch` for a tile.
    #[inline(always)]
    pub unsafe fn run<S: Simd>(&self) {
        // SAFETY: the caller's promise.
        unsafe { S::outline(self) }
    }
}

impl<const SIZE: usize> Work for Transform<'_, '_, SIZE> {
    #[inline(always)]
    unsafe fn work<S: Simd>(&self) {
        let channels = self.image.frame.c;
        for tile in 0..self.tiles.1 {
            // SAFETY: the caller's promise; `place` says where the tile's pixels can be read.
            unsafe {
                let patch = std::slice::from_raw_parts_mut(self.patch, SIZE * SIZE * channels);
                let (from, row) = self.image.place::<SIZE>(self.tiles.0 + tile, patch);
                let to = self.to.add(tile * channels);
                let whole = channels / S::LANES * S::LANES;
                for channel in (0..whole).step_by(S::LANES) {
                    if channel % 16 == 0 {
                        ask_ahead::<SIZE>(from.wrapping_add(channel), (row, channels));
                    }
                    transform::<S, SIZE, false>(from.add(channel), (row, channels), to.add(channel), self.position, 0);
                }
                if whole < channels {
                    let count = channels - whole;
                    transform::<S, SIZE, true>(from.add(whole), (row, channels), to.add(whole), self.position, count);
                }
            }
        }
    }
}

/// Asks for the pixels that the tile after the next one has for itself.
#[inline(always)]
fn ask_ahead<const SIZE: usize>(from: *const f32, (row, pixel): (usize, usize)) {
    for y in 0..SIZE {
        for x in 0..OUT {
            prefetch(from.wrapping_add(y * row + (SIZE + OUT + x) * pixel));
        }
    }
}

/// One vector of channels of one tile: columns, then rows.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn transform<S: Simd, const SIZE: usize, const PART: bool>(
    from: *const f32,
    (row, pixel): (usize, usize),
    to: *mut f32,
    position: usize,
    count: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = S::splat(0.0);
        let mut columns = [[zero; SIZE]; IN];
        for x in 0..SIZE {
            let mut line = [zero; SIZE];
            for y in 0..SIZE {
                let from = from.add(y * row + x * pixel);
                line[y] = if PART { S::load_first(from, count) } else { S::load(from) };
            }
            let line = along::<S, SIZE>(line);
            for y in 0..IN {
                columns[y][x] = line[y];
            }
        }
        for y in 0..IN {
            let line = along::<S, SIZE>(columns[y]);
            for x in 0..IN {
                let to = to.add((y * IN + x) * position);
                if PART { S::store_first(to, line[x], count) } else { S::store(to, line[x]) }
            }
        }
    }
}

/// Six pixels, or four gradients of outputs.
#[inline(always)]
unsafe fn along<S: Simd, const SIZE: usize>(v: [S::V; SIZE]) -> [S::V; IN] {
    // SAFETY: the caller's promise.
    unsafe {
        if SIZE == IN {
            transform::image::<S>([v[0], v[1], v[2], v[3], v[4 % SIZE], v[5 % SIZE]])
        } else {
            transform::d_output::<S>([v[0], v[1], v[2], v[3]])
        }
    }
}
