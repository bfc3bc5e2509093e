//! What the kernels compute, as plain loops: every index is spelled out, every sum is one chain in the promised order.
//! Nothing here is shared with the kernels but the structs that name sizes, and the tree.

use crate::tiles;
use glasses::kernels::{ConvShape, DENSE_BLOCK, DenseShape, Rectifier, tree};

/// A convolution and what is fused into it.
#[derive(Clone, Copy, Debug)]
pub struct FusedConv {
    pub shape: ConvShape,
    pub rectifier: Option<Rectifier>,
    pub pool: bool,
}

/// What a layer gives forward and backward.
#[derive(Clone, Debug, Default)]
pub struct Results {
    pub output: Vec<f32>,
    pub d_input: Vec<f32>,
    /// Weights, then biases.
    pub d_params: Vec<f32>,
    /// The same after the same rows were added once more.
    pub d_params_twice: Vec<f32>,
}

impl Results {
    /// Everything, with its name.
    pub fn parts(&self) -> [(&'static str, &[f32]); 4] {
        [
            ("output", &self.output),
            ("d_input", &self.d_input),
            ("d_params", &self.d_params),
            ("d_params, added to", &self.d_params_twice),
        ]
    }
}

fn rectify(rectifier: Option<Rectifier>, v: f32) -> f32 {
    match rectifier {
        Some(Rectifier::Relu) if v <= 0.0 => 0.0,
        Some(Rectifier::Leaky(slope)) if v <= 0.0 => slope * v,
        _ => v,
    }
}

fn slope(rectifier: Option<Rectifier>, output: f32, gradient: f32) -> f32 {
    match rectifier {
        Some(Rectifier::Relu) if output <= 0.0 => 0.0,
        Some(Rectifier::Leaky(slope)) if output <= 0.0 => slope * gradient,
        _ => gradient,
    }
}

/// Where tap (`ky`, `kx`) of the window at output pixel (`y`, `x`) falls, if inside the image: row and column.
fn tap(s: &ConvShape, (y, x): (usize, usize), (ky, kx): (usize, usize)) -> Option<(usize, usize)> {
    let row = (y * s.stride + ky * s.dilation).checked_sub(s.pad_top).filter(|&row| row < s.h_in)?;
    let column = (x * s.stride + kx * s.dilation).checked_sub(s.pad_left).filter(|&column| column < s.w_in)?;
    Some((row, column))
}

/// The input channels that output channel `co` reads.
fn read_by(s: &ConvShape, co: usize) -> std::ops::Range<usize> {
    let (of_group, group) = (s.c_in / s.groups, co / (s.c_out / s.groups));
    group * of_group..(group + 1) * of_group
}

/// The output channels that read input channel `ci`.
fn readers(s: &ConvShape, ci: usize) -> std::ops::Range<usize> {
    let (of_group, group) = (s.c_out / s.groups, ci / (s.c_in / s.groups));
    group * of_group..(group + 1) * of_group
}

/// The place of a weight.
fn place(s: &ConvShape, (ky, kx): (usize, usize), ci: usize, co: usize) -> usize {
    let of_group = s.c_in / s.groups;
    ((ky * s.kw + kx) * of_group + ci % of_group) * s.c_out + co
}

impl FusedConv {
    /// Forward and backward for all images of `input [batch, h_in, w_in, c_in]`.
    pub fn run(&self, params: &[f32], input: &[f32], d_output: &[f32]) -> Results {
        let s = &self.shape;
        let (weight, bias) = params.split_at(s.weight_len());
        let (output_len, mut results) = (self.output_len(), Results::default());
        let (mut d_weight, mut d_bias) = (vec![0.0; weight.len()], vec![0.0; bias.len()]);
        for turn in 0..2 {
            for (n, image) in input.chunks_exact(s.input_len()).enumerate() {
                let rectified = self.window(weight, bias, image);
                let (output, winners) = self.pooled(&rectified);
                let d_output = &d_output[n * output_len..(n + 1) * output_len];
                let mut d_conv = vec![0.0; rectified.len()];
                for (i, &winner) in winners.iter().enumerate() {
                    d_conv[winner] = slope(self.rectifier, output[i], d_output[i]);
                }
                self.add_weights(image, &d_conv, &mut d_weight, &mut d_bias);
                if turn == 0 {
                    results.output.extend(output);
                    results.d_input.extend(self.d_input(weight, &d_conv));
                }
            }
            let d_params = [&d_weight[..], &d_bias].concat();
            *(if turn == 0 { &mut results.d_params } else { &mut results.d_params_twice }) = d_params;
        }
        results
    }

