//! Maps of what a network looks at: how much each place of a picture speaks for a class.
//!
//! What is explained is the log odds of the class, its logit less the log of the sum of the others' exponentials; with
//! two classes that is the difference of the two logits.

use super::forward::channels;
use super::gradients::Target;
use super::graph::TensorId;
use super::ops::work::{Backward, Between, Pass, Work};
use super::program::Program;
use super::{Model, Params, Workspace};
use crate::kernels::{Buffer, Leaf, add, scale_backward_factors, scale_backward_map, take_channels, zeros};
use crate::position;

/// How a map is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Activation times gradient of the last layer that still is an image, summed over its channels (HiResCAM, Draelos &
    /// Carin 2020). Where only dense layers with rectifiers follow, that is what each place adds to the log odds: the sum
    /// over the map is the log odds less what the biases add.
    Gradient,
    /// The same with each channel's gradient averaged over the image first (Grad-CAM, Selvaraju et al. 2017). It forgets
    /// where a dense layer behind `flatten` looks; for comparisons.
    AveragedGradient,
    /// How far the log odds fall when a patch is painted over with the picture's mean. Slow, and fits every network.
    Occlusion,
}

/// How much each place speaks for the class: positive for, negative against.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// How it was made.
    pub method: Method,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// `[h, w]`.
    pub values: Vec<f32>,
}

/// A patch's side is the picture's over this; patches overlap by half.
const PATCHES: usize = 8;

impl Model {
    /// What in the prepared picture `input [h, w, c]` speaks for `class`, by the gradient where the network has an image
    /// to look at, by occlusion where it has not (dense layers alone).
    pub fn explain(&self, params: &Params, ws: &mut Workspace, input: &[f32], class: usize) -> Evidence {
        let method = if self.program.looks_at().is_some() { Method::Gradient } else { Method::Occlusion };
        self.explain_by(method, params, ws, input, class)
    }

    /// As [`Model::explain`], by `method` (which, where the network has no image to look at, can only be occlusion).
    ///
    /// # Panics
    /// When `input` is not a row of the network, or `class` not one of its classes.
    pub fn explain_by(
        &self,
        method: Method,
        params: &Params,
        ws: &mut Workspace,
        input: &[f32],
        class: usize,
    ) -> Evidence {
        assert!(class < self.classes, "class {class} of {}", self.classes);
        match (method, self.program.looks_at()) {
            (Method::Occlusion, _) | (_, None) => self.occlusion(params, ws, input, class),
            (_, Some(target)) => self.gradient(method, target, params, ws, input, class),
        }
    }

    fn run(&self, params: &Params, ws: &mut Workspace, rows: usize, input: &[f32]) {
        ws.batch = rows;
        ws.input_mut().copy_from_slice(input);
        self.forward(params, ws, None);
    }

    fn gradient(
        &self,
        method: Method,
        (target, [h, w, c]): (usize, [usize; 3]),
        params: &Params,
        ws: &mut Workspace,
        input: &[f32],
        class: usize,
    ) -> Evidence {
        // One picture at a time: then every buffer holds its values, also of those that take turns.
        self.run(params, ws, 1, input);
        let gradient = self.gradient_at(target, params, ws, class);
        let activation = &ws.values.read[target][..h * w * c];
        let mut values = vec![0.0; h * w];
        let places = values.iter_mut().zip(activation.chunks_exact(c));
        if method == Method::Gradient {
            for ((value, activation), gradient) in places.zip(gradient.chunks_exact(c)) {
                *value = activation.iter().zip(gradient).map(|(a, g)| a * g).sum();
            }
        } else {
            let mean = |channel: usize| gradient[channel..h * w * c].iter().step_by(c).sum::<f32>() / (h * w) as f32;
            let weights: Vec<f32> = (0..c).map(mean).collect();
            for (value, activation) in places {
                *value = activation.iter().zip(&weights).map(|(a, g)| a * g).sum();
            }
        }
        Evidence { method, h, w, values }
    }

