//! Where the time of a pass goes, layer by layer: for `glasses bench`. In training it is off and costs a branch a layer.

use std::ops::Range;
use std::time::Instant;

use super::layers::{Backward, Layer};
use super::{Model, Workspace};

/// Seconds, a part of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// The forward pass.
    pub forward: f64,
    /// The gradient of the input; 0 where nothing below wants it.
    pub backward_data: f64,
    /// The gradients of the weights; 0 where there are none.
    pub backward_weights: f64,
}

impl Times {
    /// All parts together.
    pub fn sum(&self) -> f64 {
        self.forward + self.backward_data + self.backward_weights
    }
}

/// Neighbouring layers that run as one (a convolution with its rectifier and its pool), and the time they took.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTimes {
    /// Places in [`Model::layers`].
    pub layers: Range<usize>,
    /// Floating-point operations of a forward pass of one row, and of each part of the backward pass.
    pub flops: u64,
    /// What was measured.
    pub times: Times,
}

/// A stopwatch a step of the plan; empty where nobody asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile(Vec<Times>);

impl Profile {
    /// Does `work`, and adds what it took to `part` of step `step`.
    #[inline]
    pub fn time(&mut self, step: usize, part: fn(&mut Times) -> &mut f64, work: impl FnOnce()) {
        if self.0.is_empty() {
            return work();
        }
        let start = Instant::now();
        work();
        *part(&mut self.0[step]) += start.elapsed().as_secs_f64();
    }

    /// Where the times of step `step` are added up, if somebody asked.
    pub fn of_step(&mut self, step: usize) -> Option<&mut Times> {
        self.0.get_mut(step)
    }

    /// A layer's way back; where somebody asked, its two parts one after the other.
    pub fn backward(&mut self, step: usize, layer: &dyn Layer, mut pass: Backward<'_>) {
        if self.0.is_empty() {
            return layer.backward(pass);
        }
        if layer.has_weights() {
            let d_params = pass.d_params.as_deref_mut();
            let weights = Backward { d_input: None, d_params, scratch: &mut *pass.scratch, ..pass };
            self.time(step, |times| &mut times.backward_weights, || layer.backward(weights));
        }
        if pass.d_input.is_some() {
            let data = Backward { d_params: None, ..pass };
            self.time(step, |times| &mut times.backward_data, || layer.backward(data));
        }
    }
}

impl Model {
    /// From now on, passes in `ws` are timed layer by layer; what was measured before is forgotten. So that they can be
    /// told apart, the two parts of a layer's backward pass run one after the other, and each prepares the gradient that
    /// it reads.
    pub fn start_profile(&self, ws: &mut Workspace) {
        ws.profile.0.clear();
        ws.profile.0.resize(self.plan.steps.len(), Times::default());
    }

    /// What was measured since [`Model::start_profile`].
    pub fn profile(&self, ws: &Workspace) -> Vec<LayerTimes> {
        let mut found: Vec<LayerTimes> = Vec::new();
        for (&layer, times) in self.plan.layer_of.iter().zip(&ws.profile.0) {
            if found.last().is_none_or(|last| last.layers.start != layer) {
                if let Some(last) = found.last_mut() {
                    last.layers.end = layer;
                }
                let flops = self.plan.layers[layer].flops;
                let layers = layer..self.plan.layers.len();
                found.push(LayerTimes { layers, flops, times: Times::default() });
            }
            if let Some(LayerTimes { times: sum, .. }) = found.last_mut() {
                sum.forward += times.forward;
                sum.backward_data += times.backward_data;
                sum.backward_weights += times.backward_weights;
            }
        }
        found
    }
}
