//! 3×3 windows by Winograd's F(4×4, 3×3) as plain loops: what `plain.rs` is for the other shapes. The points are 0, ±3/4,
//! ±3/2 and infinity; every line of a tile is transformed by the formulas below, columns first, then rows; at each of the
//! 36 positions there is one chain, over the channels or, for the weights' gradients, over the tiles of an image.

use glasses::kernels::ConvShape;

/// The points, their powers, and what the weights are divided by.
const A: f32 = 3.0 / 4.0;
const B: f32 = 3.0 / 2.0;
const A2: f32 = 9.0 / 16.0;
const B2: f32 = 9.0 / 4.0;
const A3: f32 = 27.0 / 64.0;
const B3: f32 = 27.0 / 8.0;
const DIVIDED: [f32; 3] = [64.0 / 81.0, -128.0 / 243.0, 32.0 / 243.0];

/// Whether a convolution goes this way.
pub fn apply(s: &ConvShape) -> bool {
    let pays = |h: usize, w: usize| tiles(h, w) >= 12 && 8 * tiles(h, w) <= h * w;
    let wide = |channels: usize| channels >= 16 && channels.is_multiple_of(8);
    let window = (s.kh, s.kw, s.stride, s.dilation, s.groups) == (3, 3, 1, 1, 1);
    window && wide(s.c_in) && wide(s.c_out) && pays(s.h_out, s.w_out) && pays(s.h_in, s.w_in)
}

/// Whether the gradient of its weights does too.
pub fn apply_to_weights(s: &ConvShape) -> bool {
    apply(s) && s.c_in * s.c_out <= 16384
}

fn tiles(h: usize, w: usize) -> usize {
    h.div_ceil(4) * w.div_ceil(4)
}

type Line<const I: usize, const O: usize> = fn([f32; I]) -> [f32; O];

/// Columns, then rows.
fn both<const I: usize, const O: usize>(line: Line<I, O>, tile: [[f32; I]; I]) -> [[f32; O]; O] {
    let mut columns = [[0.0; I]; O];
    for x in 0..I {
        let column = line(std::array::from_fn(|y| tile[y][x]));
        for y in 0..O {
            columns[y][x] = column[y];
        }
    }
    columns.map(line)
}

fn image_line(d: [f32; 6]) -> [f32; 6] {
    let (even_a, odd_a) = (d[2].mul_add(-B2, d[4]), d[1].mul_add(-B2, d[3]));
    let (even_b, odd_b) = (d[2].mul_add(-A2, d[4]), d[1].mul_add(-A2, d[3]));
    let end = |a: f32, b: f32, c: f32| a.mul_add(A2 * B2, b.mul_add(-(A2 + B2), c));
    [
        end(d[0], d[2], d[4]),
        odd_a.mul_add(A, even_a),
        odd_a.mul_add(-A, even_a),
        odd_b.mul_add(B, even_b),
        odd_b.mul_add(-B, even_b),
        end(d[1], d[3], d[5]),
    ]
}

fn weight_line(g: [f32; 3]) -> [f32; 6] {
    let [zero, a, b] = DIVIDED;
    let (even_a, odd_a) = (g[2].mul_add(a * A2, g[0] * a), g[1] * (a * A));
    let (even_b, odd_b) = (g[2].mul_add(b * B2, g[0] * b), g[1] * (b * B));
    [g[0] * zero, even_a + odd_a, even_a - odd_a, even_b + odd_b, even_b - odd_b, g[2]]
}

fn output_line(m: [f32; 6]) -> [f32; 4] {
    let (sum_a, gap_a, sum_b, gap_b) = (m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]);
    [
        (m[0] + sum_a) + sum_b,
        gap_b.mul_add(B, gap_a * A),
        sum_b.mul_add(B2, sum_a * A2),
        gap_b.mul_add(B3, gap_a.mul_add(A3, m[5])),
    ]
}

fn d_output_line(y: [f32; 4]) -> [f32; 6] {
    let (even_a, odd_a) = (y[2].mul_add(A2, y[0]), y[3].mul_add(A2, y[1]));
    let (even_b, odd_b) = (y[2].mul_add(B2, y[0]), y[3].mul_add(B2, y[1]));
    [
        y[0],
        odd_a.mul_add(A, even_a),
        odd_a.mul_add(-A, even_a),
        odd_b.mul_add(B, even_b),
        odd_b.mul_add(-B, even_b),
        y[3],
    ]
}

fn d_weight_line(u: [f32; 6]) -> [f32; 3] {
    let [zero, a, b] = DIVIDED;
    let (sum_a, gap_a, sum_b, gap_b) = (u[1] + u[2], u[1] - u[2], u[3] + u[4], u[3] - u[4]);
    [
        sum_b.mul_add(b, sum_a.mul_add(a, u[0] * zero)),
        gap_b.mul_add(b * B, gap_a * (a * A)),
        sum_b.mul_add(b * B2, sum_a.mul_add(a * A2, u[5])),
    ]
}

/// An image `[h, w, channels]`.
#[derive(Clone, Copy)]
struct Image<'a> {
    values: &'a [f32],
    size: [usize; 3],
}

