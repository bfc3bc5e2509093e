//! Decoded pixels brought to the size and the channels of a row.

use std::borrow::Cow;

use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, Luma, Rgba, RgbaImage};

/// Channels first: the colours of transparent pixels must not bleed into their neighbours when resizing.
pub fn prepare(image: &DynamicImage, h: usize, w: usize, c: usize) -> Vec<u8> {
    let (h, w) = (h as u32, w as u32);
    let same = (image.height(), image.width()) == (h, w);
    let resized = |image: DynamicImage| if same { image } else { image.resize_exact(w, h, FilterType::Lanczos3) };
    match c {
        4 if same || !image.color().has_alpha() => resized(DynamicImage::ImageRgba8(image.to_rgba8())).into_bytes(),
        4 => divided(&resized(multiplied(&image.to_rgba8()))),
        1 => resized(DynamicImage::ImageLuma8(grey(&opaque(image)))).into_bytes(),
        _ => resized(DynamicImage::ImageRgb8(opaque(image).to_rgb8())).into_bytes(),
    }
}

/// Colours times alpha, alpha times 255: means of these weigh nothing that cannot be seen. Halved, since Lanczos shoots over at edges, and
/// colour and alpha have to do that together.
fn multiplied(image: &RgbaImage) -> DynamicImage {
    let pixel = |x, y| {
        let Rgba([r, g, b, a]) = *image.get_pixel(x, y);
        Rgba([r, g, b, 255].map(|value| u16::from(value) * u16::from(a) / 2))
    };
    DynamicImage::ImageRgba16(image::ImageBuffer::from_fn(image.width(), image.height(), pixel))
}

/// The inverse.
fn divided(image: &DynamicImage) -> Vec<u8> {
    let pixels = image.as_rgba16().map(image::ImageBuffer::pixels).into_iter().flatten();
    pixels
        .flat_map(|&Rgba([r, g, b, a])| {
            let colour = |value: u16| match a {
                0 => 0,
                _ => (u32::from(value) * 255 + u32::from(a) / 2).div_euclid(u32::from(a)).min(255) as u8,
            };
            [colour(r), colour(g), colour(b), ((2 * u32::from(a) + 127) / 255).min(255) as u8]
        })
        .collect()
}

/// ITU-R 601-2, as Pillow, OpenCV and torchvision weigh; a grey picture stays as it is.
fn grey(image: &DynamicImage) -> GrayImage {
    if !image.color().has_color() {
        return image.to_luma8();
    }
    let rgb = image.to_rgb8();
    GrayImage::from_fn(rgb.width(), rgb.height(), |x, y| {
        let [r, g, b] = rgb.get_pixel(x, y).0.map(u32::from);
        Luma([((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8])
    })
}

/// Composed over white.
fn opaque(image: &DynamicImage) -> std::borrow::Cow<'_, DynamicImage> {
    if !image.color().has_alpha() {
        return Cow::Borrowed(image);
    }
    let mut rgba: RgbaImage = image.to_rgba8();
    for pixel in rgba.pixels_mut() {
        let alpha = u32::from(pixel[3]);
        for value in &mut pixel.0[..3] {
            *value = ((u32::from(*value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        }
        pixel[3] = 255;
    }
    Cow::Owned(DynamicImage::ImageRgba8(rgba))
}

/// Grey pixels `[h, w]` as `[new_h, new_w, c]`: what [`super::decode`] does, for images that are not files.
pub fn prepare_grey(pixels: &[u8], (h, w): (usize, usize), new: (usize, usize), c: usize) -> Vec<u8> {
    match image::GrayImage::from_raw(w as u32, h as u32, pixels.to_vec()) {
        Some(grey) => prepare(&DynamicImage::ImageLuma8(grey), new.0, new.1, c),
        None => unreachable!("h * w pixels were handed over"),
    }
}
