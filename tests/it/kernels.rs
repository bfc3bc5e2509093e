//! The kernels of every instruction set against plain loops (`plain.rs`), bit for bit, over a grid of shapes.

use glasses::kernels::rng::{Purpose, Stream};
use glasses::kernels::{ConvShape, DenseShape, Isa, Leaf, Padding, Rectifier, Window, leaves};
use glasses::model::ops::work::{Backward, Forward, Map};
use glasses::model::ops::{ConvWork, DenseWork, GemmConv, GemmDense};

use crate::golden::assert_close;
use crate::plain::{self, FusedConv, Results};

/// Normal numbers, with some zeros among them as a rectifier leaves them.
pub fn numbers(seed: u64, len: usize, deviation: f64) -> Vec<f32> {
    let mut values = vec![0.0; len];
    Stream::new(seed, Purpose::Synth, 0, 0, 0).fill_normal(&mut values, deviation);
    values.iter_mut().skip(3).step_by(7).for_each(|value| *value = 0.0);
    values
}

/// What goes into a layer.
pub struct Given {
    pub params: Vec<f32>,
    pub input: Vec<f32>,
    pub d_output: Vec<f32>,
    rows: Vec<usize>,
}

impl Given {
    /// Numbers of a size that keeps sums near 1, for a layer of so many (weights, biases, inputs, outputs).
    pub fn new(seed: u64, rows: &[usize], [weights, biases, inputs, outputs]: [usize; 4]) -> Given {
        let batch: usize = rows.iter().sum();
        let deviation = 1.0 / (weights as f64 / biases as f64).sqrt();
        Given {
            params: [numbers(seed, weights, deviation), numbers(seed + 1, biases, 0.5)].concat(),
            input: numbers(seed + 2, batch * inputs, 1.0),
            d_output: numbers(seed + 3, batch * outputs, 0.1),
            rows: rows.to_vec(),
        }
    }

    /// Both passes of a layer by itself, called as the model calls it. A NaN that is read before it is written shows.
    fn run(&self, layer: &dyn Map) -> Results {
        let batch = self.rows.iter().sum();
        let mut leaves_of_rows = Vec::new();
        leaves(&self.rows, &mut leaves_of_rows);
        let mut packed = vec![f32::NAN; layer.packed()];
        let mut scratch = vec![f32::NAN; layer.scratch(batch)];
        let mut kept = vec![u16::MAX; batch * layer.kept()];
        let mut output = vec![f32::NAN; self.d_output.len()];
        let mut d_input = vec![f32::NAN; self.input.len()];
        let mut d_params = vec![f32::NAN; self.params.len()];
        layer.pack(&self.params, &mut packed);
        let (params, packed, input) = (&self.params[..], &packed[..], &self.input[..]);
        let (kept_out, scratch_out) = (&mut kept[..], &mut scratch[..]);
        layer.forward(Forward {
            batch,
            params,
            packed,
            input,
            output: &mut output,
            kept: kept_out,
            scratch: scratch_out,
        });
        let mut without_way_back = vec![f32::NAN; output.len()];
        let (output_again, scratch_out) = (&mut without_way_back[..], &mut scratch[..]);
        layer.forward(Forward {
            batch,
            params,
            packed,
            input,
            output: output_again,
            kept: &mut [],
            scratch: scratch_out,
        });
        assert_eq!(without_way_back, output, "where nothing is kept");
        let mut backward = |d_params: &mut [f32], d_input: Option<&mut [f32]>, leaves: &[Leaf], accumulate: bool| {
            let (output, kept, d_output, scratch) = (&output[..], &kept[..], &self.d_output[..], &mut scratch[..]);
            scratch.fill(f32::NAN);
            layer.backward(Backward {
                batch,
                leaves,
                params,
                packed,
                input,
                output,
                kept,
                d_output,
                d_input,
                d_params: Some(d_params),
                accumulate,
                between: Default::default(),
                scratch,
            });
        };
        backward(&mut d_params, Some(&mut d_input), &leaves_of_rows, false);
        let mut d_params_twice = if self.rows.len() == 1 { d_params.clone() } else { vec![0.0; d_params.len()] };
        if self.rows.len() == 1 {
            backward(&mut d_params_twice, None, &leaves_of_rows, true);
        }
        Results { output, d_input, d_params, d_params_twice }
    }

