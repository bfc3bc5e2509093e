//! Kernels without a sum of their own (activations, pools, updates) and the sum of squares: whatever the instruction set,
//! whatever the length, the same bits.

use glasses::kernels::{self, Activation, AdamStep, Gated, Isa, Padding, PoolShape, Window};

use crate::kernels::numbers;

/// Below, at and above every width of a vector, and a length that no width divides.
const LENGTHS: [usize; 16] = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 1001];

/// Numbers with all that is awkward among them.
fn awkward(seed: u64, len: usize) -> Vec<f32> {
    let mut values = numbers(seed, len, 2.0);
    let special = [f32::NAN, -0.0, f32::INFINITY, 1e-40, f32::NEG_INFINITY, 88.0, -104.0, f32::MAX];
    for (value, special) in values.iter_mut().skip(2).step_by(11).zip(special.into_iter().cycle()) {
        *value = special;
    }
    values
}

/// Runs `work` on every instruction set, and compares the bits. All NaN are one.
#[track_caller]
fn same_everywhere(what: &str, work: impl Fn() -> Vec<f32>) -> Vec<f32> {
    let bits = |values: &[f32]| -> Vec<u32> {
        values.iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
    };
    let scalar = Isa::Scalar.with(&work);
    for isa in Isa::available() {
        assert_eq!(bits(&isa.with(&work)), bits(&scalar), "{what} on {}", isa.name());
    }
    scalar
}

#[test]
fn activations_give_the_same_bits_on_every_instruction_set() {
    for len in LENGTHS {
        let (values, gradient) = (awkward(1, len), awkward(2, len));
        for activation in [
            Activation::Relu,
            Activation::Relu6,
            Activation::LeakyRelu(0.01),
            Activation::HardSigmoid,
            Activation::Sigmoid,
            Activation::Tanh,
        ] {
            let output = same_everywhere(&format!("{activation:?} of {len}"), || {
                let mut values = values.clone();
                kernels::activation_forward(activation, &mut values);
                values
            });
            same_everywhere(&format!("{activation:?} of {len}, backward"), || {
                let mut gradient = gradient.clone();
                kernels::activation_backward(activation, &output, &mut gradient);
                gradient
            });
        }
    }
}

#[test]
fn gated_functions_give_the_same_bits_on_every_instruction_set() {
    for len in LENGTHS {
        let (values, gradient) = (awkward(3, len), awkward(4, len));
        for function in [Gated::HardSwish, Gated::Silu, Gated::Gelu, Gated::GeluTanh] {
            same_everywhere(&format!("{function:?} of {len}"), || {
                let mut output = vec![0.0; len];
                kernels::gated_forward(function, &values, &mut output);
                output
            });
            same_everywhere(&format!("{function:?} of {len}, backward"), || {
                let mut d_input = vec![0.0; len];
                kernels::gated_backward(function, &values, &gradient, &mut d_input);
                d_input
            });
        }
    }
}

#[test]
fn pools_give_the_same_bits_on_every_instruction_set() {
    for channels in [1, 2, 3, 5, 7, 8, 9, 16, 17, 33] {
        for (k, stride, padding) in
            [(2, 2, Padding::Pixels(0)), (3, 2, Padding::Same), (3, 1, Padding::Pixels(1)), (4, 3, Padding::Same)]
        {
            let window = Window { kh: k, kw: k, stride, dilation: 1, padding };
            let shape = PoolShape::new([8, 6, channels], window).or(PoolShape::new([9, 7, channels], window)).unwrap();
            let input = awkward(3, 2 * shape.input_len());
            let d_output = numbers(4, 2 * shape.output_len(), 1.0);
            let what = format!("{shape:?}");
            let forward = |pool: fn(&PoolShape, usize, &[f32], &mut [f32])| {
                same_everywhere(&what, || {
                    let mut output = vec![f32::NAN; d_output.len()];
                    pool(&shape, 2, &input, &mut output);
                    output
                })
            };
            forward(kernels::maxpool_forward);
            forward(kernels::avgpool_forward);
            same_everywhere(&what, || {
                let mut d_input = vec![f32::NAN; input.len()];
                kernels::maxpool_backward(&shape, 2, &input, &d_output, &mut d_input);
                d_input
            });
            same_everywhere(&what, || {
                let mut d_input = vec![f32::NAN; input.len()];
                kernels::avgpool_backward(&shape, 2, &d_output, &mut d_input);
                d_input
            });
        }
    }
}

#[test]
fn updates_give_the_same_bits_on_every_instruction_set() {
    let step = AdamStep {
        scale: 0.0625,
        lr: 1e-3,
        weight_decay: 0.01,
        decoupled: false,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        bias1: 0.1,
        bias2: 0.001,
    };
    for len in LENGTHS {
        let [params, gradient, mean] = [5, 6, 7].map(|seed| numbers(seed, len, 1.0));
        let square: Vec<f32> = mean.iter().map(|v| v * v).collect();
        let sgd = same_everywhere("sgd", || {
            let mut params = params.clone();
            kernels::sgd_update(&mut params, &gradient, 0.3, 0.1, 0.01);
            params
        });
        // Two roundings, in this order.
        for ((got, param), gradient) in sgd.iter().zip(&params).zip(&gradient) {
            assert_eq!(*got, param.mul_add(0.01, 0.3 * gradient).mul_add(-0.1, *param));
        }
        for nesterov in [false, true] {
            same_everywhere("momentum", || {
                let (mut params, mut velocity) = (params.clone(), mean.clone());
                kernels::momentum_update(&mut params, &mut velocity, &gradient, 0.3, 0.1, 0.01, 0.9, nesterov);
                [params, velocity].concat()
            });
        }
        for decoupled in [false, true] {
            same_everywhere("adam", || {
                let (mut params, mut mean, mut square) = (params.clone(), mean.clone(), square.clone());
                let step = AdamStep { decoupled, ..step };
                kernels::adam_update(&mut params, &mut mean, &mut square, &gradient, step);
                [params, mean, square].concat()
            });
        }
        let values = awkward(8, len);
        same_everywhere("clip_by_value", || {
            let mut values = values.clone();
            kernels::clip_by_value(&mut values, 0.7, 0.5);
            values
        });
        same_everywhere("add", || {
            let mut sum = params.clone();
            kernels::add(&mut sum, &values);
            sum
        });
    }
}

#[test]
fn the_sum_of_squares_has_the_same_bits_on_every_instruction_set() {
    for len in LENGTHS.into_iter().chain([0, 65_535, 65_536, 65_537, 300_001]) {
        let values = numbers(9, len, 1.0);
        let scalar = Isa::Scalar.with(|| kernels::sum_of_squares(&values));
        for isa in Isa::available() {
            let got = isa.with(|| kernels::sum_of_squares(&values));
            assert_eq!(got.to_bits(), scalar.to_bits(), "{len} on {}", isa.name());
        }
        let want: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        assert!((scalar - want).abs() <= 1e-12 * want, "{len}: {scalar} {want}");
    }
}
