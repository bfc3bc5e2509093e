//! From a picture file to the pixels of one row: one preparation for making datasets and for predicting.
//!
//! - `kind`: which files are pictures;
//! - `jpeg`, `tiff`, `bmp`: what their decoders do not say;
//! - `frames`: which hold several;
//! - `pixels`: sizes, channels, transparency.

mod bmp;
mod frames;
mod jpeg;
mod kind;
mod pixels;
mod tiff;

pub use frames::FirstOnly;
pub use kind::{FORMATS, ends_like_picture, is_picture, left_out};
pub use pixels::prepare_grey;

use std::borrow::Cow;
use std::fs::File;
use std::io::{Cursor, ErrorKind, Read};
use std::path::Path;

use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::error::{Error, Result, nearest_file};
use crate::files::NOT_REGULAR;
use crate::memory;

/// Channels that a picture can be given.
pub const CHANNELS: [usize; 3] = [1, 3, 4];

/// No side of a picture may be longer than this; with the limit on memory, it stops decompression bombs.
const LONGEST_SIDE: u32 = 1 << 16;

/// Decoding one picture may take this much memory (178 million RGB pixels).
const MOST_BYTES: u64 = 512 << 20;

/// Nor may it have more pixels: a copy of it in another form takes up to 4 bytes for each, and resizing up to 16 for each of the
/// rows it has then.
const MOST_PIXELS: u64 = MOST_BYTES / 3;

/// No file of a picture may be longer; what follows a picture in its file (a film) included.
const LONGEST_FILE: u64 = 1 << 30;

/// How HDF5 files begin.
const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";

/// A picture as a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// `[h, w, c]`
    pub pixels: Vec<u8>,
    /// Whether the file holds further frames or pages: these are the first one's.
    pub several: bool,
}

/// The picture as u8 `[h, w, c]`: turned upright (EXIF), brought to `c` channels (1 grey, by the weights of ITU-R 601-2; 3 RGB,
/// 4 RGBA; what is transparent becomes white unless there are 4), resized with Lanczos3 without keeping its proportions.
///
/// # Errors
/// When the file cannot be read, is no picture or a damaged one, or `c` is none of [`CHANNELS`].
pub fn decode(path: &Path, h: usize, w: usize, c: usize) -> Result<Vec<u8>> {
    let picture = try_decode(path, h, w, c).map_err(|reason| {
        Error::invalid(path.display().to_string(), reason, FORMATS, "replace the file, or convert it to PNG")
    });
    Ok(picture?.pixels)
}

/// [`decode`], with the bare reason (one line) when it fails: for lists.
///
/// # Errors
/// As [`decode`].
pub fn try_decode(path: &Path, h: usize, w: usize, c: usize) -> Result<Picture, String> {
    if !CHANNELS.contains(&c) {
        return Err(format!("{c} channels were asked for, a picture has 1, 3 or 4"));
    }
    let bytes = read(path)?;
    if bytes.is_empty() {
        return Err("an empty file".to_owned());
    }
    if bytes.starts_with(HDF5) {
        return Err("an HDF5 file, no picture".to_owned());
    }
    let bytes = &*whole(&bytes)?;
    let opened = |e: image::ImageError| e.to_string().replace('\n', " ");
    let (format, mut decoder) = open(path, bytes).map_err(opened)?;
    let size = decoder.dimensions();
    if size.0 == 0 || size.1 == 0 {
        return Err(format!("a picture of {}x{} pixels", size.1, size.0));
    }
    let orientation = decoder.orientation().map_err(opened)?;
    // What libraries cannot allocate ends the process.
    let need = need(format, &decoder, (h, w, c)).saturating_add(bytes.len());
    let _held = memory::hold(need).ok_or_else(|| {
        format!(
            "a picture of {}x{} pixels, which takes {} MB, more than there is memory for",
            size.1,
            size.0,
            need >> 20
        )
    })?;
    match format {
        Some(ImageFormat::Jpeg) => jpeg::complete(bytes)?,
        Some(ImageFormat::Tiff) => tiff::complete(bytes)?,
        Some(ImageFormat::Bmp) => bmp::complete(bytes)?,
        _ => {}
    }
    let mut image = DynamicImage::from_decoder(decoder).map_err(opened)?;
    if format == Some(ImageFormat::Bmp) && all_transparent(&image) {
        // The fourth byte is there, and nobody wrote it: what shows pictures shows these.
        image = DynamicImage::ImageRgb8(image.to_rgb8());
    }
    image.apply_orientation(orientation);
    if u64::from(image.width()) * h as u64 > MOST_PIXELS {
        return Err(format!("{} pixels in a row, too many to resize {h} rows of them", image.width()));
    }
    if matches!(image.color(), ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err("pixels in floating point, whose range nobody knows; convert it to 8 or 16 bits".to_owned());
    }
    Ok(Picture { pixels: pixels::prepare(&image, h, w, c), several: frames::several(format, bytes) })
}