    /// Values of one output image.
    pub fn output_len(&self) -> usize {
        self.shape.output_len() / if self.pool { 4 } else { 1 }
    }

    /// Chains over (ky, kx, ci) (or what `tiles.rs` makes of them), then the bias, then the rectifier.
    fn window(&self, weight: &[f32], bias: &[f32], image: &[f32]) -> Vec<f32> {
        let s = &self.shape;
        if tiles::apply(s) {
            let sums = tiles::window(s, weight, image);
            let sums = sums.iter().enumerate();
            return sums.map(|(i, sum)| rectify(self.rectifier, with_bias(*sum, bias, i % s.c_out))).collect();
        }
        let mut output = Vec::with_capacity(s.output_len());
        for (y, x) in pixels(s.h_out, s.w_out) {
            for co in 0..s.c_out {
                let mut sum = 0.0f32;
                for k in pixels(s.kh, s.kw) {
                    let Some((row, column)) = tap(s, (y, x), k) else { continue };
                    for ci in read_by(s, co) {
                        let value = image[(row * s.w_in + column) * s.c_in + ci];
                        sum = value.mul_add(weight[place(s, k, ci, co)], sum);
                    }
                }
                output.push(rectify(self.rectifier, with_bias(sum, bias, co)));
            }
        }
        output
    }

    /// The output, and which value of the window's each of them is.
    fn pooled(&self, rectified: &[f32]) -> (Vec<f32>, Vec<usize>) {
        let s = &self.shape;
        if !self.pool {
            return (rectified.to_vec(), (0..rectified.len()).collect());
        }
        let winner = |y: usize, x: usize, co: usize| {
            let at = |dy: usize, dx: usize| ((2 * y + dy) * s.w_out + 2 * x + dx) * s.c_out + co;
            let places = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
            // Of equals the first one.
            places
                .into_iter()
                .reduce(|best, place| if rectified[place] > rectified[best] { place } else { best })
                .unwrap()
        };
        let places = pixels(s.h_out / 2, s.w_out / 2);
        let winners: Vec<usize> = places.flat_map(|(y, x)| (0..s.c_out).map(move |co| winner(y, x, co))).collect();
        (winners.iter().map(|&winner| rectified[winner]).collect(), winners)
    }

    /// Over the window's outputs that an input pixel has a part in: one chain over (row, column, co); where every channel goes by
    /// itself, a chain over (row, column) for each of its outputs; of other groups and dilated windows, a chain over co for each pixel.
    fn d_input(&self, weight: &[f32], d_conv: &[f32]) -> Vec<f32> {
        let s = &self.shape;
        if tiles::apply(s) {
            return tiles::d_input(s, weight, d_conv);
        }
        let mut d_input = Vec::with_capacity(s.input_len());
        for (row, column) in pixels(s.h_in, s.w_in) {
            let through = |o: (usize, usize)| {
                let k = pixels(s.kh, s.kw).find(|&k| tap(s, o, k) == Some((row, column)))?;
                Some(((o.0 * s.w_out + o.1) * s.c_out, k))
            };
            let outputs: Vec<(usize, (usize, usize))> = pixels(s.h_out, s.w_out).filter_map(through).collect();
            for ci in 0..s.c_in {
                let term = |sum: f32, (pixel, k): (usize, (usize, usize)), co: usize| {
                    d_conv[pixel + co].mul_add(weight[place(s, k, ci, co)], sum)
                };
                let outputs = outputs.iter().copied();
                d_input.push(if s.is_plain() {
                    outputs.fold(0.0, |sum, o| readers(s, ci).fold(sum, |sum, co| term(sum, o, co)))
                } else if s.groups == s.c_in {
                    let chain = |co| outputs.clone().fold(0.0, |sum, o| term(sum, o, co));
                    readers(s, ci).map(chain).fold(0.0, |sum, chain| sum + chain)
                } else {
                    let chain = |o| readers(s, ci).fold(0.0, |sum, co| term(sum, o, co));
                    outputs.map(chain).fold(0.0, |sum, chain| sum + chain)
                });
            }
        }
        d_input
    }

