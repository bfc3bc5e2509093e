//! Pictures for TensorBoard: a confusion matrix, rows of a dataset with what the network says of them.
//!
//! Letters are 8x8 pixels. Right is blue and wrong is orange: a pair that the colour-blind tell apart.

use font8x8::UnicodeFonts;
use image::{ImageFormat, Rgb, RgbImage, imageops};

/// A picture in RGB.
pub type Canvas = RgbImage;

const LETTER: u32 = 8;
const WHITE: Rgb<u8> = Rgb([255; 3]);
const BLACK: Rgb<u8> = Rgb([0; 3]);
const BLUE: Rgb<u8> = Rgb([0, 90, 170]);
const ORANGE: Rgb<u8> = Rgb([200, 80, 0]);

/// A finished picture.
#[derive(Debug)]
pub struct Picture(RgbImage);

impl Picture {
    /// In pixels.
    pub fn height(&self) -> u32 {
        self.0.height()
    }

    /// In pixels.
    pub fn width(&self) -> u32 {
        self.0.width()
    }

    /// As a PNG file.
    ///
    /// # Errors
    /// Never in practice.
    pub fn png(&self) -> image::ImageResult<Vec<u8>> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        self.0.write_to(&mut bytes, ImageFormat::Png)?;
        Ok(bytes.into_inner())
    }
}

/// Letters from (`x`, `y`) on; what does not fit is cut off, what the font lacks is a question mark.
fn write(canvas: &mut Canvas, text: &str, x: u32, y: u32, colour: Rgb<u8>) {
    for (place, letter) in text.chars().enumerate() {
        let known = font8x8::BASIC_FONTS.get(letter).or_else(|| font8x8::LATIN_FONTS.get(letter));
        let Some(rows) = known.or_else(|| font8x8::BASIC_FONTS.get('?')) else { continue };
        for (row, bits) in rows.into_iter().enumerate() {
            for column in (0..LETTER).filter(|column| bits >> column & 1 == 1) {
                let (x, y) = (x + place as u32 * LETTER + column, y + row as u32);
                if let Some(pixel) = canvas.get_pixel_mut_checked(x, y) {
                    *pixel = colour;
                }
            }
        }
    }
}

fn width(text: &str) -> u32 {
    text.chars().count() as u32 * LETTER
}

fn fill(canvas: &mut Canvas, [x, y, w, h]: [u32; 4], colour: Rgb<u8>) {
    for (x, y) in (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x, y))) {
        if let Some(pixel) = canvas.get_pixel_mut_checked(x, y) {
            *pixel = colour;
        }
    }
}

/// The first letters, so that a long name does not push the rest out of sight.
fn short(name: &str, letters: usize) -> String {
    if name.chars().count() <= letters {
        name.to_owned()
    } else {
        name.chars().take(letters - 1).chain(['.']).collect()
    }
}

/// The counts `[true class][predicted class]` as a table, a row a true class; the darker, the larger its share of the row.
pub fn confusion(classes: &[String], counts: &[Vec<u64>]) -> Picture {
    let names: Vec<String> = classes.iter().map(|name| short(name, 12)).collect();
    let widest = counts.iter().flatten().map(|count| width(&count.to_string())).max().unwrap_or(0);
    let name = names.iter().map(|name| width(name)).max().unwrap_or(0);
    // Many classes: their numbers stand above the columns, their names beside the rows.
    let few = classes.len() <= 12;
    let [cell, line] = [widest.max(if few { name } else { 24 }) + 16, LETTER * 3];
    let left = name + 24 + if few { 0 } else { 32 };
    let (columns, rows) = (classes.len() as u32, classes.len() as u32);
    let size = (left + columns * cell + LETTER, (rows + 1) * line + 3 * LETTER);
    let mut canvas = RgbImage::from_pixel(size.0, size.1, WHITE);
    write(&mut canvas, "rows true, columns predicted", LETTER, LETTER / 2, BLACK);
    let top = 2 * LETTER;
    for (column, predicted) in names.iter().enumerate() {
        let text = if few { predicted.clone() } else { column.to_string() };
        write(&mut canvas, &text, left + column as u32 * cell + 8, top + LETTER, BLACK);
    }
    for (row, (class, counts)) in names.iter().zip(counts).enumerate() {
        let y = top + (row as u32 + 1) * line;
        let text = if few { class.clone() } else { format!("{row:>3} {class}") };
        write(&mut canvas, &text, LETTER, y + LETTER, BLACK);
        let total = counts.iter().sum::<u64>().max(1);
        for (column, &count) in counts.iter().enumerate() {
            let share = count as f32 / total as f32;
            let full = if row == column { BLUE } else { ORANGE };
            let mix = |channel: usize| (255.0 + share * (f32::from(full[channel]) - 255.0)) as u8;
            let place = [left + column as u32 * cell, y, cell - 1, line - 1];
            fill(&mut canvas, place, Rgb([mix(0), mix(1), mix(2)]));
            let text = count.to_string();
            let ink = if share > 0.6 { WHITE } else { BLACK };
            write(&mut canvas, &text, place[0] + (cell - width(&text)) / 2, y + LETTER, ink);
        }
    }
    Picture(canvas)
}

