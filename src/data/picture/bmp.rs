//! What the BMP decoder does not say: that a run-length code ends before the picture does.

/// Whether run-length codes reach the last row; what is cut within one is the decoder's to refuse.
///
/// # Errors
/// A sentence: what is missing.
pub fn complete(bytes: &[u8]) -> Result<(), String> {
    let word = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    let (Some(start), Some(40..), Some(width), Some(height), Some(kind @ 1..=2)) =
        (word(10), word(14), word(18), word(22), word(30))
    else {
        return Ok(());
    };
    let mut codes = bytes.get(start as usize..).unwrap_or_default();
    let (mut x, mut y) = (0, 0);
    while let Some((&[count, value], rest)) = codes.split_first_chunk::<2>() {
        codes = rest;
        match (count, value) {
            (0, 0) => (x, y) = (0, y + 1),
            (0, 1) if y >= height || y + 1 == height && x >= width => return Ok(()),
            (0, 1) => return Err(format!("a BMP file that ends in row {} of {height}", y + 1)),
            (0, 2) => {
                let Some((&[right, up], rest)) = codes.split_first_chunk::<2>() else { break };
                (x, y, codes) = (x + u32::from(right), y + u32::from(up), rest);
            }
            (0, pixels) => {
                // Pixels as they are, two a byte or one, filled up to pairs of bytes.
                let length = usize::from(if kind == 1 { pixels } else { pixels.div_ceil(2) }).next_multiple_of(2);
                (x, codes) = (x + u32::from(pixels), codes.get(length..).unwrap_or_default());
            }
            (pixels, _) => x += u32::from(pixels),
        }
    }
    Ok(())
}