/// Bytes that it takes at most at a time, beside the file: to decode it, to turn it, or to bring it to channels and size.
fn need(format: Option<ImageFormat>, decoder: &impl ImageDecoder, (h, w, c): (usize, usize, usize)) -> usize {
    let (across, down) = decoder.dimensions();
    let (across, down) = (across as usize, down as usize);
    let (pixels, all) = (across.saturating_mul(down), usize::try_from(decoder.total_bytes()).unwrap_or(usize::MAX));
    let for_decoder = match format {
        // Coefficients, and what is not yet RGB.
        Some(ImageFormat::Jpeg | ImageFormat::WebP) => pixels.saturating_mul(8),
        Some(ImageFormat::Tiff) => all,
        _ => pixels / 8,
    };
    let for_channels = match (decoder.color_type().has_alpha(), c) {
        (true, 4) => 12,
        (true, _) => 8,
        (false, _) => 4,
    };
    let for_rows = 16usize.saturating_mul(across.max(down)).saturating_mul(h).saturating_add(16 * h * w);
    let for_row = pixels.saturating_mul(for_channels).saturating_add(for_rows);
    all.saturating_add(for_decoder.max(all).max(for_row))
}

/// Whether a file is one of HDF5, by its first bytes. Pipes and devices are not opened.
pub fn is_hdf5(path: &Path) -> bool {
    let mut head = [0; HDF5.len()];
    let is_file = path.metadata().is_ok_and(|data| data.is_file());
    is_file && File::open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok()) && head[..] == *HDF5
}

/// All bytes of a regular file: a pipe may never end, a device either.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let named = |e: std::io::Error| match (std::fs::read_link(path), nearest_file(path)) {
        (Ok(to), _) if e.kind() == ErrorKind::NotFound => format!("a link to {}, which is not there", to.display()),
        (_, Some(near)) => format!("{e}; did you mean '{}'?", near.display()),
        _ => e.to_string(),
    };
    let data = std::fs::metadata(path).map_err(named)?;
    if !data.is_file() {
        return Err(if data.is_dir() { "a folder" } else { NOT_REGULAR }.to_owned());
    }
    if data.len() > LONGEST_FILE {
        return Err(format!("{} bytes: no picture is read that takes more than {LONGEST_FILE}", data.len()));
    }
    let mut bytes = Vec::new();
    let room = usize::try_from(data.len()).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(room).map_err(|_| format!("{} bytes, more than there is memory for", data.len()))?;
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(named)?;
    Ok(bytes)
}

/// The bytes of the picture itself, after a look at what its decoder passes over.
fn whole(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if !jpeg::begins(bytes) {
        return Ok(Cow::Borrowed(bytes));
    }
    let outline = jpeg::outline(bytes).ok_or("a JPEG file that ends too early")?;
    if outline.coarse_brightness {
        return Err("a JPEG file whose brightness is sampled more coarsely than its colours".to_owned());
    }
    let bytes = &bytes[..outline.len];
    Ok(outline.lines.map_or(Cow::Borrowed(bytes), |(from, to)| Cow::Owned([&bytes[..from], &bytes[to..]].concat())))
}

/// The decoder, after a look at the sizes that the file claims.
fn open<'a>(path: &Path, bytes: &'a [u8]) -> image::ImageResult<(Option<ImageFormat>, impl ImageDecoder + 'a)> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    if reader.format().is_none() {
        // PAM, TGA and the like are not known by their first bytes; the ending at least names them in the message.
        match image::ImageFormat::from_path(path) {
            Ok(format) => reader.set_format(format),
            Err(e) => return Err(e),
        }
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(MOST_BYTES);
    reader.limits(limits.clone());
    let format = reader.format();
    let decoder = reader.into_decoder()?;
    limits.reserve(decoder.total_bytes())?;
    let (w, h) = decoder.dimensions();
    if u64::from(w) * u64::from(h) > MOST_PIXELS {
        let kind = image::error::LimitErrorKind::InsufficientMemory;
        return Err(image::ImageError::Limits(image::error::LimitError::from_kind(kind)));
    }
    Ok((format, decoder))
}