    /// The gradient of the log odds of `class`, of the picture that has just gone forward, at tensor `target`.
    fn gradient_at(&self, target: TensorId, params: &Params, ws: &mut Workspace, class: usize) -> Buffer {
        let program = &self.program;
        let of = |tensor: TensorId| zeros(program.rows[tensor].gradients);
        let mut gradients: Vec<Option<Buffer>> = (0..program.rows.len()).map(|_| None).collect();
        let mut logits = of(program.output);
        gradient_of_log_odds(&ws.values.read[program.output][..self.classes], class, &mut logits);
        gradients[program.output] = Some(logits);
        let leads = program.leads_from(target);
        for step in program.steps.iter().rev().filter(|step| leads[step.output] && step.output != target) {
            position::tick();
            let Some(mut d_output) = gradients[step.output].take() else { continue };
            let value = |tensor: TensorId| &ws.values.read[tensor][..program.rows[tensor].values];
            match &step.work {
                Work::Map(map) => {
                    let mut d_input = of(step.inputs[0]);
                    map.backward(Backward {
                        batch: 1,
                        leaves: &[Leaf { end: 1, merges: 0 }],
                        params: &params.values,
                        packed: &ws.packed[step.packed.clone()],
                        input: value(step.inputs[0]),
                        output: value(step.output),
                        kept: &[],
                        d_output: &d_output,
                        d_input: Some(&mut d_input),
                        d_params: None,
                        accumulate: false,
                        scratch: &mut ws.scratch,
                        between: Between::default(),
                    });
                    bring(&mut gradients[step.inputs[0]], d_input);
                }
                Work::Elementwise(work) => {
                    work.backward(Pass { batch: 1, training: None }, value(step.output), &mut d_output);
                    for &input in step.inputs.iter().filter(|input| leads[**input]) {
                        bring(&mut gradients[input], d_output.clone());
                    }
                }
                Work::Concat(counts) => {
                    for (channels, &input) in channels(counts).zip(&step.inputs).filter(|(_, input)| leads[**input]) {
                        let mut d_input = of(input);
                        take_channels(channels, &d_output, &mut d_input);
                        bring(&mut gradients[input], d_input);
                    }
                }
                Work::Normalize(norm) => {
                    norm.backward_used(&ws.packed[step.packed.clone()], value(step.output), &mut d_output);
                    bring(&mut gradients[step.inputs[0]], d_output);
                }
                Work::Statistics(_) => bring(&mut gradients[step.inputs[0]], d_output),
                Work::Scale(channels) => {
                    let (map, factors) = (value(step.inputs[0]), value(step.inputs[1]));
                    let mut d_inputs = [of(step.inputs[0]), of(step.inputs[1])];
                    scale_backward_map(*channels, factors, &d_output, &mut d_inputs[0], false);
                    scale_backward_factors(*channels, map, &d_output, &mut d_inputs[1], false);
                    for (d_input, &input) in d_inputs.into_iter().zip(&step.inputs).filter(|(_, input)| leads[**input])
                    {
                        bring(&mut gradients[input], d_input);
                    }
                }
                Work::View => {}
            }
        }
        gradients[target].take().unwrap_or_else(|| of(target))
    }

    fn occlusion(&self, params: &Params, ws: &mut Workspace, input: &[f32], class: usize) -> Evidence {
        let [h, w, c] = self.input;
        let (patch_h, patch_w) = (h.div_ceil(PATCHES), w.div_ceil(PATCHES));
        let starts = |side: usize, patch: usize| {
            let steps = (side - patch).div_ceil(patch.div_ceil(2));
            (0..=steps).map(move |step| (step * patch.div_ceil(2)).min(side - patch))
        };
        let corners: Vec<(usize, usize)> =
            starts(h, patch_h).flat_map(|y| starts(w, patch_w).map(move |x| (y, x))).collect();
        let mean: Vec<f32> =
            (0..c).map(|channel| input[channel..].iter().step_by(c).sum::<f32>() / (h * w) as f32).collect();
        self.run(params, ws, 1, input);
        let whole = log_odds(&ws.logits()[..self.classes], class);
        let (mut sums, mut counts) = (vec![0.0f64; h * w], vec![0u32; h * w]);
        for corners in corners.chunks(ws.capacity) {
            let mut rows = input.repeat(corners.len());
            let places =
                |&(y, x): &(usize, usize)| (y..y + patch_h).flat_map(move |y| (x..x + patch_w).map(move |x| y * w + x));
            for (row, corner) in rows.chunks_exact_mut(h * w * c).zip(corners) {
                places(corner).for_each(|place| row[place * c..(place + 1) * c].copy_from_slice(&mean));
            }
            self.run(params, ws, corners.len(), &rows);
            for (logits, corner) in ws.logits().chunks_exact(self.classes).zip(corners) {
                let fall = whole - log_odds(logits, class);
                places(corner).for_each(|place| (sums[place], counts[place]) = (sums[place] + fall, counts[place] + 1));
            }
        }
        let values = sums.iter().zip(&counts).map(|(sum, &count)| (sum / f64::from(count.max(1))) as f32).collect();
        Evidence { method: Method::Occlusion, h, w, values }
    }
}

