//! Files that hold several frames or pages: the first is taken, and that is said.

use std::io::Cursor;

use image::ImageFormat;
use image::codecs::webp::WebPDecoder;

use super::tiff;

/// Whether other frames or pages follow the first.
pub fn several(format: Option<ImageFormat>, bytes: &[u8]) -> bool {
    match format {
        Some(ImageFormat::Png) => is_animated_png(bytes),
        Some(ImageFormat::WebP) => WebPDecoder::new(Cursor::new(bytes)).is_ok_and(|decoder| decoder.has_animation()),
        Some(ImageFormat::Tiff) => tiff::has_pages(bytes),
        _ => false,
    }
}

/// Whether a chunk before the pixels announces more than one frame.
fn is_animated_png(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((head, data)) = rest.split_first_chunk::<8>() {
        let (length, kind) = (u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize, &head[4..]);
        match kind {
            b"acTL" => return data.first_chunk::<4>().is_some_and(|frames| u32::from_be_bytes(*frames) > 1),
            b"IDAT" => return false,
            // A checksum follows the data.
            _ => rest = data.get(length.saturating_add(4)..).unwrap_or_default(),
        }
    }
    false
}

/// How many files hold several, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FirstOnly {
    count: usize,
    first: String,
}

impl FirstOnly {
    /// Counts one more.
    pub fn add(&mut self, file: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = file();
        }
        self.count += 1;
    }

    /// What both counted, `other` behind this.
    pub fn and(&mut self, other: FirstOnly) {
        if self.count == 0 {
            self.first = other.first;
        }
        self.count += other.count;
    }

    /// What is said of them.
    pub fn said(&self) -> Option<String> {
        match self.count {
            0 => None,
            1 => Some(format!("{} holds several frames: the first is taken", self.first)),
            count => Some(format!("{count} files hold several frames: the first is taken ({}, …)", self.first)),
        }
    }
}