impl Image<'_> {
    /// Channel `c` of the pixels from (`y`, `x`) on; zeros outside.
    fn tile<const SIZE: usize>(&self, y: isize, x: isize, c: usize) -> [[f32; SIZE]; SIZE] {
        let [h, w, channels] = self.size.map(|size| size as isize);
        std::array::from_fn(|dy| {
            std::array::from_fn(|dx| {
                let (y, x) = (y + dy as isize, x + dx as isize);
                let inside = (0..h).contains(&y) && (0..w).contains(&x);
                if inside { self.values[((y * w + x) * channels) as usize + c] } else { 0.0 }
            })
        })
    }
}

/// The sums of a window over an image with `pad` zeros above and to the left, `[h, w, c_out]`; `weight` is asked for
/// (ky, kx, input channel, output channel).
fn convolve(
    image: Image<'_>,
    pad: [usize; 2],
    weight: impl Fn(usize, usize, usize, usize) -> f32,
    [h, w, c_out]: [usize; 3],
) -> Vec<f32> {
    let mut output = vec![0.0; h * w * c_out];
    let c_in = image.size[2];
    let transformed = |ci: usize, co: usize| {
        both(weight_line, std::array::from_fn(|ky| std::array::from_fn(|kx| weight(ky, kx, ci, co))))
    };
    let weights: Vec<[[f32; 6]; 6]> = (0..c_in * c_out).map(|i| transformed(i / c_out, i % c_out)).collect();
    for tile in 0..tiles(h, w) {
        let (top, left) = (tile / w.div_ceil(4) * 4, tile % w.div_ceil(4) * 4);
        let (y, x) = (top as isize - pad[0] as isize, left as isize - pad[1] as isize);
        let pixels: Vec<[[f32; 6]; 6]> = (0..c_in).map(|ci| both(image_line, image.tile(y, x, ci))).collect();
        for co in 0..c_out {
            let mut sums = [[0.0f32; 6]; 6];
            for (ci, pixels) in pixels.iter().enumerate() {
                for i in 0..36 {
                    let sum = &mut sums[i / 6][i % 6];
                    *sum = pixels[i / 6][i % 6].mul_add(weights[ci * c_out + co][i / 6][i % 6], *sum);
                }
            }
            let four = both(output_line, sums);
            for (y, x) in (0..16).map(|i| (i / 4, i % 4)).filter(|(y, x)| top + y < h && left + x < w) {
                output[((top + y) * w + left + x) * c_out + co] = four[y][x];
            }
        }
    }
    output
}

/// What the window sums for each output, without the bias.
pub fn window(s: &ConvShape, weight: &[f32], image: &[f32]) -> Vec<f32> {
    let image = Image { values: image, size: [s.h_in, s.w_in, s.c_in] };
    let weight = |ky, kx, ci, co| weight[((ky * 3 + kx) * s.c_in + ci) * s.c_out + co];
    convolve(image, [s.pad_top, s.pad_left], weight, [s.h_out, s.w_out, s.c_out])
}

/// The gradient of the input: the window turned by 180°, swept over the outputs' gradients.
pub fn d_input(s: &ConvShape, weight: &[f32], d_conv: &[f32]) -> Vec<f32> {
    let image = Image { values: d_conv, size: [s.h_out, s.w_out, s.c_out] };
    let weight = |ky, kx, co, ci| weight[(((2 - ky) * 3 + 2 - kx) * s.c_in + ci) * s.c_out + co];
    convolve(image, [2 - s.pad_top, 2 - s.pad_left], weight, [s.h_in, s.w_in, s.c_in])
}

/// Adds the gradient of the weights.
pub fn add_weights(s: &ConvShape, image: &[f32], d_conv: &[f32], d_weight: &mut [f32]) {
    let image = Image { values: image, size: [s.h_in, s.w_in, s.c_in] };
    let gradient = Image { values: d_conv, size: [s.h_out, s.w_out, s.c_out] };
    let mut sums = vec![[[0.0f32; 6]; 6]; s.c_in * s.c_out];
    for tile in 0..tiles(s.h_out, s.w_out) {
        let (top, left) = (tile / s.w_out.div_ceil(4) * 4, tile % s.w_out.div_ceil(4) * 4);
        let (y, x) = (top as isize - s.pad_top as isize, left as isize - s.pad_left as isize);
        let pixels: Vec<[[f32; 6]; 6]> = (0..s.c_in).map(|ci| both(image_line, image.tile(y, x, ci))).collect();
        let (y, x) = (top as isize, left as isize);
        let gradients: Vec<_> = (0..s.c_out).map(|co| both(d_output_line, gradient.tile(y, x, co))).collect();
        for (i, sums) in sums.iter_mut().enumerate() {
            for p in 0..36 {
                let (value, gradient) = (pixels[i / s.c_out][p / 6][p % 6], gradients[i % s.c_out][p / 6][p % 6]);
                sums[p / 6][p % 6] = value.mul_add(gradient, sums[p / 6][p % 6]);
            }
        }
    }
    for (i, sums) in sums.into_iter().enumerate() {
        let nine = both(d_weight_line, sums);
        for tap in 0..9 {
            d_weight[tap * s.c_in * s.c_out + i] += nine[tap / 3][tap % 3];
        }
    }
}
