//! Pictures of a dataset's rows, as PNG: as they are, and under a map of what the network looks at.

use image::codecs::png::{CompressionType, FilterType as Filter, PngEncoder};
use image::imageops::{FilterType, resize};
use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage};

use crate::model::Evidence;

/// The longer side of a picture with a map, at least, in pixels: the map's spots are smooth then.
const SMOOTH: usize = 128;
/// The longer side of pictures, at most: a page holds dozens.
const MOST: usize = 256;

/// Dark to bright in violet, orange and yellow: brighter is more, in print and to the colour-blind too. After matplotlib's
/// 'inferno' (CC0), at eighths.
const HEAT: [[u8; 3]; 9] = [
    [0, 0, 4],
    [31, 12, 72],
    [85, 15, 109],
    [136, 34, 106],
    [186, 54, 85],
    [227, 89, 51],
    [249, 140, 10],
    [249, 201, 50],
    [252, 255, 164],
];

/// A row `[h, w, c]` of a dataset as a picture of at most 256 pixels a side. Channels other than 1 and 3 are shown as the grey of
/// the first.
pub fn picture(shape: [usize; 3], pixels: &[u8]) -> RgbImage {
    scaled(shape, pixels, 1)
}

fn scaled([h, w, c]: [usize; 3], pixels: &[u8], least: usize) -> RgbImage {
    let at = |x: u32, y: u32| {
        let pixel = &pixels[(y as usize * w + x as usize) * c..][..c];
        Rgb(if c == 3 { [pixel[0], pixel[1], pixel[2]] } else { [pixel[0]; 3] })
    };
    let picture = RgbImage::from_fn(w as u32, h as u32, at);
    let longer = h.max(w);
    let (times, over) = if longer > MOST { (MOST, longer) } else { (least.div_ceil(longer), 1) };
    let side = |side: usize| ((side * times / over).max(1)) as u32;
    if times == over { picture } else { resize(&picture, side(w), side(h), FilterType::CatmullRom) }
}

/// The picture in grey, and what speaks for the class over it, the brighter the more. What speaks against it is not shown.
pub fn explained(shape: [usize; 3], pixels: &[u8], evidence: &Evidence) -> RgbImage {
    let picture = scaled(shape, pixels, SMOOTH);
    let grey: GrayImage = image::imageops::grayscale(&picture);
    let most = evidence.values.iter().copied().fold(0.0, f32::max);
    let share = |v: f32| if most > 0.0 { (v / most).max(0.0) } else { 0.0 };
    let map = ImageBuffer::<Luma<f32>, Vec<f32>>::from_fn(evidence.w as u32, evidence.h as u32, |x, y| {
        Luma([share(evidence.values[y as usize * evidence.w + x as usize])])
    });
    let map = resize(&map, grey.width(), grey.height(), FilterType::Triangle);
    RgbImage::from_fn(grey.width(), grey.height(), |x, y| {
        let (base, share) = (f32::from(grey.get_pixel(x, y).0[0]) * 0.55, map.get_pixel(x, y).0[0].clamp(0.0, 1.0));
        // Below a tenth of the strongest place the picture shows as it is.
        let cover = (share * 3.0 - 0.3).clamp(0.0, 0.85);
        Rgb(heat(share.sqrt()).map(|heat| (base + (heat - base) * cover) as u8))
    })
}

fn heat(share: f32) -> [f32; 3] {
    let place = share.clamp(0.0, 1.0) * (HEAT.len() - 1) as f32;
    let below = (place as usize).min(HEAT.len() - 2);
    let part = place - below as f32;
    std::array::from_fn(|c| {
        let [from, to] = [HEAT[below][c], HEAT[below + 1][c]].map(f32::from);
        from + (to - from) * part
    })
}

/// As a PNG file.
///
/// # Errors
/// Never in practice.
pub fn png(picture: &RgbImage) -> std::io::Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, Filter::Adaptive);
    picture.write_with_encoder(encoder).map_err(std::io::Error::other)?;
    Ok(bytes.into_inner())
}
