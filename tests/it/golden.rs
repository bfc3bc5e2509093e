//! Every layer, the loss, the optimizers and clipping against PyTorch (`tests/golden/layers.h5`; `make_layers.py` beside
//! it made the values in f64).

use std::path::PathBuf;

use glasses::kernels::{self, Leaf};

use glasses::model::Engine;
use glasses::model::layers::{self, Backward, Forward, Layer};
use glasses::model::{Gradients, LayerSpec, Model, ModelSpec, Params, Workspace};
use glasses::optim::{Optimizer, OptimizerKind, Settings};

/// The largest accepted difference, relative to the larger of 1 and the value: f32 sums of up to some thousand terms.
const TOLERANCE: f32 = 2e-5;

#[track_caller]
pub fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{what}[{i}]: got {got}, want {want}");
    }
}

fn golden() -> hdf5::File {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/layers.h5");
    hdf5::File::open(path).unwrap()
}

fn values(group: &hdf5::Group, name: &str) -> Vec<f32> {
    group.dataset(name).unwrap().read_raw().unwrap()
}

fn number<T: hdf5::H5Type>(group: &hdf5::Group, name: &str) -> T {
    group.attr(name).unwrap().read_scalar().unwrap()
}

/// Runs a layer with weights forward and backward, and checks the gradients of its weights.
#[allow(clippy::too_many_arguments)]
fn check_layer_with_weights(
    name: &str,
    layer: &dyn Layer,
    batch: usize,
    params: &[f32],
    input: &[f32],
    d_output: &[f32],
    (output, d_input): (&mut [f32], &mut [f32]),
    d_params: &[f32],
) {
    // A NaN that is read before it is written shows.
    let mut packed = vec![f32::NAN; layer.packed()];
    let mut scratch = vec![f32::NAN; layer.scratch(batch)];
    layer.pack(params, &mut packed);
    layer.forward(Forward { batch, params, packed: &packed, input, output, kept: &mut [], scratch: &mut scratch });
    let mut got = vec![f32::NAN; params.len()];
    for accumulate in [false, true] {
        layer.backward(Backward {
            batch,
            leaves: &[Leaf { end: batch, merges: 0 }],
            params,
            packed: &packed,
            input,
            output,
            kept: &[],
            d_output,
            d_input: Some(d_input),
            d_params: Some(&mut got),
            accumulate,
            between: Default::default(),
            scratch: &mut scratch,
        });
        // Adding to what is there doubles it.
        let want: Vec<f32> = d_params.iter().map(|v| if accumulate { 2.0 * v } else { *v }).collect();
        assert_close(&got, &want, 2.0 * TOLERANCE, &format!("{name} d_weight, d_bias, accumulate {accumulate}"));
    }
}

