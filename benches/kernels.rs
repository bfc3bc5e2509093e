//! Every kernel on the shapes of the networks, on every instruction set that this processor has: `cargo bench --bench
//! kernels`, with a word behind `--` to pick some. An item is one floating-point operation.
//!
//! At its start the largest difference from scalar is printed for each operation and shape; one that is not zero in bits
//! ends the program: figures of kernels that disagree mean nothing.

use std::fmt::{self, Display, Formatter};

use divan::Bencher;
use divan::counter::ItemsCount;
use glasses::kernels::conv::{self, ConvBlock, Frame};
use glasses::kernels::rng::{Purpose, Stream};
use glasses::kernels::{self, Buffer, ConvShape, DenseShape, Isa, Leaf, Padding, Rectifier, Window, zeros};

fn main() {
    for shape in CONVOLUTIONS {
        compare(&format!("conv {shape}"), |work| Convolution::new(shape).run(work));
    }
    for shape in DEPTHWISE {
        compare(&format!("depthwise {shape}"), |work| ByItself::new(shape).run(work));
    }
    for shape in DENSE {
        compare(&format!("dense {shape}"), |work| Dense::new(shape).run(work));
    }
    divan::main();
}

/// The three passes.
#[derive(Clone, Copy, Debug)]
enum Work {
    Forward,
    BackwardData,
    BackwardWeights,
}

/// Prints how far each instruction set is from scalar.
///
/// # Panics
/// When it is not the same, bit for bit.
fn compare(what: &str, run: impl Fn(Work) -> Vec<f32>) {
    for work in [Work::Forward, Work::BackwardData, Work::BackwardWeights] {
        let scalar = Isa::Scalar.with(|| run(work));
        let (mut residual, mut same) = (0.0f32, true);
        for isa in Isa::available() {
            let got = isa.with(|| run(work));
            residual = got.iter().zip(&scalar).map(|(a, b)| (a - b).abs()).fold(residual, f32::max);
            same &= got.iter().zip(&scalar).all(|(a, b)| a.to_bits() == b.to_bits());
        }
        println!("{what}, {work:?}: largest residual against scalar {residual}");
        assert!(same, "{what}, {work:?}: instruction sets disagree");
    }
}

/// Normal numbers.
fn numbers(seed: u64, len: usize, deviation: f64) -> Buffer {
    let mut values = zeros(len);
    Stream::new(seed, Purpose::Synth, 0, 0, 0).fill_normal(&mut values, deviation);
    values
}

/// A shape on an instruction set.
#[derive(Clone, Copy)]
struct On<T>(Isa, T);

impl<T: Display> Display for On<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.1, self.0.name())
    }
}

fn on_each<T: Copy>(shapes: &[T]) -> Vec<On<T>> {
    shapes.iter().flat_map(|shape| Isa::available().map(|isa| On(isa, *shape))).collect()
}

/// `k`×`k`, from → to channels, at size×size, stride.
#[derive(Clone, Copy)]
struct Conv(usize, usize, usize, usize, usize);

const CONVOLUTIONS: [Conv; 8] = [
    Conv(5, 3, 16, 80, 1),
    Conv(3, 16, 16, 80, 1),
    Conv(3, 16, 32, 80, 1),
    Conv(3, 32, 64, 40, 1),
    Conv(3, 64, 128, 20, 1),
    Conv(1, 64, 128, 20, 1),
    Conv(3, 32, 64, 40, 2),
    Conv(7, 3, 64, 224, 2),
];

impl Display for Conv {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Conv(k, from, to, size, stride) = self;
        write!(f, "{k}x{k} {from}->{to} at {size}x{size} stride {stride}")
    }
}

/// One image, its tensors in the frames that the kernels want.
struct Convolution {
    block: ConvBlock,
    frame: Frame,
    packed: [Buffer; 2],
    input: Buffer,
    d_conv: Buffer,
    output: Buffer,
    d_input: Buffer,
    d_params: [Buffer; 2],
    scratch: Buffer,
}

impl Convolution {
    fn new(Conv(k, c_in, c_out, size, stride): Conv) -> Convolution {
        let window = Window { kh: k, kw: k, stride, dilation: 1, padding: Padding::Same };
        let shape = ConvShape::new([size, size, c_in], window, c_out).expect("a shape that fits");
        let block = ConvBlock { rectifier: Some(Rectifier::Relu), ..ConvBlock::new(shape) };
        let block = ConvBlock { input: block.padded_input(), ..block };
        let (weight, bias) = (numbers(1, shape.weight_len(), 0.05), numbers(2, c_out, 0.1));
        let mut packed = [zeros(conv::forward_packed_len(&block)), zeros(conv::backward_packed_len(&block))];
        conv::pack_forward(&block, &weight, &bias, &mut packed[0]);
        conv::pack_backward(&block, &weight, &mut packed[1]);
        let framed = |frame: &Frame, seed| {
            let mut values = numbers(seed, frame.len(), 1.0);
            (0..frame.h).for_each(|y| frame.clear_border(y, &mut values));
            values
        };
        let frame = conv::padded_d_conv(&shape);
        let backward = conv::backward_scratch(&block).max(conv::weights_scratch(&block));
        let scratch = conv::forward_scratch(&block).max(backward);
        Convolution {
            input: framed(&block.input, 3),
            d_conv: framed(&frame, 4),
            output: zeros(block.output.len()),
            d_input: zeros(block.d_input.len()),
            d_params: [zeros(weight.len()), zeros(c_out)],
            scratch: zeros(scratch),
            block,
            frame,
            packed,
        }
    }

