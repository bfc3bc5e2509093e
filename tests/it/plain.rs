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

/// Where tap `k` of the window at output place `o` falls, if inside `0 .. size`.
fn tap(o: usize, k: usize, stride: usize, pad: usize, size: usize) -> Option<usize> {
    (o * stride + k).checked_sub(pad).filter(|&place| place < size)
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
            return sums
                .iter()
                .zip(bias.iter().cycle())
                .map(|(sum, bias)| rectify(self.rectifier, sum + bias))
                .collect();
        }
        let mut output = Vec::with_capacity(s.output_len());
        for (y, x) in pixels(s.h_out, s.w_out) {
            for co in 0..s.c_out {
                let mut sum = 0.0f32;
                for (ky, kx) in pixels(s.kh, s.kw) {
                    let row = tap(y, ky, s.stride, s.pad_top, s.h_in);
                    let column = tap(x, kx, s.stride, s.pad_left, s.w_in);
                    let (Some(row), Some(column)) = (row, column) else { continue };
                    for ci in 0..s.c_in {
                        let value = image[(row * s.w_in + column) * s.c_in + ci];
                        sum = value.mul_add(weight[((ky * s.kw + kx) * s.c_in + ci) * s.c_out + co], sum);
                    }
                }
                output.push(rectify(self.rectifier, sum + bias[co]));
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

    /// Chains over the window's outputs (row, column, co) that an input pixel has a part in.
    fn d_input(&self, weight: &[f32], d_conv: &[f32]) -> Vec<f32> {
        let s = &self.shape;
        if tiles::apply(s) {
            return tiles::d_input(s, weight, d_conv);
        }
        let mut d_input = Vec::with_capacity(s.input_len());
        for (row, column) in pixels(s.h_in, s.w_in) {
            for ci in 0..s.c_in {
                let mut sum = 0.0f32;
                for (y, x) in pixels(s.h_out, s.w_out) {
                    let ky = (row + s.pad_top).checked_sub(y * s.stride).filter(|&ky| ky < s.kh);
                    let kx = (column + s.pad_left).checked_sub(x * s.stride).filter(|&kx| kx < s.kw);
                    let (Some(ky), Some(kx)) = (ky, kx) else { continue };
                    for co in 0..s.c_out {
                        let weight = weight[((ky * s.kw + kx) * s.c_in + ci) * s.c_out + co];
                        sum = d_conv[(y * s.w_out + x) * s.c_out + co].mul_add(weight, sum);
                    }
                }
                d_input.push(sum);
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
        for (y, co) in pixels(s.h_out, s.c_out) {
            let mut chains = [0.0f32; 4];
            for x in 0..s.w_out {
                chains[x % 4] += d_conv[(y * s.w_out + x) * s.c_out + co];
            }
            d_bias[co] += (chains[0] + chains[1]) + (chains[2] + chains[3]);
        }
    }

    fn add_windows(&self, image: &[f32], d_conv: &[f32], d_weight: &mut [f32]) {
        let s = &self.shape;
        for (ky, kx) in pixels(s.kh, s.kw) {
            for (y, x) in pixels(s.h_out, s.w_out) {
                let row = tap(y, ky, s.stride, s.pad_top, s.h_in);
                let column = tap(x, kx, s.stride, s.pad_left, s.w_in);
                let (Some(row), Some(column)) = (row, column) else { continue };
                for (ci, co) in pixels(s.c_in, s.c_out) {
                    let value = image[(row * s.w_in + column) * s.c_in + ci];
                    let sum = &mut d_weight[((ky * s.kw + kx) * s.c_in + ci) * s.c_out + co];
                    *sum = value.mul_add(d_conv[(y * s.w_out + x) * s.c_out + co], *sum);
                }
            }
        }
    }
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
