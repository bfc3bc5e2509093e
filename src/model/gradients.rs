//! Where the gradient of each tensor goes, and who writes it: set by the first reader that the backward pass comes to, added to by the
//! others.

use super::graph::TensorId;
use super::ops::work::Work;
use super::step::{Step, Steps};

/// A gradient's place among the slots of the backward pass.
pub type SlotId = usize;

/// The gradients of a backward pass.
#[derive(Clone, Debug, Default)]
pub struct GradientPlan {
    /// Every gradient, and what is computed before it is added to one.
    pub slots: Vec<Slot>,
    /// Of each tensor, where its gradient is wanted.
    pub of: Vec<Option<SlotId>>,
    /// For each step whose backward pass is wanted: where the gradients of its inputs go.
    pub targets: Vec<Option<Vec<Target>>>,
}

/// A gradient in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Floats of a row.
    pub floats: usize,
    /// How many images at a time have one; nothing where all rows have.
    pub images: Option<usize>,
    /// The step whose backward pass writes it first; behind the last step, the loss.
    pub born: usize,
    /// The step whose backward pass reads it last.
    pub dies: usize,
}

/// Where the gradient of an input goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nobody wants it.
    Nowhere,
    /// It is the output's gradient, and stays where that is.
    Same,
    /// It is written here.
    Set(SlotId),
    /// It is added here; operations that can only write do so in `through` first.
    Add {
        /// The sum.
        into: SlotId,
        /// Memory for one summand.
        through: Option<SlotId>,
    },
}

impl GradientPlan {
    /// For tensors whose gradients are `wanted`.
    pub fn new(planned: Steps<'_>, wanted: &[bool]) -> GradientPlan {
        let Steps { steps, segments, rows, output } = planned;
        let mut plan = GradientPlan { slots: Vec::new(), of: vec![None; rows.len()], targets: vec![None; steps.len()] };
        plan.of[output] = Some(plan.slot(rows[output].gradients, None, steps.len()));
        for index in (0..steps.len()).rev() {
            let step = &steps[index];
            let Some(slot) = plan.of[step.output] else { continue };
            if !wanted[step.output] {
                continue;
            }
            plan.slots[slot].dies = index;
            let same = plan.same(steps, index, wanted);
            let mut targets = Vec::with_capacity(step.inputs.len());
            for (input, &tensor) in step.inputs.iter().enumerate() {
                // How many images at a time have the gradient; all rows, where the tensor comes from another segment.
                let turns = steps.iter().position(|step| step.output == tensor);
                let turns = turns.and_then(|writer| segments.turns(writer, index));
                let target = match plan.of[tensor] {
                    _ if !wanted[tensor] => Target::Nowhere,
                    None if same.contains(&input) => {
                        plan.of[tensor] = Some(slot);
                        plan.slots[slot].images = plan.slots[slot].images.and(turns);
                        Target::Same
                    }
                    None => {
                        let new = plan.slot(rows[tensor].gradients, turns, index);
                        plan.of[tensor] = Some(new);
                        Target::Set(new)
                    }
                    Some(into) => {
                        debug_assert!(into != slot, "a gradient that is added to itself");
                        let needs_room = matches!(step.work, Work::Map(_));
                        let room = segments.turns(index, index);
                        let through = needs_room.then(|| plan.slot(rows[tensor].gradients, room, index));
                        Target::Add { into, through }
                    }
                };
                targets.push(target);
            }
            plan.targets[index] = Some(targets);
        }
        // Images follow one another through all steps of a segment: what all rows have at once must last for all of it.
        for slot in plan.slots.iter_mut().filter(|slot| slot.images.is_none()) {
            slot.dies = segments.span(slot.dies).start;
            if slot.born < steps.len() {
                slot.born = segments.span(slot.born).end - 1;
            }
        }
        plan
    }

    fn slot(&mut self, floats: usize, images: Option<usize>, born: usize) -> SlotId {
        self.slots.push(Slot { floats, images, born, dies: born });
        self.slots.len() - 1
    }

    /// The inputs of an element-wise step whose gradient may stay where the output's is: one that is read last, which others may be added
    /// to, and those that are only read before that.
    fn same(&self, steps: &[Step], index: usize, wanted: &[bool]) -> Vec<usize> {
        let step = &steps[index];
        if !step.work.is_in_place() {
            return Vec::new();
        }
        let writer = |tensor: TensorId| steps.iter().position(|step| step.output == tensor);
        let readers = |tensor: TensorId| {
            let reads = move |&(_, step): &(usize, &Step)| step.inputs.contains(&tensor);
            steps.iter().enumerate().filter(reads).map(|(reader, _)| reader)
        };
        // Those that this step is the first to write, once each, with the step that reads their gradient.
        let mut first: Vec<(usize, usize)> = Vec::new();
        for (input, &tensor) in step.inputs.iter().enumerate() {
            // A tensor that the sum reads twice has twice its gradient: a copy of it, added to.
            let is_read_once = step.inputs.iter().filter(|other| **other == tensor).count() == 1;
            let is_first = wanted[tensor] && self.of[tensor].is_none() && is_read_once;
            if let (true, Some(writer)) = (is_first, writer(tensor)) {
                first.push((writer, input));
            }
        }
        first.sort_unstable();
        let Some(&(_, last)) = first.first() else { return Vec::new() };
        // Their gradients are only read: nothing is added, and what reads them leaves them as they are.
        let is_only_read = |&(writer, input): &(usize, usize)| {
            let map = !steps[writer].work.is_in_place();
            map && readers(step.inputs[input]).all(|reader| reader == index)
        };
        let others: Vec<(usize, usize)> = first[1..].iter().copied().filter(is_only_read).collect();
        let read_by = others.iter().map(|(writer, _)| *writer).min().unwrap_or(index);
        let added = readers(step.inputs[last]).filter(|&reader| reader != index).max();
        let is_free = added.is_none_or(|added| added < read_by);
        let others = others.into_iter().map(|(_, input)| input);
        if is_free { others.chain([last]).collect() } else { others.collect() }
    }
}
