//! Every layer, the loss, the optimizers and clipping against PyTorch (`tests/golden/layers.h5`; `make_layers.py` beside
//! it made the values in f64).

use std::path::PathBuf;

use glasses::kernels::{self, Leaf};

use glasses::kernels::rng::TrainingPass;
use glasses::model::Engine;
use glasses::model::ops::work::{Backward, Elements, Forward, Inputs, Map, Pass, Work};
use glasses::model::ops::{Fused, Op, Site};
use glasses::model::{Gradients, Model, ModelSpec, Params, Shape, Workspace};
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

/// What a layer reads, and what PyTorch made of it.
struct Case<'a> {
    name: &'a str,
    batch: usize,
    params: Vec<f32>,
    d_params: Vec<f32>,
    input: Vec<f32>,
    d_output: Vec<f32>,
}

/// Runs an operation forward and backward, and checks the gradients of its weights: output, and gradient of the input.
fn run_map(case: &Case<'_>, map: &dyn Map, [output, d_input]: [&mut [f32]; 2]) {
    let Case { name, batch, params, d_params, input, d_output } = case;
    let batch = *batch;
    // A NaN that is read before it is written shows.
    let mut packed = vec![f32::NAN; map.packed()];
    let mut scratch = vec![f32::NAN; map.scratch(batch)];
    map.pack(params, &mut packed);
    map.forward(Forward { batch, params, packed: &packed, input, output, kept: &mut [], scratch: &mut scratch });
    let mut got = vec![f32::NAN; params.len()];
    for accumulate in [false, true] {
        map.backward(Backward {
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

/// A layer by itself, as the network computes it.
fn check_layer(name: &str, group: &hdf5::Group, engine: Engine) {
    let text: hdf5::types::VarLenUnicode = number(group, "layer");
    let batch: i64 = number(group, "batch");
    let batch = batch as usize;
    let sizes: Vec<i64> = group.attr("input_shape").unwrap().read_raw().unwrap();
    let op: Op = text.parse().unwrap();
    let shape = match op {
        Op::Dense(_) => Shape::vector(sizes[2] as usize),
        _ => Shape::image([sizes[0] as usize, sizes[1] as usize, sizes[2] as usize]),
    };
    let shape_of_output = op.output(&[&shape], 0).unwrap();
    let tensors = op.parameters(&shape, &shape_of_output);
    let all = |prefix: &str| -> Vec<f32> {
        tensors.iter().flat_map(|tensor| values(group, &format!("{prefix}{}", tensor.name))).collect()
    };
    let mut end = 0;
    let ranges: Vec<std::ops::Range<usize>> = tensors
        .iter()
        .map(|tensor| {
            end += tensor.shape.iter().product::<usize>();
            end - tensor.shape.iter().product::<usize>()..end
        })
        .collect();
    let [input, output, d_output, d_input] = ["input", "output", "d_output", "d_input"].map(|n| values(group, n));
    let mut got_output = vec![f32::NAN; output.len()];
    let mut got_d_input = vec![f32::NAN; input.len()];
    let site = Site {
        inputs: &[&shape],
        output: &shape_of_output,
        parameters: &ranges,
        engine,
        number: 0,
        wants_d_input: true,
        fused: Fused::default(),
        input_layout: None,
        output_layout: None,
    };
    match op.work(&site).unwrap() {
        Work::Map(map) => {
            let case = Case { name, batch, params: all(""), d_params: all("d_"), input, d_output };
            run_map(&case, &*map, [&mut got_output, &mut got_d_input]);
        }
        Work::Elementwise(work) => {
            let pass = Pass { batch, training: None };
            got_output.copy_from_slice(&input);
            work.forward(Elements { pass, held: Some(0), inputs: Inputs::none(), output: &mut got_output });
            got_d_input.copy_from_slice(&d_output);
            work.backward(pass, &got_output, &mut got_d_input);
        }
        other => panic!("no golden check for {other:?}"),
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
    let spec = ModelSpec::chain("chain", layers.iter().map(|layer| layer.parse().unwrap()));
    let model = Model::new(spec, [1, 1, 5], true, 3, Engine::Direct).unwrap();
    let mut params = Params::initial(model.table.clone(), glasses::model::Init::Xavier, 3);
    crate::gradients::check(&model, &mut params, 7, 1e-3);
    let mut ws = Workspace::for_training(&model, 2, 1);
    ws.batch = 2;
    ws.rows.extend([0, 1]);
    ws.labels.extend([0, 2]);
    ws.input_mut().copy_from_slice(&[0.3; 10]);
    let mut gradients = Gradients::zeros(model.parameters());
    model.forward(&params, &mut ws, Some(TrainingPass { seed: 1, epoch: 0 }));
    model.backward(&params, &mut ws, TrainingPass { seed: 1, epoch: 0 }, &mut gradients);
    assert!(gradients.values.iter().all(|g| g.is_finite()));
}