    /// A convolution with what is fused into it: bit for bit as plain loops have it, and roughly as the second engine does.
    pub fn check_block(&self, block: &FusedConv) {
        let &FusedConv { shape, rectifier, pool } = block;
        let want = block.run(&self.params, &self.input, &self.d_output);
        let mut layer = conv(shape, true);
        if let Some(rectifier) = rectifier {
            layer.block.rectifier = Some(rectifier);
        }
        if pool {
            layer.block = layer.block.with_pool();
        }
        self.check(&layer, &want, &|| format!("{block:?}"));
        if rectifier.is_none() && !pool {
            let (weight, bias) = (layer.weight.clone(), layer.bias.clone());
            self.check_roughly(&GemmConv { shape, weight, bias }, &want, &|| format!("gemm {block:?}"));
        }
    }

    /// On every instruction set: equal to `want`, and of the same bits as one another.
    pub fn check(&self, layer: &dyn Map, want: &Results, what: &dyn Fn() -> String) {
        let mut first: Option<Results> = None;
        for isa in Isa::available() {
            let got = isa.with(|| self.run(layer));
            for ((name, got), (_, want)) in got.parts().into_iter().zip(want.parts()) {
                assert_same(got, want, &|| format!("{name} on {} of {}", isa.name(), what()));
            }
            for ((name, a), (_, b)) in first.iter().flat_map(|first| got.parts().into_iter().zip(first.parts())) {
                let same = a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "bits of {name} on {} and scalar of {}", isa.name(), what());
            }
            first.get_or_insert(got);
        }
    }

    /// Within rounding of the second engine.
    pub fn check_roughly(&self, oracle: &dyn Map, want: &Results, what: &dyn Fn() -> String) {
        let got = self.run(oracle);
        assert_close(&got.output, &want.output, 1e-5, &what());
        assert_close(&got.d_input, &want.d_input, 1e-5, &what());
        assert_close(&got.d_params, &want.d_params, 1e-5, &what());
    }
}

/// Equal numbers (−0 is 0), none of them NaN.
#[track_caller]
pub fn assert_same(got: &[f32], want: &[f32], what: &dyn Fn() -> String) {
    assert_eq!(got.len(), want.len(), "{}", what());
    if let Some(i) = (0..got.len()).find(|&i| got[i].partial_cmp(&want[i]) != Some(std::cmp::Ordering::Equal)) {
        panic!("{}: [{i}] of {} is {:?}, not {:?}", what(), got.len(), got[i], want[i]);
    }
}

pub const RECTIFIERS: [Option<Rectifier>; 3] = [None, Some(Rectifier::Relu), Some(Rectifier::Leaky(0.1))];

/// Every window, stride and padding that fits, on images from one pixel on.
fn windows() -> Vec<([usize; 2], Window)> {
    let mut found = Vec::new();
    for (kh, kw) in [(1, 1), (2, 2), (3, 3), (5, 5), (4, 3), (7, 7)] {
        for stride in [1, 2, 3, 65535] {
            for padding in [Padding::Same, Padding::Pixels(0), Padding::Pixels(1), Padding::Pixels(2)] {
                for image in [[1, 1], [5, 7], [8, 6], [9, 3], [12, 16]] {
                    let window = Window { kh, kw, stride, dilation: 1, padding };
                    if ConvShape::new([image[0], image[1], 1], window, 1).is_ok() {
                        found.push((image, window));
                    }
                }
            }
        }
    }
    found
}

/// Whether a 2×2 pool can follow.
pub fn even(shape: &ConvShape) -> bool {
    shape.h_out.is_multiple_of(2) && shape.w_out.is_multiple_of(2)
}

pub fn conv(shape: ConvShape, wants_d_input: bool) -> ConvWork {
    let weights = shape.weight_len();
    ConvWork::new(shape, 0..weights, weights..weights + shape.c_out, wants_d_input)
}

#[test]
fn every_instruction_set_agrees_bit_for_bit_with_the_plain_loops_on_convolutions() {
    let inputs = [1, 2, 3, 5, 8, 17];
    let outputs: Vec<usize> = (1..=17).chain([24, 33]).collect();
    let (mut turn, mut pooled) = (0, 0);
    for ([h, w], window) in windows() {
        // Channels take turns over the windows: all pairs come up.
        for _ in 0..5 {
            turn += 1;
            let (c_in, c_out) = (inputs[turn % inputs.len()], outputs[turn / 2 % outputs.len()]);
            let shape = ConvShape::new([h, w, c_in], window, c_out).unwrap();
            for (rectifier, pool) in [(None, false), (RECTIFIERS[turn / 7 % 3], even(&shape))] {
                let block = FusedConv { shape, rectifier, pool };
                let sizes = [shape.weight_len(), c_out, shape.input_len(), block.output_len()];
                let given = Given::new(turn as u64, &[2], sizes);
                given.check_block(&block);
                pooled += usize::from(pool);
            }
        }
    }
    assert!(turn > 500 && pooled > 100, "{turn} shapes, {pooled} pooled");
}