fn all_transparent(image: &DynamicImage) -> bool {
    image.as_rgba8().is_some_and(|rgba| rgba.pixels().all(|pixel| pixel[3] == 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};

    fn write(image: &DynamicImage, name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        image.save_with_format(&path, ImageFormat::from_path(name).unwrap()).unwrap();
        (folder, path)
    }

    fn gradient(w: u32, h: u32) -> RgbImage {
        RgbImage::from_fn(w, h, |x, y| Rgb([(x * 255 / w) as u8, (y * 255 / h) as u8, 128]))
    }

    #[test]
    fn every_format_gives_the_pixels_back_and_a_truncated_file_is_refused() {
        let rgb = DynamicImage::ImageRgb8(gradient(40, 30));
        for name in ["a.png", "a.jpg", "a.ppm", "a.bmp", "a.webp", "a.tiff"] {
            let (_folder, path) = write(&rgb, name);
            let pixels = decode(&path, 30, 40, 3).unwrap();
            let near = if name == "a.jpg" { 12 } else { 0 };
            for (got, want) in pixels.iter().zip(rgb.as_bytes()) {
                assert!(got.abs_diff(*want) <= near, "{name}: {got} {want}");
            }
            let bytes = std::fs::read(&path).unwrap();
            for part in [bytes.len() / 2, bytes.len() * 9 / 10, 3, 0] {
                std::fs::write(&path, &bytes[..part]).unwrap();
                assert!(decode(&path, 30, 40, 3).is_err(), "{name} cut to {part} of {} bytes", bytes.len());
            }
        }
        let (_folder, path) = write(&DynamicImage::ImageLuma8(rgb.to_luma8()), "a.pgm");
        assert_eq!(decode(&path, 30, 40, 1).unwrap(), rgb.to_luma8().into_raw());
    }

    #[test]
    fn alpha_lies_over_white_unless_it_is_asked_for() {
        let rgba = RgbaImage::from_fn(4, 4, |x, _| if x < 2 { Rgba([10, 20, 30, 255]) } else { Rgba([9, 9, 9, 0]) });
        let (_folder, path) = write(&DynamicImage::ImageRgba8(rgba.clone()), "a.png");
        assert_eq!(decode(&path, 4, 4, 4).unwrap(), rgba.into_raw());
        assert_eq!(decode(&path, 4, 4, 3).unwrap()[..12], [10, 20, 30, 10, 20, 30, 255, 255, 255, 255, 255, 255]);
        assert_eq!(decode(&path, 4, 4, 1).unwrap()[2..4], [255, 255]);
    }

    #[test]
    fn colours_are_weighed_as_pillow_does() {
        let rgb =
            RgbImage::from_fn(4, 1, |x, _| Rgb([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50]][x as usize]));
        let (_folder, path) = write(&DynamicImage::ImageRgb8(rgb), "a.png");
        // Pillow: Image.convert("L").
        assert_eq!(decode(&path, 1, 4, 1).unwrap(), [76, 150, 29, 124]);
    }

    #[test]
    fn colours_below_transparent_pixels_do_not_bleed_when_resizing() {
        let rgba = RgbaImage::from_fn(8, 8, |x, _| Rgba(if x < 4 { [200, 40, 0, 255] } else { [0, 255, 255, 0] }));
        let (_folder, path) = write(&DynamicImage::ImageRgba8(rgba), "a.png");
        for pixel in decode(&path, 5, 5, 4).unwrap().chunks_exact(4).filter(|pixel| pixel[3] > 8) {
            assert!(pixel[0].abs_diff(200) <= 2 && pixel[1].abs_diff(40) <= 2 && pixel[2] <= 2, "{pixel:?}");
        }
        // What is opaque stays opaque, and as it is without alpha.
        let (opaque, rgb) = (gradient(9, 7), gradient(9, 7));
        let (_one, with) = write(&DynamicImage::ImageRgba8(DynamicImage::ImageRgb8(opaque).to_rgba8()), "a.png");
        let (_two, without) = write(&DynamicImage::ImageRgb8(rgb), "b.png");
        let (with, without) = (decode(&with, 4, 5, 4).unwrap(), decode(&without, 4, 5, 4).unwrap());
        assert!(with.iter().zip(&without).all(|(a, b)| a.abs_diff(*b) <= 1), "{with:?} {without:?}");
    }

    /// A 32-bit BMP with masks for four channels (BITMAPV4HEADER), one row of two pixels.
    fn bitmap(alpha: [u8; 2]) -> Vec<u8> {
        let mut bytes = b"BM".to_vec();
        let word = |value: u32| value.to_le_bytes();
        let head =
            [122 + 8, 0, 122, 108, 2, 1, 1 | 32 << 16, 3, 8, 0, 0, 0, 0, 0xff << 16, 0xff << 8, 0xff, 0xff << 24];
        bytes.extend(head.iter().flat_map(|&value| word(value)));
        bytes.extend(b"BGRs");
        bytes.resize(122, 0);
        bytes.extend([3, 2, 1, alpha[0], 6, 5, 4, alpha[1]]);
        bytes
    }

    #[test]
    fn a_bitmap_whose_alpha_nobody_wrote_is_opaque() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bmp");
        std::fs::write(&path, bitmap([0, 0])).unwrap();
        assert_eq!(decode(&path, 1, 2, 3).unwrap(), [1, 2, 3, 4, 5, 6]);
        std::fs::write(&path, bitmap([255, 0])).unwrap();
        assert_eq!(decode(&path, 1, 2, 3).unwrap(), [1, 2, 3, 255, 255, 255]);
    }

    #[test]
    fn other_channels_than_a_picture_has_and_other_things_than_files_are_refused() {
        let (folder, path) = write(&DynamicImage::ImageRgb8(gradient(4, 4)), "a.png");
        for channels in [0, 2, 5, 16] {
            assert!(try_decode(&path, 4, 4, channels).unwrap_err().contains("1, 3 or 4"));
        }
        let link = folder.path().join("link.png");
        std::os::unix::fs::symlink("nowhere.png", &link).unwrap();
        assert_eq!(try_decode(&link, 4, 4, 3).unwrap_err(), "a link to nowhere.png, which is not there");
        assert!(try_decode(Path::new("/dev/zero"), 4, 4, 3).unwrap_err().contains("device"));
        assert_eq!(try_decode(folder.path(), 4, 4, 3).unwrap_err(), "a folder");
    }

    #[test]
    fn sixteen_bits_become_eight_and_grey_becomes_any_number_of_channels() {
        let deep = image::ImageBuffer::from_fn(5, 3, |x, _| Luma([(x * 257 * 50) as u16]));
        let (_folder, path) = write(&DynamicImage::ImageLuma16(deep), "a.png");
        assert_eq!(decode(&path, 3, 5, 1).unwrap()[..5], [0, 50, 100, 150, 200]);
        assert_eq!(decode(&path, 3, 5, 3).unwrap()[3..6], [50; 3]);
        assert_eq!(decode(&path, 3, 5, 4).unwrap()[4..8], [50, 50, 50, 255]);
        assert_eq!(prepare_grey(&[7; 6], (2, 3), (4, 6), 3), [7; 72]);
    }

    /// A PNG chunk.
    fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
        let body = [kind, data].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&body);
        [&(data.len() as u32).to_be_bytes()[..], &body, &crc.sum().to_be_bytes()].concat()
    }

    #[test]
    fn a_palette_picture_gets_its_colours_and_its_transparency() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("palette.png");
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        // Two rows of two pixels, each row after its filter byte.
        std::io::Write::write_all(&mut zlib, &[0, 0, 1, 0, 2, 0]).unwrap();
        let chunks = [
            b"\x89PNG\r\n\x1a\n".to_vec(),
            chunk(b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 2, 8, 3, 0, 0, 0]),
            chunk(b"PLTE", &[255, 0, 0, 0, 0, 255, 9, 9, 9]),
            chunk(b"tRNS", &[255, 255, 0]),
            chunk(b"IDAT", &zlib.finish().unwrap()),
            chunk(b"IEND", &[]),
        ];
        std::fs::write(&path, chunks.concat()).unwrap();
        assert_eq!(decode(&path, 2, 2, 3).unwrap(), [255, 0, 0, 0, 0, 255, 255, 255, 255, 255, 0, 0]);
        assert_eq!(decode(&path, 2, 2, 4).unwrap()[8..12], [9, 9, 9, 0]);
    }

    #[test]
    fn a_picture_taken_sideways_is_turned_upright() {
        use image::ImageEncoder;
        // A big-endian TIFF directory with one entry: orientation (0x0112), a short, 6: turn right.
        let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        encoder.write_image(&[10, 20, 30, 40, 50, 60], 3, 2, image::ExtendedColorType::L8).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sideways.png");
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(decode(&path, 3, 2, 1).unwrap(), [40, 10, 50, 20, 60, 30]);
    }

    #[test]
    fn a_bomb_and_a_text_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.pgm");
        std::fs::write(&path, "P5 65000 65000 255\n").unwrap();
        assert!(decode(&path, 8, 8, 1).is_err());
        let path = folder.path().join("text.png");
        std::fs::write(&path, "hello").unwrap();
        let message = decode(&path, 8, 8, 1).unwrap_err().to_string();
        assert!(message.contains("text.png") && message.contains("signature"), "{message}");
    }

    #[test]
    fn resizing_keeps_a_flat_picture_flat() {
        let (_folder, path) = write(&DynamicImage::ImageLuma8(GrayImage::from_pixel(33, 17, Luma([90]))), "a.png");
        assert_eq!(decode(&path, 8, 9, 1).unwrap(), [90; 72]);
    }
}