    fn flop(&self) -> usize {
        2 * self.block.shape.h_out * self.block.shape.w_out * self.block.shape.weight_len()
    }

    fn pass(&mut self, work: Work) {
        let Convolution { block, frame, packed, input, d_conv, output, d_input, d_params, scratch } = self;
        match work {
            Work::Forward => conv::conv2d_forward(block, input, &packed[0], output, &mut [], scratch),
            Work::BackwardData => conv::conv2d_backward_data(block, frame, d_conv, &packed[1], input, d_input, scratch),
            Work::BackwardWeights => {
                let [d_weight, d_bias] = d_params;
                conv::conv2d_backward_weights(block, input, frame, d_conv, d_weight, d_bias, scratch);
            }
        }
    }

    fn run(mut self, work: Work) -> Vec<f32> {
        self.pass(work);
        let [d_weight, d_bias] = &self.d_params;
        [&self.output[..], &self.d_input, d_weight, d_bias].concat()
    }
}

/// `k`×`k`, channels that go by themselves, at size×size, stride.
#[derive(Clone, Copy)]
struct Depthwise(usize, usize, usize, usize);

const DEPTHWISE: [Depthwise; 6] = [
    Depthwise(3, 96, 32, 1),
    Depthwise(3, 96, 32, 2),
    Depthwise(3, 144, 56, 1),
    Depthwise(3, 144, 56, 2),
    Depthwise(3, 960, 7, 1),
    Depthwise(5, 480, 14, 1),
];

impl Display for Depthwise {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Depthwise(k, channels, size, stride) = self;
        write!(f, "{k}x{k} {channels} at {size}x{size} stride {stride}")
    }
}

/// One image and its tensors.
struct ByItself {
    shape: ConvShape,
    params: [Buffer; 2],
    input: Buffer,
    d_output: Buffer,
    output: Buffer,
    d_input: Buffer,
    d_params: [Buffer; 2],
    scratch: Buffer,
}

impl ByItself {
    fn new(Depthwise(k, channels, size, stride): Depthwise) -> ByItself {
        let window = Window { kh: k, kw: k, stride, dilation: 1, padding: Padding::Pixels(k / 2) };
        let shape = ConvShape::new([size, size, channels], window, channels).and_then(|shape| shape.grouped(channels));
        let shape = shape.expect("a shape that fits");
        ByItself {
            params: [numbers(1, shape.weight_len(), 0.3), numbers(2, channels, 0.1)],
            input: numbers(3, shape.input_len(), 1.0),
            d_output: numbers(4, shape.output_len(), 1.0),
            output: zeros(shape.output_len()),
            d_input: zeros(shape.input_len()),
            d_params: [zeros(shape.weight_len()), zeros(channels)],
            scratch: zeros(conv::depthwise_scratch(&shape)),
            shape,
        }
    }

    fn flop(&self) -> usize {
        2 * self.shape.h_out * self.shape.w_out * self.shape.weight_len()
    }

    fn pass(&mut self, work: Work) {
        let ByItself { shape, params: [weight, bias], input, d_output, output, d_input, d_params, scratch } = self;
        match work {
            Work::Forward => conv::depthwise_forward(shape, input, weight, bias, output, scratch),
            Work::BackwardData => conv::depthwise_backward_data(shape, d_output, weight, d_input, scratch),
            Work::BackwardWeights => {
                let [d_weight, d_bias] = d_params;
                conv::depthwise_backward_weights(shape, input, d_output, d_weight, d_bias, scratch);
            }
        }
    }

    fn run(mut self, work: Work) -> Vec<f32> {
        self.pass(work);
        let [d_weight, d_bias] = &self.d_params;
        [&self.output[..], &self.d_input, d_weight, d_bias].concat()
    }
}

/// Inputs, outputs, rows.
#[derive(Clone, Copy)]
struct Matrix(usize, usize, usize);

const DENSE: [Matrix; 3] = [Matrix(51200, 128, 1), Matrix(51200, 128, 16), Matrix(51200, 128, 64)];

impl Display for Matrix {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} batch {}", self.0, self.1, self.2)
    }
}

