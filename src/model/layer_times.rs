//! What `glasses bench` asks a network: the times of its layers, one after another.

use std::ops::Range;

use super::ops::work::Work;
use super::profile::Times;
use super::step::Step;
use super::{Model, Workspace};

/// Neighbouring layers that run as one (a convolution with its rectifier and its pool), and the time they took.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTimes {
    /// The step that they are.
    pub step: usize,
    /// Places in [`Model::layers`].
    pub layers: Range<usize>,
    /// The shape of the first one's input: `[h, w, c]` or `[d]`.
    pub input: Vec<usize>,
    /// Floating-point operations of a forward pass of one row, and of each part of the backward pass.
    pub flops: u64,
    /// What was measured.
    pub times: Times,
}

impl Model {
    /// From now on, passes in `ws` are timed layer by layer; what was measured before is forgotten. So that they can be
    /// told apart, the two parts of a layer's backward pass run one after the other, and each prepares the gradient that
    /// it reads.
    pub fn start_profile(&self, ws: &mut Workspace) {
        ws.profile.times.clear();
        ws.profile.times.resize(self.program.steps.len(), Times::default());
    }

    /// What each step of the program is called: its layer, those that run with it, and the block that it stands in.
    pub fn step_names(&self) -> Vec<String> {
        let layers = &self.program.layers;
        let name = |step: &Step| {
            let part = if matches!(step.work, Work::Statistics(_)) { " statistics" } else { "" };
            let run = self.layers_of(step.layer);
            let fused: Vec<&str> = layers[run.clone()].iter().map(|layer| layer.layer.as_str()).collect();
            let block = &layers[run.start].block;
            let block = if block.is_empty() { String::new() } else { format!(" ({block})") };
            format!("{} {}{part}{block}", run.start + 1, fused.join(", "))
        };
        self.program.steps.iter().map(name).collect()
    }

    /// The layers that run with layer `first`, which a step is named after: those in front of the next such layer.
    fn layers_of(&self, first: usize) -> Range<usize> {
        let firsts = self.program.steps.iter().map(|step| step.layer);
        let end = firsts.filter(|&layer| layer > first).min().unwrap_or(self.program.layers.len());
        first..end
    }

    /// What was measured since [`Model::start_profile`].
    pub fn profile(&self, ws: &Workspace) -> Vec<LayerTimes> {
        let time = |(index, (step, &times)): (usize, (&Step, &Times))| LayerTimes {
            step: index,
            layers: self.layers_of(step.layer),
            input: self.graph.written[step.layer].inputs[0].1.sizes().to_vec(),
            flops: self.program.layers[step.layer].flops,
            times,
        };
        let mut found: Vec<LayerTimes> =
            self.program.steps.iter().zip(&ws.profile.times).enumerate().map(time).collect();
        found.sort_by_key(|layer| layer.layers.start);
        // A norm is two steps.
        found.dedup_by(|step, statistics| {
            let is_one = step.layers == statistics.layers;
            if is_one {
                statistics.times = statistics.times + step.times;
            }
            is_one
        });
        found
    }
}
