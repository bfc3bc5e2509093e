//! A step of the backward pass.

use std::ops::Range;

use super::Model;
use super::Params;
use super::forward::channels;
use super::gradients::Target;
use super::graph::TensorId;
use super::memory::Rows;
use super::norms::Norms;
use super::ops::Normalize;
use super::ops::work::{Backward, Between, Pass, Work};
use super::probe::Probe;
use super::profile::Profile;
use super::workspace::Tensors;
use crate::kernels::{self, Leaf, add_channels, take_channels};
use crate::trace::What;

impl Model {
    /// A step for some rows of the micro-batch.
    pub(super) fn backward_step(
        &self,
        index: usize,
        rows: Rows,
        pass: Pass<'_>,
        sums: &mut Sums<'_>,
        memory: &mut Memory<'_>,
    ) {
        let Some(targets) = self.program.targets(index) else { return };
        let step = &self.program.steps[index];
        match &step.work {
            Work::Map(_) => self.backward_map(index, targets[0], &rows, sums, memory),
            Work::Elementwise(work) => {
                let output = &memory.values.read[step.output][memory.value(step.output, &rows)];
                let slot = self.program.gradients.of[step.output].unwrap_or_default();
                let place = memory.gradient(slot, &rows);
                let Tensors { read, write, places } = &mut *memory.slots;
                memory.profile.time(index, What::BackwardData, || {
                    work.backward(pass, output, &mut write[slot][place.clone()]);
                    for target in targets {
                        match *target {
                            Target::Nowhere | Target::Same => {}
                            Target::Set(to) => {
                                write[to][places[to].of(&rows, true)].copy_from_slice(&read[slot][place.clone()]);
                            }
                            Target::Add { into, .. } => {
                                kernels::add(
                                    &mut write[into][places[into].of(&rows, true)],
                                    &read[slot][place.clone()],
                                );
                            }
                        }
                    }
                });
            }
            Work::Concat(counts) => {
                let slot = self.program.gradients.of[step.output].unwrap_or_default();
                let place = memory.gradient(slot, &rows);
                let Tensors { read, write, places } = &mut *memory.slots;
                memory.profile.time(index, What::BackwardData, || {
                    for (channels, target) in channels(counts).zip(targets) {
                        let wide = &read[slot][place.clone()];
                        match *target {
                            Target::Nowhere | Target::Same => {}
                            Target::Set(to) => {
                                take_channels(channels, wide, &mut write[to][places[to].of(&rows, true)]);
                            }
                            Target::Add { into, .. } => {
                                add_channels(channels, wide, &mut write[into][places[into].of(&rows, true)]);
                            }
                        }
                    }
                });
            }
            Work::Normalize(norm) => {
                let (input, output) = (memory.value(step.inputs[0], &rows), memory.value(step.output, &rows));
                let slot = self.program.gradients.of[step.output].unwrap_or_default();
                let place = memory.gradient(slot, &rows);
                let Memory { values, slots, norms, .. } = memory;
                let gradient = &mut slots.write[slot][place];
                memory.profile.time(index, What::BackwardData, || {
                    norm.gate(&values.read[step.output][output], gradient);
                    let input = &values.read[step.inputs[0]][input];
                    for ((row, input), (_, gradient)) in rows.each(input).zip(rows.each(gradient)) {
                        norms.add_gradients(norm, row, input, gradient);
                    }
                });
            }
            Work::Statistics(norm) => self.backward_statistics(index, norm, targets[0], &rows, memory),
            Work::Scale(channels) => self.backward_scale(index, *channels, &rows, memory),
            Work::View => {}
        }
    }

    /// A norm's input: the gradient of what was made of it becomes its own, in place.
    fn backward_statistics(
        &self,
        index: usize,
        norm: &Normalize,
        target: Target,
        rows: &Rows,
        memory: &mut Memory<'_>,
    ) {
        let step = &self.program.steps[index];
        let slot = self.program.gradients.of[step.output].unwrap_or_default();
        let (input, place) = (memory.value(step.inputs[0], rows), memory.gradient(slot, rows));
        let Memory { values, slots, norms, profile, .. } = memory;
        let Tensors { read, write, places } = &mut **slots;
        profile.time(index, What::BackwardData, || {
            let input = &values.read[step.inputs[0]][input];
            let of_row = input.len() / rows.len();
            for ((row, input), gradient) in rows.each(input).zip(write[slot][place.clone()].chunks_exact_mut(of_row)) {
                norms.backward(norm, row, input, gradient);
            }
            match target {
                Target::Nowhere | Target::Same => {}
                Target::Set(to) => write[to][places[to].of(rows, true)].copy_from_slice(&read[slot][place]),
                Target::Add { into, .. } => {
                    kernels::add(&mut write[into][places[into].of(rows, true)], &read[slot][place]);
                }
            }
        });
    }