impl Program {
    /// The last tensor that is an image of more than one place and that every way from the input to the logits goes through, and its
    /// shape; where the gradient can get there from above without what only a training pass keeps.
    fn looks_at(&self) -> Option<(TensorId, [usize; 3])> {
        for (index, step) in self.steps.iter().enumerate().rev() {
            let row = &self.rows[step.output];
            let later = &self.steps[index + 1..];
            let is_overwritten = later.iter().any(|other| other.held.is_some_and(|h| other.inputs[h] == step.output));
            // What stands later reads this tensor, or what stands later too.
            let reads_past =
                |input: &TensorId| *input != step.output && later.iter().all(|writer| writer.output != *input);
            let is_passed = later.iter().flat_map(|other| &other.inputs).any(reads_past);
            match self.image_at(step.output).filter(|_| !is_overwritten && !is_passed) {
                Some([h, w, c]) if row.values == h * w * c && row.gradients == h * w * c => {
                    return Some((step.output, [h, w, c]));
                }
                _ if step.kept() > 0 => return None,
                _ => {}
            }
            // A convolution packs what the input's gradient takes only where training wants it.
            let wants = self.targets(index).is_some_and(|targets| targets[0] != Target::Nowhere);
            if !step.packed.is_empty() && !wants {
                return None;
            }
        }
        None
    }

    /// The image of more than one place that stands in the memory of a tensor.
    fn image_at(&self, tensor: TensorId) -> Option<[usize; 3]> {
        match self.rows[tensor].sizes[..] {
            [h, w, c] if h * w > 1 => Some([h, w, c]),
            _ => {
                let writer = self.steps.iter().find(|step| step.output == tensor)?;
                self.image_at(writer.inputs[writer.held?])
            }
        }
    }

    /// The tensors that depend on `target`, itself among them.
    fn leads_from(&self, target: TensorId) -> Vec<bool> {
        let mut leads = vec![false; self.rows.len()];
        leads[target] = true;
        for step in &self.steps {
            leads[step.output] |= step.inputs.iter().any(|&input| leads[input]);
        }
        leads
    }
}

/// Adds `gradient` to what there is.
fn bring(sum: &mut Option<Buffer>, gradient: Buffer) {
    match sum {
        Some(sum) => add(sum, &gradient),
        None => *sum = Some(gradient),
    }
}

/// The logit of `class` less the log of the sum of the others' exponentials.
fn log_odds(logits: &[f32], class: usize) -> f64 {
    let others = || logits.iter().enumerate().filter(|(other, _)| *other != class).map(|(_, &logit)| f64::from(logit));
    let most = others().fold(f64::NEG_INFINITY, f64::max);
    f64::from(logits[class]) - most - libm::log(others().map(|logit| libm::exp(logit - most)).sum())
}

/// One for the class, and for the others less their share among themselves.
fn gradient_of_log_odds(logits: &[f32], class: usize, gradient: &mut [f32]) {
    let others = |other: usize| other != class;
    let most = (0..logits.len()).filter(|&i| others(i)).map(|i| logits[i]).fold(f32::NEG_INFINITY, f32::max);
    let exp = |i: usize| libm::expf(logits[i] - most);
    let sum: f32 = (0..logits.len()).filter(|&i| others(i)).map(exp).sum();
    for (i, gradient) in gradient[..logits.len()].iter_mut().enumerate() {
        *gradient = if others(i) { -exp(i) / sum } else { 1.0 };
    }
}