    /// Weights: chains over rows and columns that go on from image to image. Biases: for each row four chains over columns
    /// 0, 4, 8 …, 1, 5, 9 … and so on, merged as (0 + 1) + (2 + 3), then added.
    fn add_weights(&self, image: &[f32], d_conv: &[f32], d_weight: &mut [f32], d_bias: &mut [f32]) {
        let s = &self.shape;
        if tiles::apply_to_weights(s) {
            tiles::add_weights(s, image, d_conv, d_weight);
        } else {
            self.add_windows(image, d_conv, d_weight);
        }
        for (y, co) in pixels(s.h_out, d_bias.len()) {
            let mut chains = [0.0f32; 4];
            for x in 0..s.w_out {
                chains[x % 4] += d_conv[(y * s.w_out + x) * s.c_out + co];
            }
            d_bias[co] += (chains[0] + chains[1]) + (chains[2] + chains[3]);
        }
    }

    fn add_windows(&self, image: &[f32], d_conv: &[f32], d_weight: &mut [f32]) {
        let s = &self.shape;
        for k in pixels(s.kh, s.kw) {
            for (y, x) in pixels(s.h_out, s.w_out) {
                let Some((row, column)) = tap(s, (y, x), k) else { continue };
                for (ci, co) in (0..s.c_in).flat_map(|ci| readers(s, ci).map(move |co| (ci, co))) {
                    let value = image[(row * s.w_in + column) * s.c_in + ci];
                    let sum = &mut d_weight[place(s, k, ci, co)];
                    *sum = value.mul_add(d_conv[(y * s.w_out + x) * s.c_out + co], *sum);
                }
            }
        }
    }
}

/// A sum, and the bias, if there is one.
fn with_bias(sum: f32, bias: &[f32], co: usize) -> f32 {
    bias.get(co).map_or(sum, |bias| sum + bias)
}

/// (0, 0), (0, 1) … row by row.
fn pixels(h: usize, w: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..h).flat_map(move |y| (0..w).map(move |x| (y, x)))
}

/// A dense layer; `rows` says how many rows each shard has.
pub fn dense(shape: DenseShape, rows: &[usize], params: &[f32], input: &[f32], d_output: &[f32]) -> Results {
    let DenseShape { inputs, outputs } = shape;
    let (weight, bias) = params.split_at(inputs * outputs);
    let batch: usize = rows.iter().sum();
    let starts: Vec<usize> = rows.iter().scan(0, |end, &rows| Some(std::mem::replace(end, *end + rows))).collect();
    let mut results = Results::default();
    for (n, o) in pixels(batch, outputs) {
        let block = &mut |block: usize| {
            let terms = block * DENSE_BLOCK..inputs.min((block + 1) * DENSE_BLOCK);
            Some(terms.fold(0.0, |sum, i| input[n * inputs + i].mul_add(weight[i * outputs + o], sum)))
        };
        let sum = tree(inputs.div_ceil(DENSE_BLOCK), block, &|a: f32, b: f32| a + b).unwrap();
        results.output.push(sum + bias[o]);
    }
    for (n, i) in pixels(batch, inputs) {
        let term = |sum, o: usize| d_output[n * outputs + o].mul_add(weight[i * outputs + o], sum);
        results.d_input.push((0..outputs).fold(0.0, term));
    }
    // The bias is a weight whose input is always 1.
    for (i, o) in pixels(inputs + 1, outputs) {
        let value = |n: usize| if i < inputs { input[n * inputs + i] } else { 1.0 };
        let chain = |from: f32, shard: usize| {
            let rows = starts[shard]..starts[shard] + rows[shard];
            rows.fold(from, |sum, n| value(n).mul_add(d_output[n * outputs + o], sum))
        };
        let shard = &mut |shard: usize| (rows[shard] > 0).then(|| chain(0.0, shard));
        let sum = tree(rows.len(), shard, &|a, b| a + b).unwrap();
        results.d_params.push(sum);
        // Only the sum of one shard can be gone on with.
        results.d_params_twice.push(if rows.len() == 1 { chain(sum, 0) } else { 0.0 });
    }
    results
}
