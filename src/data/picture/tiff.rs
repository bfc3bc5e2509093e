//! What the TIFF decoder does not say: that there are further pages, and that a JPEG file within ends too early.

use std::io::Cursor;

use ::tiff::decoder::Decoder;
use ::tiff::tags::{CompressionMethod, Tag};

use super::jpeg;

/// Pages that are looked at: the first may be followed by smaller ones of the same picture.
const LOOKED_AT: usize = 16;

/// Whether a page follows that is neither the first one made smaller nor its mask.
pub fn has_pages(bytes: &[u8]) -> bool {
    let Ok(mut decoder) = Decoder::new(Cursor::new(bytes)) else { return false };
    (0..LOOKED_AT).any(|_| {
        let next = decoder.more_images() && decoder.next_image().is_ok();
        next && !decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType).is_ok_and(|kind| kind.unwrap_or(0) & 5 != 0)
    })
}

/// Whether the strips or tiles that are JPEG files are whole. What cannot be read of it is the decoder's to refuse.
///
/// # Errors
/// A sentence: what is missing, or damaged.
pub fn complete(bytes: &[u8]) -> Result<(), String> {
    let Ok(mut decoder) = Decoder::new(Cursor::new(bytes)) else { return Ok(()) };
    let mut numbers = |tag| decoder.get_tag_u64_vec(tag).unwrap_or_default();
    if numbers(Tag::Compression) != [u64::from(CompressionMethod::ModernJPEG.to_u16())] {
        return Ok(());
    }
    let offsets = [Tag::StripOffsets, Tag::TileOffsets].map(&mut numbers).concat();
    let lengths = [Tag::StripByteCounts, Tag::TileByteCounts].map(&mut numbers).concat();
    // Tables that all of them share lie in a JPEG file without a picture.
    let tables = decoder.get_tag_u8_vec(Tag::JPEGTables).unwrap_or_default();
    let tables = tables.strip_suffix(&[0xff, 0xd9]).unwrap_or(&[0xff, 0xd8]);
    for (offset, length) in offsets.into_iter().zip(lengths) {
        let from = usize::try_from(offset).ok();
        let part = from.and_then(|from| bytes.get(from..from.checked_add(usize::try_from(length).ok()?)?));
        let part = part.and_then(|part| part.strip_prefix(&[0xff, 0xd8])).unwrap_or_default();
        let file = [tables, part].concat();
        let outline = jpeg::outline(&file).ok_or("a TIFF file with a JPEG file within that ends too early")?;
        jpeg::complete(&file[..outline.len]).map_err(|reason| format!("a TIFF file, and within: {reason}"))?;
    }
    Ok(())
}