/// What two convolutions are made of, the lower one first.
#[derive(Debug)]
pub struct Stack {
    pub shapes: [ConvShape; 2],
    pub rectifiers: [Option<Rectifier>; 2],
    pub pools: [bool; 2],
    /// Whether the lowest gradient is wanted, as it is not in a network's first layer.
    pub wants_d_input: bool,
}

impl Stack {
    /// On every instruction set: what lies between the two may lie as both want it, or be copied.
    pub fn check(&self, given: &Given) {
        for isa in Isa::available() {
            let run = |connected| isa.with(|| Pair::new(self, connected).run(given));
            let (got, want) = (run(true), run(false));
            for ((name, got), (_, want)) in got.parts().into_iter().zip(want.parts()) {
                assert_same(got, want, &|| format!("{name} on {} of {self:?}", isa.name()));
            }
        }
    }
}

/// Two convolutions, one on top of the other, as one layer.
#[derive(Debug)]
struct Pair {
    below: ConvWork,
    above: ConvWork,
}

impl Pair {
    /// `params` of the one below come first.
    fn new(stack: &Stack, connected: bool) -> Pair {
        let Stack { shapes, rectifiers, pools, wants_d_input } = stack;
        let (mut below, mut above) = (conv(shapes[0], *wants_d_input), conv(shapes[1], true));
        let start = below.bias.end;
        above.weight = start..start + above.weight.end;
        above.bias = above.weight.end..above.weight.end + shapes[1].c_out;
        below.block.rectifier = rectifiers[0];
        if pools[0] {
            below.block = below.block.with_pool();
        }
        if connected {
            let layout = below.layout_below(&above);
            (below, above) = (below.writes(layout), above.reads(layout));
        }
        above.block.rectifier = rectifiers[1];
        if pools[1] {
            above.block = above.block.with_pool();
        }
        Pair { below, above }
    }

    fn run(&self, given: &Given) -> Results {
        let [below, above] = [&self.below, &self.above];
        let (batch, params) = (given.rows[0], &given.params[..]);
        let pack = |layer: &ConvWork| {
            let mut packed = vec![f32::NAN; layer.packed()];
            layer.pack(params, &mut packed);
            packed
        };
        let (pack_below, pack_above) = (pack(below), pack(above));
        let mut scratch = vec![f32::NAN; below.scratch(batch).max(above.scratch(batch))];
        let mut middle = vec![f32::NAN; batch * below.block.output.len()];
        let mut d_middle = vec![f32::NAN; batch * below.block.d_output.len()];
        let mut output = vec![f32::NAN; given.d_output.len()];
        let mut d_input = vec![f32::NAN; if below.wants_d_input { given.input.len() } else { 0 }];
        let (mut kept_below, mut kept_above) = (vec![0; batch * below.kept()], vec![0; batch * above.kept()]);
        let pass = (&pack_below[..], &given.input[..], &mut middle[..], &mut kept_below[..]);
        forward(below, batch, params, pass, &mut scratch);
        let pass = (&pack_above[..], &middle[..], &mut output[..], &mut kept_above[..]);
        forward(above, batch, params, pass, &mut scratch);
        let mut d_params = vec![f32::NAN; params.len()];
        let d_output = (&given.d_output[..], Some(&mut d_middle[..]));
        let pass = (&pack_above[..], &middle[..], &output[..], &kept_above[..]);
        backward(above, batch, params, pass, d_output, &mut d_params, &mut scratch);
        let pass = (&pack_below[..], &given.input[..], &middle[..], &kept_below[..]);
        let d_lowest = below.wants_d_input.then_some(&mut d_input[..]);
        backward(below, batch, params, pass, (&d_middle, d_lowest), &mut d_params, &mut scratch);
        Results { output, d_input, d_params, ..Results::default() }
    }
}

/// One forward pass: packed weights, input, output and what is kept.
fn forward(
    layer: &ConvWork,
    batch: usize,
    params: &[f32],
    (packed, input, output, kept): (&[f32], &[f32], &mut [f32], &mut [u16]),
    scratch: &mut [f32],
) {
    layer.forward(Forward { batch, params, packed, input, output, kept, scratch });
}

