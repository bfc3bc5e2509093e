//! Where the time of a pass goes, layer by layer: added up for `glasses bench`, as a timeline for `--trace`; and that the pass goes
//! on, for the pulse. Where nobody asked, it costs a branch and a store a layer.

use std::cell::Cell;
use std::ops::Range;

use super::layers::{Backward, Between, Layer};
use super::{Model, Workspace};
use crate::position;
use crate::stopwatch::Stopwatch;
use crate::trace::{Mark, Trace, What};

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

    fn part(&mut self, what: What) -> &mut f64 {
        match what {
            What::Forward => &mut self.forward,
            What::BackwardWeights => &mut self.backward_weights,
            _ => &mut self.backward_data,
        }
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

/// The times of each step of the plan, and a timeline; nothing of it where nobody asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Profile {
    times: Vec<Times>,
    trace: Trace,
}

impl Profile {
    /// Does `work`, `what` of step `step`; adds up, or records, what it took.
    #[inline]
    pub fn time(&mut self, step: usize, what: What, work: impl FnOnce()) {
        position::tick();
        if self.times.is_empty() {
            return self.trace.span(what, step, [0; 4], work);
        }
        let mut stopwatch = Stopwatch::start();
        work();
        stopwatch.lap(self.times[step].part(what));
    }

    /// From now on, passes are recorded.
    pub fn record(&mut self, trace: &Trace) {
        self.trace = trace.clone();
    }

    /// Where the times of step `step` are added up, if somebody asked.
    pub fn of_step(&mut self, step: usize) -> Option<&mut Times> {
        self.times.get_mut(step)
    }

    /// A layer's way back; where somebody asked for times, its two parts one after the other.
    pub fn backward(&mut self, step: usize, layer: &dyn Layer, mut pass: Backward<'_>) {
        if self.times.is_empty() {
            position::tick();
            return self.record_backward(step, layer, pass);
        }
        if layer.has_weights() {
            let d_params = pass.d_params.as_deref_mut();
            let weights = Backward { d_input: None, d_params, scratch: &mut *pass.scratch, ..pass };
            self.time(step, What::BackwardWeights, || layer.backward(weights));
        }
        if pass.d_input.is_some() {
            let data = Backward { d_params: None, ..pass };
            self.time(step, What::BackwardData, || layer.backward(data));
        }
    }

    /// A layer's way back as it is, and, where somebody asked, when it was halfway.
    fn record_backward(&self, step: usize, layer: &dyn Layer, pass: Backward<'_>) {
        let start = self.trace.now();
        if !start.is_on() {
            return layer.backward(pass);
        }
        let between = Cell::new(Mark::default());
        let parts = [layer.has_weights(), pass.d_input.is_some()];
        layer.backward(Backward { between: Between(Some(&between)), ..pass });
        let (between, end) = (between.get(), self.trace.now());
        match parts {
            [true, true] if between.is_on() => {
                self.trace.end_at(start, between, What::BackwardWeights, step, [0; 4]);
                self.trace.end_at(between, end, What::BackwardData, step, [0; 4]);
            }
            [true, true] => self.trace.end_at(start, end, What::Backward, step, [0; 4]),
            [true, false] => self.trace.end_at(start, end, What::BackwardWeights, step, [0; 4]),
            _ => self.trace.end_at(start, end, What::BackwardData, step, [0; 4]),
        }
    }
}

impl Model {
    /// From now on, passes in `ws` are timed layer by layer; what was measured before is forgotten. So that they can be
    /// told apart, the two parts of a layer's backward pass run one after the other, and each prepares the gradient that
    /// it reads.
    pub fn start_profile(&self, ws: &mut Workspace) {
        ws.profile.times.clear();
        ws.profile.times.resize(self.plan.steps.len(), Times::default());
    }

    /// What each step of the plan is called: its layer, and those that run with it.
    pub fn step_names(&self) -> Vec<String> {
        let firsts = &self.plan.layer_of;
        let name = |(step, &first): (usize, &usize)| {
            let end = firsts[step..].iter().copied().find(|&layer| layer > first).unwrap_or(self.plan.layers.len());
            let fused: Vec<&str> = self.plan.layers[first..end].iter().map(|layer| layer.layer.as_str()).collect();
            format!("{} {}", first + 1, fused.join(", "))
        };
        firsts.iter().enumerate().map(name).collect()
    }

    /// What was measured since [`Model::start_profile`].
    pub fn profile(&self, ws: &Workspace) -> Vec<LayerTimes> {
        let mut found: Vec<LayerTimes> = Vec::new();
        for (&layer, times) in self.plan.layer_of.iter().zip(&ws.profile.times) {
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
