//! Every backward pass against central differences of its own forward pass, the loss in f64.

use glasses::kernels::{self, Score};

use glasses::kernels::rng::{Purpose, Stream, TrainingPass};
use glasses::model::Engine;
use glasses::model::{Gradients, Init, Model, ModelSpec, Param, Params, Workspace, zoo};

const TRAINING: TrainingPass = TrainingPass { seed: 5, epoch: 2 };

pub fn model(layers: &[&str], input: [usize; 3], flat: bool) -> Model {
    let spec = ModelSpec::chain("test", layers.iter().map(|layer| layer.parse().unwrap()));
    Model::new(spec, input, flat, 3, Engine::Direct).unwrap()
}

fn loss(model: &Model, params: &Params, ws: &mut Workspace) -> f64 {
    model.forward(params, ws, Some(TRAINING));
    kernels::softmax_cross_entropy(model.classes, ws.logits(), &ws.labels, None, Score::default()).loss_sum
}

/// Compares up to 40 weights of every tensor with the slope of the loss. Where the two one-sided slopes differ, a kink
/// (of a relu, of a maximum) lies between the points, and there is nothing to compare with; most weights must remain.
pub fn check(model: &Model, params: &mut Params, batch: usize, tolerance: f64) {
    let mut ws = Workspace::for_training(model, batch, 1);
    ws.batch = batch;
    ws.rows.extend((0..batch as u32).map(|n| 10 + n));
    ws.labels.extend((0..batch as u32).map(|n| n % 3));
    Stream::new(9, Purpose::Synth, 0, 0, 0).fill_normal(ws.input_mut(), 1.0);
    // Biases away from zero, so that their gradients matter.
    for param in params.table.clone().iter().filter(|p| p.name.ends_with("bias")) {
        Stream::new(9, Purpose::Synth, 1, 0, 0).fill_normal(&mut params.values[param.range.clone()], 0.1);
    }
    let mut gradients = Gradients::zeros(model.parameters());
    gradients.start();
    let here = loss(model, params, &mut ws);
    model.backward(params, &mut ws, TRAINING, &mut gradients);
    for param in Param::weights(&model.table) {
        let step = (param.range.len() / 40).max(1);
        let (mut checked, mut kinks) = (0, 0);
        for i in param.range.clone().step_by(step) {
            let (value, eps) = (params.values[i], 5e-4f32);
            params.values[i] = value + eps;
            let above = loss(model, params, &mut ws);
            params.values[i] = value - eps;
            let below = loss(model, params, &mut ws);
            params.values[i] = value;
            let (right, left) = ((above - here) / f64::from(eps), (here - below) / f64::from(eps));
            let (slope, got) = ((right + left) / 2.0, f64::from(gradients.values[i]));
            if (right - left).abs() > 5.0 * tolerance * slope.abs().max(1.0) {
                kinks += 1;
                continue;
            }
            assert!(
                (got - slope).abs() <= 5.0 * tolerance * slope.abs().max(1.0),
                "{} of {:?}: {}[{}]: backward {got}, slope {slope}",
                model.spec.name,
                model.layers().iter().map(|layer| &layer.layer).collect::<Vec<_>>(),
                param.name,
                i - param.range.start
            );
            checked += 1;
        }
        assert!(checked > kinks, "{}: {kinks} kinks, {checked} checked", param.name);
    }
}