/// Backward: the same, then both gradients.
fn backward(
    layer: &ConvWork,
    batch: usize,
    params: &[f32],
    (packed, input, output, kept): (&[f32], &[f32], &[f32], &[u16]),
    (d_output, d_input): (&[f32], Option<&mut [f32]>),
    d_params: &mut [f32],
    scratch: &mut [f32],
) {
    let leaves = &[Leaf { end: batch, merges: 0 }];
    let accumulate = false;
    layer.backward(Backward {
        batch,
        leaves,
        params,
        packed,
        input,
        output,
        kept,
        d_output,
        d_input,
        d_params: Some(d_params),
        accumulate,
        between: Default::default(),
        scratch,
    });
}

#[test]
fn connected_convolutions_give_the_bits_of_unconnected_ones() {
    let window = |kh, kw, stride, padding| Window { kh, kw, stride, dilation: 1, padding };
    let windows = [
        window(3, 3, 1, Padding::Same),
        window(5, 5, 1, Padding::Same),
        window(4, 3, 1, Padding::Pixels(1)),
        window(3, 3, 2, Padding::Same),
        window(1, 1, 1, Padding::Same),
        window(2, 2, 2, Padding::Pixels(0)),
    ];
    let mut turn = 0;
    for (lower, upper) in windows.iter().flat_map(|lower| windows.iter().map(move |upper| (*lower, *upper))) {
        for (rectifier, pool) in RECTIFIERS.iter().flat_map(|rectifier| [(*rectifier, false), (*rectifier, true)]) {
            turn += 1;
            let channels = [1 + turn % 4, 1 + turn % 18, 1 + turn % 11];
            let below = ConvShape::new([12, 16, channels[0]], lower, channels[1]).unwrap();
            let (pool, half) = (pool && even(&below), if pool && even(&below) { 2 } else { 1 });
            let middle = [below.h_out / half, below.w_out / half, channels[1]];
            let Ok(above) = ConvShape::new(middle, upper, channels[2]) else { continue };
            let pools = [pool, even(&above) && turn % 5 == 0];
            let rectifiers = [rectifier, RECTIFIERS[turn / 5 % 3]];
            let stack = Stack { shapes: [below, above], rectifiers, pools, wants_d_input: turn % 3 > 0 };
            let output = above.output_len() / if pools[1] { 4 } else { 1 };
            let weights = below.weight_len() + below.c_out + above.weight_len();
            let given = Given::new(turn as u64, &[2], [weights, above.c_out, below.input_len(), output]);
            stack.check(&given);
        }
    }
}

#[test]
fn every_instruction_set_agrees_bit_for_bit_with_the_plain_loops_on_dense_layers() {
    let batches = [1, 2, 3, 4, 5, 9, 16, 17, 33, 64];
    let outputs: Vec<usize> = (1..=17).chain([40, 128]).collect();
    let mut turn = 0;
    for inputs in [1, 7, 255, 256, 257, 1000, 1300] {
        for (batch, &outputs) in batches.iter().flat_map(|batch| outputs.iter().map(move |outputs| (*batch, outputs))) {
            let shape = DenseShape { inputs, outputs };
            let (weight, bias) = (0..inputs * outputs, inputs * outputs..(inputs + 1) * outputs);
            let layer = DenseWork { shape, weight: weight.clone(), bias: bias.clone() };
            turn += 1;
            let given = Given::new(turn, &[batch], [weight.len(), outputs, inputs, outputs]);
            let want = plain::dense(shape, &given.rows, &given.params, &given.input, &given.d_output);
            given.check(&layer, &want, &|| format!("{shape:?} x {batch}"));
            given.check_roughly(&GemmDense { shape, weight, bias }, &want, &|| format!("gemm {shape:?} x {batch}"));
        }
    }
}

#[test]
fn shards_of_any_sizes_are_summed_in_the_tree_by_every_instruction_set() {
    for rows in [&[2; 8][..], &[3, 0, 1, 5, 2], &[1; 13], &[0, 0, 4, 4, 0, 1, 9], &[0, 7, 0], &[1; 64], &[16, 48]] {
        for (inputs, outputs) in [(1, 1), (7, 5), (30, 8), (13, 17), (257, 40)] {
            let shape = DenseShape { inputs, outputs };
            let (weight, bias) = (0..inputs * outputs, inputs * outputs..(inputs + 1) * outputs);
            let given = Given::new(5, rows, [weight.len(), outputs, inputs, outputs]);
            let want = plain::dense(shape, rows, &given.params, &given.input, &given.d_output);
            given.check(&DenseWork { shape, weight, bias }, &want, &|| format!("{shape:?}, shards {rows:?}"));
        }
    }
}