/// A layer by itself: its kernels are called as the model calls them.
fn check_layer(name: &str, group: &hdf5::Group, engine: Engine) {
    use glasses::kernels::{ConvShape, DenseShape, PoolShape};
    let text: hdf5::types::VarLenUnicode = number(group, "layer");
    let batch: i64 = number(group, "batch");
    let batch = batch as usize;
    let sizes: Vec<i64> = group.attr("input_shape").unwrap().read_raw().unwrap();
    let shape = [sizes[0] as usize, sizes[1] as usize, sizes[2] as usize];
    let [input, output, d_output, d_input] = ["input", "output", "d_output", "d_input"].map(|n| values(group, n));
    let mut got_output = vec![f32::NAN; output.len()];
    let mut got_d_input = vec![f32::NAN; input.len()];
    match text.parse::<LayerSpec>().unwrap() {
        LayerSpec::Conv { window, c_out } => {
            let shape = ConvShape::new(shape, window, c_out).unwrap();
            let (weight, bias) = (values(group, "weight"), values(group, "bias"));
            let (weights, biases) = (0..weight.len(), weight.len()..weight.len() + bias.len());
            let params = [weight, bias].concat();
            let layer: Box<dyn Layer> = match engine {
                Engine::Direct => Box::new(layers::Conv::new(shape, weights, biases, true)),
                Engine::Gemm => Box::new(layers::GemmConv { shape, weight: weights, bias: biases }),
            };
            let (d_weight, d_bias) = (values(group, "d_weight"), values(group, "d_bias"));
            let outputs = (&mut got_output[..], &mut got_d_input[..]);
            check_layer_with_weights(
                name,
                &*layer,
                batch,
                &params,
                &input,
                &d_output,
                outputs,
                &[d_weight, d_bias].concat(),
            );
        }
        LayerSpec::Dense(outputs) => {
            let shape = DenseShape { inputs: shape[2], outputs: outputs.unwrap() };
            let (weight, bias) = (values(group, "weight"), values(group, "bias"));
            let (weights, biases) = (0..weight.len(), weight.len()..weight.len() + bias.len());
            let params = [weight, bias].concat();
            let layer: Box<dyn Layer> = match engine {
                Engine::Direct => Box::new(layers::Dense { shape, weight: weights, bias: biases }),
                Engine::Gemm => Box::new(layers::GemmDense { shape, weight: weights, bias: biases }),
            };
            let (d_weight, d_bias) = (values(group, "d_weight"), values(group, "d_bias"));
            let outputs = (&mut got_output[..], &mut got_d_input[..]);
            check_layer_with_weights(
                name,
                &*layer,
                batch,
                &params,
                &input,
                &d_output,
                outputs,
                &[d_weight, d_bias].concat(),
            );
        }
        LayerSpec::MaxPool(window) => {
            let shape = PoolShape::new(shape, window).unwrap();
            kernels::maxpool_forward(&shape, batch, &input, &mut got_output);
            kernels::maxpool_backward(&shape, batch, &input, &d_output, &mut got_d_input);
        }
        LayerSpec::AvgPool(window) => {
            let shape = PoolShape::new(shape, window).unwrap();
            kernels::avgpool_forward(&shape, batch, &input, &mut got_output);
            kernels::avgpool_backward(&shape, batch, &d_output, &mut got_d_input);
        }
        LayerSpec::GlobalAvgPool => {
            let [kh, kw, _] = shape;
            let padding = kernels::Padding::Pixels(0);
            let shape = PoolShape::new(shape, kernels::Window { kh, kw, stride: 1, padding }).unwrap();
            kernels::avgpool_forward(&shape, batch, &input, &mut got_output);
            kernels::avgpool_backward(&shape, batch, &d_output, &mut got_d_input);
        }
        LayerSpec::Activation(activation) => {
            got_output.copy_from_slice(&input);
            kernels::activation_forward(activation, &mut got_output);
            got_d_input.copy_from_slice(&d_output);
            kernels::activation_backward(activation, &got_output, &mut got_d_input);
        }
        other => panic!("no golden check for {other}"),
    }
    assert_close(&got_output, &output, TOLERANCE, &format!("{name} output"));
    assert_close(&got_d_input, &d_input, TOLERANCE, &format!("{name} d_input"));
}

#[test]
fn every_layer_agrees_with_pytorch_forward_and_backward() {
    let file = golden();
    let mut checked = 0;
    for name in file.member_names().unwrap() {
        if ["loss", "optim", "clip"].contains(&name.as_str()) {
            continue;
        }
        for engine in [Engine::Direct, Engine::Gemm] {
            check_layer(&name, &file.group(&name).unwrap(), engine);
        }
        checked += 1;
    }
    assert!(checked >= 80, "only {checked} cases");
}

#[test]
fn the_loss_agrees_with_pytorch_even_on_huge_logits() {
    let group = golden().group("loss").unwrap();
    let logits = values(&group, "logits");
    let labels: Vec<i64> = group.dataset("labels").unwrap().read_raw().unwrap();
    let labels: Vec<u32> = labels.iter().map(|&l| l as u32).collect();
    let classes = logits.len() / labels.len();
    let mut d_logits = vec![f32::NAN; logits.len()];
    let score =
        kernels::softmax_cross_entropy(classes, &logits, &labels, Some(&mut d_logits), kernels::Score::default());
    let want: f64 = number(&group, "loss_sum");
    assert!((score.loss_sum - want).abs() <= 1e-9 * want, "{} {want}", score.loss_sum);
    assert_eq!(score.correct as i64, number::<i64>(&group, "correct"));
    assert_close(&d_logits, &values(&group, "d_logits"), 1e-6, "d_logits");
}