    /// The step of a product of an image by a factor a channel.
    fn backward_scale(&self, index: usize, channels: usize, rows: &Rows, memory: &mut Memory<'_>) {
        let (step, Some(targets)) = (&self.program.steps[index], self.program.targets(index)) else { return };
        let slot = self.program.gradients.of[step.output].unwrap_or_default();
        let place = memory.gradient(slot, rows);
        let value = |input: usize| &memory.values.read[step.inputs[input]][memory.value(step.inputs[input], rows)];
        let (map, factors) = (value(0), value(1));
        let Tensors { read, write, places } = &mut *memory.slots;
        let d_output = &read[slot][place];
        memory.profile.time(index, What::BackwardData, || {
            for (input, target) in targets.iter().enumerate() {
                let (to, accumulate) = match *target {
                    Target::Nowhere | Target::Same => continue,
                    Target::Set(to) => (to, false),
                    Target::Add { into, .. } => (into, true),
                };
                let gradient = &mut write[to][places[to].of(rows, true)];
                match input {
                    0 => kernels::scale_backward_map(channels, factors, d_output, gradient, accumulate),
                    _ => kernels::scale_backward_factors(channels, map, d_output, gradient, accumulate),
                }
            }
        });
    }

    /// The step of an operation with one input, whose gradient goes to `target`.
    fn backward_map(&self, index: usize, target: Target, rows: &Rows, sums: &mut Sums<'_>, memory: &mut Memory<'_>) {
        let step = &self.program.steps[index];
        let Work::Map(map) = &step.work else { return };
        let (written, sum) = match target {
            Target::Set(slot) => (Some(slot), None),
            Target::Add { into, through } => (through, Some(into)),
            Target::Nowhere | Target::Same => (None, None),
        };
        let words = step.kept();
        let slot = self.program.gradients.of[step.output].unwrap_or_default();
        let (d_output, input, output) =
            (memory.gradient(slot, rows), memory.value(step.inputs[0], rows), memory.value(step.output, rows));
        let d_input = written.map(|slot| memory.gradient(slot, rows));
        let Tensors { read, write, places } = &mut *memory.slots;
        let backward = Backward {
            batch: rows.len(),
            leaves: sums.leaves,
            params: &memory.params.values,
            packed: &memory.packed[step.packed.clone()],
            input: &memory.values.read[step.inputs[0]][input],
            output: &memory.values.read[step.output][output],
            kept: &memory.kept[index][rows.start * words..rows.end * words],
            d_output: &read[slot][d_output],
            d_input: written.zip(d_input).map(|(slot, place)| &mut write[slot][place]),
            d_params: Some(&mut *sums.d_params),
            accumulate: sums.accumulate,
            scratch: memory.scratch,
            between: Between::default(),
        };
        if step.has_weights() && step.sums_leaves && self.takes_all_rows(index) {
            let layer = self.steps_above(index);
            memory.probe.rows(layer, sums.first, sums.leaves, backward.input, backward.d_output);
        }
        memory.profile.backward(index, map.as_ref(), backward);
        if let (Some(written), Some(sum)) = (written, sum) {
            let (from, to) = (places[written].of(rows, true), places[sum].of(rows, true));
            memory.profile.time(index, What::BackwardData, || kernels::add(&mut write[sum][to], &read[written][from]));
        }
    }
}

/// What the backward pass reads and writes.
pub(super) struct Memory<'a> {
    pub params: &'a Params,
    pub packed: &'a [f32],
    pub values: &'a Tensors,
    pub slots: &'a mut Tensors,
    pub kept: &'a [Vec<u16>],
    pub scratch: &'a mut [f32],
    pub norms: &'a mut Norms,
    /// The leaves of a subtree.
    pub subtree: &'a mut Vec<Leaf>,
    pub profile: &'a mut Profile,
    pub probe: &'a mut Probe,
}

impl Memory<'_> {
    fn value(&self, tensor: TensorId, rows: &Rows) -> Range<usize> {
        self.values.places[tensor].of(rows, true)
    }

    fn gradient(&self, slot: usize, rows: &Rows) -> Range<usize> {
        self.slots.places[slot].of(rows, true)
    }
}

/// Where gradients are summed, and in which order.
pub(super) struct Sums<'a> {
    pub leaves: &'a [Leaf],
    /// The place of the first of them among those of the micro-batch.
    pub first: usize,
    pub d_params: &'a mut [f32],
    pub accumulate: bool,
}