#[test]
fn every_layer_s_backward_pass_is_the_slope_of_its_forward_pass() {
    let tail = ["flatten", "dense classes"];
    for layers in [
        &["conv 3x3x4"][..],
        &["conv 3x3x4 stride 2", "conv 4x3x2 stride 2 pad 1"],
        &["conv 3x3x4", "relu", "conv 4x3x3 stride 65535"],
        &["conv 1x1x5", "relu", "conv 2x2x3"],
        &["conv 3x3x4 pad 0", "leaky_relu", "maxpool 2 stride 1", "conv 3x3x2"],
        &["conv 3x3x4", "sigmoid", "avgpool 3 stride 2 pad 1", "conv 3x3x2", "tanh"],
        &["conv 3x3x4", "maxpool 3 stride 2 pad 1", "relu", "dropout 0.4", "conv 3x3x3"],
        &["conv 5x5x4", "tanh", "global_avgpool"],
        &["conv 3x3x4 stride 4", "relu6", "conv 1x1x3"],
        &["conv 3x3x8 groups 2", "relu", "maxpool 2", "conv 3x3x4 dilation 2 bias no", "tanh", "conv 2x3x6 groups 2"],
        &[
            "conv 1x1x9",
            "tanh",
            "depthwise 3x3 stride 2",
            "relu6",
            "conv 1x1x4 bias no",
            "depthwise 3x3 x 2 dilation 2 bias no",
        ],
        &["conv 3x3x4", "silu", "conv 3x3x3", "gelu", "global_maxpool"],
        &["conv 3x3x4", "gelu tanh", "conv 3x3x3 stride 2", "hard_swish", "avgpool 2", "hard_sigmoid"],
        &["conv 3x3x4", "group_norm 2", "tanh", "adaptive_avgpool 4x3", "conv 3x3x8", "layer_norm eps 0.1"],
        &[
            "conv 3x3x6",
            "drop_path 0.4",
            "layer_norm eps 1e-3",
            "conv 3x3x4",
            "group_norm 2 eps 0.1",
            "adaptive_avgpool 8",
        ],
        &["conv 3x3x6", "flatten", "dense 9", "layer_norm", "silu", "drop_path 0.2"],
        &["maxpool 3 stride 2", "conv 3x3x4", "leaky_relu 0.3", "flatten", "dense 7", "sigmoid", "dropout 0.2"],
    ] {
        let layers = [layers, &tail].concat();
        let model = model(&layers, [7, 9, 2], false);
        for init in [Init::He, Init::Xavier] {
            let mut params = Params::initial(model.table.clone(), init, 11);
            check(&model, &mut params, 5, 1e-3);
        }
    }
}

#[test]
fn dense_layers_agree_with_differences_for_few_rows_and_for_many() {
    for batch in [1, 2, 4, 5, 9] {
        let model = model(&["dense 17", "tanh", "dense 5", "tanh", "dense classes"], [1, 1, 19], true);
        let mut params = Params::initial(model.table.clone(), Init::He, 11);
        check(&model, &mut params, batch, 1e-3);
    }
}

#[test]
fn every_network_of_the_zoo_agrees_with_differences() {
    // Norms over three rows of a deep network bend the loss too much: tests/it/batch_norm.rs has shallower ones.
    let has_norms = |name: &&str| {
        Model::new(zoo::find(name).unwrap(), [32, 32, 3], false, 3, Engine::Direct).is_ok_and(|model| model.has_norms())
    };
    for name in zoo::names().filter(|name| !has_norms(name)) {
        let spec = zoo::find(name).unwrap();
        let (input, flat) = if name == "spiral" { ([1, 1, 2], true) } else { ([12, 8, 3], false) };
        let model = Model::new(spec, input, flat, 3, Engine::Direct).unwrap();
        let mut params = Params::initial(model.table.clone(), Init::He, 4);
        check(&model, &mut params, 3, 4e-3);
    }
}

#[test]
fn the_sum_over_a_batch_is_the_sum_over_its_micro_batches() {
    let model = model(
        &["conv 3x3x4", "relu", "maxpool 2", "flatten", "dense 8", "dropout 0.5", "dense classes"],
        [8, 8, 3],
        false,
    );
    let params = Params::initial(model.table.clone(), Init::He, 4);
    let mut pixels = vec![0.0; 12 * 192];
    Stream::new(9, Purpose::Synth, 0, 0, 0).fill_normal(&mut pixels, 1.0);
    let sum = |micro: usize| {
        let mut ws = Workspace::for_training(&model, micro, 1);
        let mut gradients = Gradients::zeros(model.parameters());
        gradients.start();
        for first in (0..12).step_by(micro) {
            ws.batch = micro.min(12 - first);
            ws.rows = (first as u32..(first + ws.batch) as u32).collect();
            ws.labels = ws.rows.iter().map(|row| row % 3).collect();
            let values = first * 192..(first + ws.batch) * 192;
            ws.input_mut().copy_from_slice(&pixels[values]);
            model.forward(&params, &mut ws, Some(TRAINING));
            model.backward(&params, &mut ws, TRAINING, &mut gradients);
        }
        gradients
    };
    let whole = sum(12);
    for micro in [1, 4, 5, 7] {
        let parts = sum(micro);
        // Gradients and losses go on from part to part in one chain.
        let bits = |sum: &Gradients| sum.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&parts), bits(&whole), "micro-batches of {micro}");
        assert_eq!(parts.score.loss_sum.to_bits(), whole.score.loss_sum.to_bits(), "micro-batches of {micro}");
    }
}
