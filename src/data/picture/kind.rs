//! Which files are pictures: the one place that knows. By the ending of the name, else by the first bytes.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What `glasses` can decode, for messages.
pub const FORMATS: &str = "a PNG, JPEG, PGM, BMP, WebP or TIFF picture";

/// File endings of pictures, in lower case. Those that cannot be decoded stand here too, so that they are reported
/// and not silently passed over.
const ENDINGS: [&str; 24] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "jif", "pjpeg", "pgm", "ppm", "pbm", "pnm", "pam", "bmp", "dib", "webp",
    "tif", "tiff", "gif", "heic", "heif", "avif", "jp2", "jxl", "tga",
];

/// Bytes that tell a picture from other files.
const HEAD: usize = 32;

/// Whether a file is a picture: its name ends like one's, or it begins like one. Pipes and devices are none, and not opened; what is
/// not there is taken by its name, to be reported.
pub fn is_picture(path: &Path) -> bool {
    let data = path.metadata();
    if ends_like_picture(path) {
        data.map_or(true, |data| data.is_file())
    } else {
        data.is_ok_and(|data| data.is_file()) && begins_like_picture(path)
    }
}

/// Whether the name of a file ends like a picture's.
pub fn ends_like_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    ENDINGS.contains(&ending.as_str())
}

fn begins_like_picture(path: &Path) -> bool {
    let mut head = Vec::with_capacity(HEAD);
    File::open(path).is_ok_and(|file| file.take(HEAD as u64).read_to_end(&mut head).is_ok()) && is_head(&head)
}

/// What is said of files that are left out because they are no pictures.
pub fn left_out<'a>(files: impl Iterator<Item = &'a Path>) -> Option<String> {
    let (nowhere, others): (Vec<&Path>, Vec<&Path>) = files.partition(|file| file.is_symlink() && !file.exists());
    let said = |files: &[&Path], one: &str, more: &str| match files {
        [] => None,
        [file] => Some(format!("{} is {one}: left out", file.display())),
        [first, ..] => Some(format!("{} files are {more}, such as {}: left out", files.len(), first.display())),
    };
    let said = [
        said(&others, "no picture", "no pictures"),
        said(&nowhere, "a link that leads nowhere", "links that lead nowhere"),
    ];
    let said: Vec<String> = said.into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// Stricter than what decoders ask: a text may well begin with `BM` or `P5`.
fn is_head(head: &[u8]) -> bool {
    let at = |place: usize, bytes: &[u8]| head.get(place..).is_some_and(|rest| rest.starts_with(bytes));
    let byte = |place: usize| head.get(place).copied().unwrap_or_default();
    let bitmap = || {
        let header = u32::from_le_bytes([byte(14), byte(15), byte(16), byte(17)]);
        at(0, b"BM") && [12, 40, 52, 56, 64, 108, 124].contains(&header)
    };
    let netpbm = || {
        let number = head.get(2..).and_then(|rest| rest.iter().find(|byte| !byte.is_ascii_whitespace()));
        byte(0) == b'P'
            && (b'1'..=b'7').contains(&byte(1))
            && byte(2).is_ascii_whitespace()
            && number.is_some_and(|byte| byte.is_ascii_digit() || *byte == b'#' || at(1, b"7\nWIDTH"))
    };
    let iso = || {
        let brands: [&[u8]; 7] = [b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis"];
        at(4, b"ftyp") && brands.iter().any(|brand| at(8, brand))
    };
    at(0, b"\x89PNG\r\n\x1a\n")
        || at(0, &[0xff, 0xd8, 0xff])
        || (at(0, b"RIFF") && at(8, b"WEBP"))
        || [&b"II*\0"[..], b"MM\0*", b"GIF87a", b"GIF89a"].iter().any(|magic| at(0, magic))
        || [&b"jP  "[..], b"JXL "].iter().any(|magic| at(4, magic))
        || bitmap()
        || netpbm()
        || iso()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_known_by_its_name_or_by_its_first_bytes() {
        for name in ["a.JPG", "a.jfif", "a.jpe", "a.dib", "x/a.tiff", "a.heic"] {
            assert!(ends_like_picture(Path::new(name)), "{name}");
        }
        for name in ["a", "a.txt", "jpg", "a.png.bak"] {
            assert!(!ends_like_picture(Path::new(name)), "{name}");
        }
        let heads: [&[u8]; 8] = [
            b"\x89PNG\r\n\x1a\n\0",
            b"\xff\xd8\xff\xe0",
            b"RIFF\x10\0\0\0WEBPVP8 ",
            b"II*\0\x08\0\0\0",
            b"GIF89a",
            b"P5\n# made by hand\n4 4",
            b"P7\nWIDTH 4",
            b"\0\0\0\x18ftypheic",
        ];
        for head in heads {
            assert!(is_head(head), "{head:?}");
        }
        let others: [&[u8]; 8] = [
            b"",
            b"P",
            b"P2P is a network",
            b"P5",
            b"BMW\0\0",
            b"id,label\n",
            b"RIFF\0\0\0\0WAVE",
            b"\x89HDF\r\n\x1a\n",
        ];
        for head in others {
            assert!(!is_head(head), "{head:?}");
        }
    }
}