#[test]
fn five_steps_of_every_optimizer_agree_with_torch_optim() {
    let group = golden().group("optim").unwrap();
    for (name, kind) in [
        ("sgd", OptimizerKind::Sgd),
        ("momentum", OptimizerKind::Momentum),
        ("nesterov", OptimizerKind::Nesterov),
        ("adam", OptimizerKind::Adam),
        ("adamw", OptimizerKind::Adamw),
    ] {
        let group = group.group(name).unwrap();
        let number = |name| number::<f64>(&group, name);
        let settings = Settings {
            kind,
            momentum: number("momentum") as f32,
            weight_decay: number("weight_decay") as f32,
            clip_value: None,
            clip_norm: None,
        };
        let mut params = values(&group, "params");
        let mut optimizer = Optimizer::new(settings, params.len());
        let (gradients, after) = (values(&group, "gradients"), values(&group, "after"));
        for (step, (gradient, want)) in gradients.chunks(64).zip(after.chunks(64)).enumerate() {
            // As it arrives in a run: a sum over 16 rows.
            let mut sum: Vec<f32> = gradient.iter().map(|g| g * 16.0).collect();
            assert!(optimizer.step(&mut params, &mut sum, 16, number("lr") as f32));
            assert_close(&params, want, 1e-6, &format!("{name} step {step}"));
        }
    }
}

#[test]
fn clipping_by_value_and_by_norm_agrees_with_pytorch() {
    let group = golden().group("clip").unwrap();
    // A step of plain descent with rate 1 from zero is the clipped gradient, turned around.
    let clipped = |gradient: &str, clip_value: Option<f32>, clip_norm: Option<f32>| {
        let kind = OptimizerKind::Sgd;
        let settings = Settings { kind, momentum: 0.0, weight_decay: 0.0, clip_value, clip_norm };
        let mut params = vec![0.0; 64];
        let mut sum: Vec<f32> = values(&group, gradient).iter().map(|g| g * 4.0).collect();
        assert!(Optimizer::new(settings, 64).step(&mut params, &mut sum, 4, 1.0));
        params.iter().map(|p| -p).collect::<Vec<_>>()
    };
    assert_close(&clipped("gradient", Some(0.5), None), &values(&group, "by_value"), 1e-6, "by value");
    assert_close(&clipped("gradient", None, Some(1.0)), &values(&group, "by_norm"), 1e-6, "by norm");
    assert_close(&clipped("small", None, Some(1.0)), &values(&group, "small_by_norm"), 1e-6, "below the limit");
}

#[test]
fn chains_of_in_place_layers_give_what_separate_buffers_would() {
    // sigmoid and tanh need their own output in the backward pass, so the plan must not let the next layer overwrite it.
    let layers = ["dense 6", "relu", "sigmoid", "dropout 0.3", "tanh", "leaky_relu", "relu", "dense classes"];
    let spec =
        ModelSpec { name: "chain".into(), input: None, layers: layers.iter().map(|l| l.parse().unwrap()).collect() };
    let model = Model::new(spec, [1, 1, 5], true, 3, Engine::Direct).unwrap();
    let mut params = Params::initial(model.table.clone(), glasses::model::Init::Xavier, 3);
    crate::gradients::check(&model, &mut params, 7, 1e-3);
    let mut ws = Workspace::for_training(&model, 2, 1);
    ws.batch = 2;
    ws.rows.extend([0, 1]);
    ws.labels.extend([0, 2]);
    ws.input_mut().copy_from_slice(&[0.3; 10]);
    let mut gradients = Gradients::zeros(model.parameters());
    model.forward(&params, &mut ws, Some((1, 0)));
    model.backward(&params, &mut ws, (1, 0), &mut gradients);
    assert!(gradients.values.iter().all(|g| g.is_finite()));
}