/// A dense layer and its tensors.
struct Dense {
    shape: DenseShape,
    batch: usize,
    weight: Buffer,
    bias: Buffer,
    input: Buffer,
    d_output: Buffer,
    output: Buffer,
    d_input: Buffer,
    d_params: [Buffer; 2],
    scratch: Buffer,
}

impl Dense {
    fn new(Matrix(inputs, outputs, batch): Matrix) -> Dense {
        let shape = DenseShape { inputs, outputs };
        Dense {
            shape,
            batch,
            weight: numbers(1, inputs * outputs, 0.01),
            bias: numbers(2, outputs, 0.1),
            input: numbers(3, batch * inputs, 1.0),
            d_output: numbers(4, batch * outputs, 1.0),
            output: zeros(batch * outputs),
            d_input: zeros(batch * inputs),
            d_params: [zeros(inputs * outputs), zeros(outputs)],
            scratch: zeros(kernels::dense_scratch(shape, batch)),
        }
    }

    fn flop(&self) -> usize {
        2 * self.weight.len() * self.batch
    }

    fn pass(&mut self, work: Work) {
        let Dense { shape, batch, weight, bias, input, d_output, output, d_input, d_params, scratch } = self;
        let (shape, batch) = (*shape, *batch);
        match work {
            Work::Forward => kernels::dense_forward(shape, batch, input, weight, bias, output, scratch),
            Work::BackwardData => kernels::dense_backward_data(shape, batch, d_output, weight, d_input, scratch),
            Work::BackwardWeights => {
                let ([d_weight, d_bias], leaves) = (d_params, [Leaf { end: batch, merges: 0 }]);
                kernels::dense_backward_weights(shape, &leaves, input, d_output, d_weight, d_bias, false, scratch);
            }
        }
    }

    fn run(mut self, work: Work) -> Vec<f32> {
        self.pass(work);
        let [d_weight, d_bias] = &self.d_params;
        [&self.output[..], &self.d_input, d_weight, d_bias].concat()
    }
}

fn convolution(bencher: Bencher<'_, '_>, On(isa, shape): On<Conv>, work: Work) {
    // Weights are packed by the instruction set that reads them.
    let mut convolution = isa.with(|| Convolution::new(shape));
    let flop = convolution.flop();
    isa.with(|| bencher.counter(ItemsCount::new(flop)).bench_local(|| convolution.pass(work)));
}

fn dense(bencher: Bencher<'_, '_>, On(isa, shape): On<Matrix>, work: Work) {
    let mut dense = Dense::new(shape);
    let flop = dense.flop();
    isa.with(|| bencher.counter(ItemsCount::new(flop)).bench_local(|| dense.pass(work)));
}

#[divan::bench(args = on_each(&CONVOLUTIONS))]
fn conv_forward(bencher: Bencher<'_, '_>, case: On<Conv>) {
    convolution(bencher, case, Work::Forward);
}

#[divan::bench(args = on_each(&CONVOLUTIONS))]
fn conv_backward_data(bencher: Bencher<'_, '_>, case: On<Conv>) {
    convolution(bencher, case, Work::BackwardData);
}

#[divan::bench(args = on_each(&CONVOLUTIONS))]
fn conv_backward_weights(bencher: Bencher<'_, '_>, case: On<Conv>) {
    convolution(bencher, case, Work::BackwardWeights);
}

fn depthwise(bencher: Bencher<'_, '_>, On(isa, shape): On<Depthwise>, work: Work) {
    let mut depthwise = ByItself::new(shape);
    let flop = depthwise.flop();
    isa.with(|| bencher.counter(ItemsCount::new(flop)).bench_local(|| depthwise.pass(work)));
}

#[divan::bench(args = on_each(&DEPTHWISE))]
fn depthwise_forward(bencher: Bencher<'_, '_>, case: On<Depthwise>) {
    depthwise(bencher, case, Work::Forward);
}

#[divan::bench(args = on_each(&DEPTHWISE))]
fn depthwise_backward_data(bencher: Bencher<'_, '_>, case: On<Depthwise>) {
    depthwise(bencher, case, Work::BackwardData);
}

#[divan::bench(args = on_each(&DEPTHWISE))]
fn depthwise_backward_weights(bencher: Bencher<'_, '_>, case: On<Depthwise>) {
    depthwise(bencher, case, Work::BackwardWeights);
}

#[divan::bench(args = on_each(&DENSE))]
fn dense_forward(bencher: Bencher<'_, '_>, case: On<Matrix>) {
    dense(bencher, case, Work::Forward);
}

#[divan::bench(args = on_each(&DENSE))]
fn dense_backward_data(bencher: Bencher<'_, '_>, case: On<Matrix>) {
    dense(bencher, case, Work::BackwardData);
}

#[divan::bench(args = on_each(&DENSE))]
fn dense_backward_weights(bencher: Bencher<'_, '_>, case: On<Matrix>) {
    dense(bencher, case, Work::BackwardWeights);
}
