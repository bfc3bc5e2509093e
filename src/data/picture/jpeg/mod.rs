//! What the JPEG decoder does not say: that a file ends too early or lacks blocks (it fills the gap with grey), and that it does not know
//! how to lay out the samples.

mod bits;
mod scan;
mod standard;

pub use scan::complete;

/// A marker without a length: TEM, RST0 to RST7.
const fn stands_alone(marker: u8) -> bool {
    matches!(marker, 0x01 | 0xd0..=0xd7)
}

/// Whether a file begins like a JPEG's.
pub fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// What the segments of a file say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Bytes up to the end of the image that closes the last scan; others may follow (a motion photo's film).
    pub len: usize,
    /// Whether some colour has more samples than the brightness, along a side.
    pub coarse_brightness: bool,
    /// Where a segment lies that tells the number of lines anew (DNL), which the decoder does not know: from its marker to its end.
    pub lines: Option<(usize, usize)>,
}

/// Walks the segments from the start of the image to its end; nothing where there is no end, or no scan before it.
pub fn outline(bytes: &[u8]) -> Option<Outline> {
    if !begins(bytes) {
        return None;
    }
    let (mut at, mut scans, mut coarse_brightness, mut lines) = (2, 0, false, None);
    loop {
        let (marker, behind) = next_marker(bytes, at)?;
        at = behind;
        match marker {
            0xd9 => return (scans > 0).then_some(Outline { len: at, coarse_brightness, lines }),
            marker if stands_alone(marker) => continue,
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let segment = bytes.get(at + 2..at + length.max(2))?;
        at += length.max(2);
        match marker {
            0xda => scans += 1,
            0xdc => lines = Some((behind - 2, at)),
            // Frames; C4, C8 and CC are tables.
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => coarse_brightness |= is_coarse(segment),
            _ => {}
        }
    }
}

/// The next marker at or behind `at`, and the place behind it. Compressed data, which stands between a scan's header and the
/// next marker, holds FF only before 00 or a restart; what else stands between segments is passed over, as decoders do.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xff)?;
        match *bytes.get(at + 1)? {
            // A fill byte.
            0xff => at += 1,
            0x00 => at += 2,
            marker => return Some((marker, at + 2)),
        }
    }
}

/// Of a frame's header: precision, height, width, then identity, sampling and table of each component, brightness first.
fn is_coarse(frame: &[u8]) -> bool {
    let mut samplings = frame.get(6..).unwrap_or_default().chunks_exact(3).map(|component| component[1]);
    let Some(brightness) = samplings.next() else { return false };
    samplings.any(|colour| colour >> 4 > brightness >> 4 || colour & 15 > brightness & 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of segments: a frame with these samplings, a scan with `data`, and an end.
    fn file(samplings: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes =
            vec![0xff, 0xd8, 0xff, 0xc0, 0, 8 + 3 * samplings.len() as u8, 8, 0, 4, 0, 4, samplings.len() as u8];
        for (index, sampling) in samplings.iter().enumerate() {
            bytes.extend([index as u8 + 1, *sampling, 0]);
        }
        bytes.extend([0xff, 0xda, 0, 4, 1, 2]);
        bytes.extend(data);
        bytes.extend([0xff, 0xd9]);
        bytes
    }

    #[test]
    fn a_file_ends_where_its_last_scan_is_closed() {
        let whole = file(&[0x11], &[1, 2, 0xff, 0, 3, 0xff, 0xd0, 4]);
        let outline = |bytes: &[u8]| outline(bytes).map(|outline| outline.len);
        assert_eq!(outline(&whole), Some(whole.len()));
        // A film behind it that holds a start of scan, or a whole picture.
        for behind in [&[0xff, 0xda, 1, 2][..], &whole, &[0]] {
            assert_eq!(outline(&[&whole, behind].concat()), Some(whole.len()));
        }
        for len in 0..whole.len() {
            assert_eq!(outline(&whole[..len]), None, "cut to {len}");
        }
        // A thumbnail with an end of its own inside a segment is no end; two scans are one picture.
        let thumbnail = [&[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd9, 0xff, 0xda][..], &whole[2..]].concat();
        assert_eq!(outline(&thumbnail), Some(thumbnail.len()));
        let two = [&whole[..whole.len() - 2], &[0xff, 0xff, 0xda, 0, 3, 0, 7, 7, 0xff, 0xd9][..]].concat();
        assert_eq!(outline(&two), Some(two.len()));
        assert_eq!(outline(&two[..two.len() - 2]), None);
        assert_eq!(outline(&[0xff, 0xd8, 0xff, 0xd9]), None, "no scan");
    }

    #[test]
    fn brightness_may_not_be_coarser_than_colour() {
        let coarse = |samplings: &[u8]| outline(&file(samplings, &[])).unwrap().coarse_brightness;
        for samplings in [&[0x11][..], &[0x22, 0x11, 0x11], &[0x21, 0x21, 0x11], &[0x41, 0x11, 0x11]] {
            assert!(!coarse(samplings), "{samplings:x?}");
        }
        for samplings in [&[0x11, 0x22, 0x22][..], &[0x21, 0x11, 0x12], &[0x12, 0x21, 0x11]] {
            assert!(coarse(samplings), "{samplings:x?}");
        }
    }
}