/// A picture `[h, w, c]` of u8 (grey where it has one channel or two, else its first three as RGB), enlarged to at least
/// 128 pixels, with a caption of two lines in blue where the prediction is correct and orange where it is wrong.
pub fn example(pixels: &[u8], [h, w, c]: [usize; 3], caption: [&str; 2], correct: bool) -> Picture {
    let pixel = |x: u32, y: u32| {
        let place = (y as usize * w + x as usize) * c;
        let channels = if c < 3 { [0; 3] } else { [0, 1, 2] };
        Rgb(channels.map(|channel| pixels[place + channel]))
    };
    let small = RgbImage::from_fn(w as u32, h as u32, pixel);
    let factor = (128usize.div_ceil(h.min(w).max(1))).max(1) as u32;
    let large = imageops::resize(&small, w as u32 * factor, h as u32 * factor, imageops::FilterType::Nearest);
    let words = caption.map(width).into_iter().max().unwrap_or(0) + 2 * LETTER;
    let mut canvas = RgbImage::from_pixel(large.width().max(words), large.height() + 4 * LETTER, WHITE);
    let colour = if correct { BLUE } else { ORANGE };
    let height = large.height();
    imageops::replace(&mut canvas, &large, 0, 0);
    let all = [0, height, canvas.width(), 4 * LETTER];
    fill(&mut canvas, all, colour);
    for (line, text) in caption.iter().enumerate() {
        write(&mut canvas, text, LETTER, height + LETTER / 2 + line as u32 * LETTER * 3 / 2, WHITE);
    }
    Picture(canvas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confusion_matrix_is_dark_where_the_counts_are() {
        let classes = ["no glasses", "glasses"].map(str::to_owned);
        let Picture(canvas) = confusion(&classes, &[vec![90, 10], vec![0, 100]]);
        let count = |colour: Rgb<u8>| canvas.pixels().filter(|pixel| **pixel == colour).count();
        assert!(count(BLUE) > 500, "100 of 100 correct");
        assert_eq!(count(ORANGE), 0, "no row is all wrong");
        assert!(count(BLACK) > 100 && count(WHITE) > 500);
        let names: Vec<String> = (0..50).map(|n| format!("a class with a long name {n}")).collect();
        assert!(confusion(&names, &vec![vec![12345; 50]; 50]).png().unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn an_example_is_enlarged_and_says_whether_it_is_correct() {
        for (c, correct) in [(1, true), (2, false), (3, true), (4, false)] {
            let pixels: Vec<u8> = (0..10 * 7 * c).map(|i| (i * 3 % 256) as u8).collect();
            let Picture(canvas) = example(&pixels, [10, 7, c], ["predicted é 日", "true b"], correct);
            assert!(canvas.height() >= 160 && canvas.width() >= 128, "{:?}", canvas.dimensions());
            let first = canvas.get_pixel(0, 0).0;
            assert_eq!(first, if c < 3 { [pixels[0]; 3] } else { [pixels[0], pixels[1], pixels[2]] });
            let caption = *canvas.get_pixel(canvas.width() - 1, canvas.height() - 1);
            assert_eq!(caption, if correct { BLUE } else { ORANGE });
        }
    }
}
