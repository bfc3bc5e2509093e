//! Where each tensor and each gradient stands in memory, by who still needs it.

use std::ops::Range;

use super::gradients::GradientPlan;
use super::graph::TensorId;
use super::ops::work::Keeps;
use super::step::{Row, Step};

/// Floats of a cache line: what stands in memory begins with one.
const LINE: usize = 16;

/// What a workspace is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Forward and backward.
    Training,
    /// Forward.
    Inference,
    /// Forward, and every tensor is kept.
    Explanation,
}

/// Places of tensors and gradients, in regions of memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Of each tensor.
    pub values: Vec<Place>,
    /// Of each slot of the gradients; none without a backward pass.
    pub gradients: Vec<Place>,
    /// Floats of the tensors' regions: for one image, and for each row.
    pub value_floats: [usize; 2],
    /// The same of the gradients'.
    pub gradient_floats: [usize; 2],
}

/// A place in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whether every row of a micro-batch has its own; else images take turns.
    pub by_rows: bool,
    /// Whether, without a backward pass, images may take turns nevertheless.
    pub takes_turns: bool,
    /// Floats in front of it: in the region of rows, those of each row.
    pub offset: usize,
    /// Floats of a row.
    pub floats: usize,
}

impl Place {
    /// Where some rows of a micro-batch stand in the tensor's memory; `keeps` says whether a backward pass follows.
    pub fn of(&self, rows: &Range<usize>, keeps: bool) -> Range<usize> {
        let Place { by_rows, takes_turns, floats, .. } = *self;
        if !by_rows || (takes_turns && !keeps) { 0..floats } else { rows.start * floats..rows.end * floats }
    }

    /// Where it lies in a region for `capacity` rows.
    pub fn range(&self, capacity: usize) -> Range<usize> {
        let rows = if self.by_rows { capacity } else { 1 };
        self.offset * rows..self.offset * rows + self.floats * rows
    }
}

/// Something that needs a place for a while.
struct Wish {
    floats: usize,
    by_rows: bool,
    from: usize,
    until: usize,
}

impl Memory {
    /// For `steps`, of which the first `by_image` go image by image.
    pub fn plan(
        steps: &[Step],
        by_image: usize,
        rows: &[Row],
        output: TensorId,
        gradients: &GradientPlan,
        kept: &[Keeps],
        purpose: Purpose,
    ) -> Memory {
        let (owners, wishes) = values(steps, by_image, rows, output, kept, purpose);
        let (offsets, value_floats) = allocate(&wishes);
        let turns = turns(steps, by_image, rows, output);
        let place = |tensor: TensorId| {
            let owner = owners[tensor];
            Place {
                by_rows: wishes[owner].by_rows,
                takes_turns: turns[tensor],
                offset: offsets[owner],
                floats: if wishes[owner].floats > 0 { rows[tensor].values } else { 0 },
            }
        };
        let values = (0..rows.len()).map(place).collect();
        if purpose != Purpose::Training {
            return Memory { values, value_floats, ..Memory::default() };
        }
        // Time runs backward.
        let wish = |slot: &super::gradients::Slot| Wish {
            floats: slot.floats,
            by_rows: slot.by_rows,
            from: steps.len() - slot.born,
            until: steps.len() - slot.dies,
        };
        let wishes: Vec<Wish> = gradients.slots.iter().map(wish).collect();
        let (offsets, gradient_floats) = allocate(&wishes);
        let places = wishes.iter().zip(offsets).map(|(wish, offset)| Place {
            by_rows: wish.by_rows,
            takes_turns: false,
            offset,
            floats: wish.floats,
        });
        Memory { values, gradients: places.collect(), value_floats, gradient_floats }
    }
}

/// The tensors that one image needs at a time, unless a backward pass follows: those that only steps by image know.
fn turns(steps: &[Step], by_image: usize, rows: &[Row], output: TensorId) -> Vec<bool> {
    let mut turns = vec![false; rows.len()];
    steps[..by_image].iter().for_each(|step| turns[step.output] = true);
    steps[by_image..].iter().flat_map(|step| &step.inputs).for_each(|&input| turns[input] = false);
    turns[output] = false;
    // An output in an input's place is the same memory.
    for step in steps[..by_image].iter().rev() {
        if let Some(held) = step.held {
            turns[step.inputs[held]] &= turns[step.output];
        }
    }
    for step in &steps[..by_image] {
        if let Some(held) = step.held {
            turns[step.output] &= turns[step.inputs[held]];
        }
    }
    turns
}

/// The tensors that stand in memory of their own, and which of them each tensor shares its memory with.
fn values(
    steps: &[Step],
    by_image: usize,
    rows: &[Row],
    output: TensorId,
    kept: &[Keeps],
    purpose: Purpose,
) -> (Vec<TensorId>, Vec<Wish>) {
    let mut owners: Vec<TensorId> = (0..rows.len()).collect();
    for step in steps {
        if let Some(held) = step.held {
            owners[step.output] = owners[step.inputs[held]];
        }
    }
    let turns = turns(steps, by_image, rows, output);
    let wish = |tensor: TensorId| Wish { floats: rows[tensor].values, by_rows: !turns[tensor], from: 0, until: 0 };
    let mut wishes: Vec<Wish> = (0..rows.len()).map(wish).collect();
    for (index, step) in steps.iter().enumerate() {
        let owner = &mut wishes[owners[step.output]];
        if owners[step.output] == step.output {
            owner.from = index + 1;
        }
        owner.until = owner.until.max(index + 1);
        step.inputs.iter().for_each(|&input| wishes[owners[input]].until = index + 1);
        // What a backward pass reads must last until then, for every row.
        if purpose == Purpose::Training {
            let tensors = step.inputs.iter().filter(|_| step.reads_inputs());
            let output = Some(&step.output).filter(|output| kept[**output] > Keeps::Nothing);
            for &tensor in tensors.chain(output) {
                let wish = &mut wishes[owners[tensor]];
                (wish.by_rows, wish.until) = (true, usize::MAX);
            }
        }
    }
    wishes[owners[output]].until = usize::MAX;
    for wish in &mut wishes {
        // Images follow one another through all of their steps: what all rows have at once must last.
        if wish.by_rows && wish.from <= by_image {
            wish.from = 0;
            wish.until = wish.until.max(by_image);
        }
        if purpose == Purpose::Explanation || (purpose == Purpose::Training && wish.by_rows) {
            (wish.from, wish.until) = (0, usize::MAX);
        }
    }
    for (tensor, wish) in wishes.iter_mut().enumerate() {
        // Another tensor's memory, or none: an operation that computes its reader too never writes it.
        let is_written = tensor == 0 || steps.iter().any(|step| step.output == tensor);
        if owners[tensor] != tensor || !is_written {
            wish.floats = 0;
        }
    }
    (owners, wishes)
}

/// Where each of them goes in its region, the lowest place that is free for as long as it is needed; and the floats of both regions.
fn allocate(wishes: &[Wish]) -> (Vec<usize>, [usize; 2]) {
    let mut order: Vec<usize> = (0..wishes.len()).filter(|&index| wishes[index].floats > 0).collect();
    order.sort_by_key(|&index| wishes[index].from);
    let mut offsets = vec![0; wishes.len()];
    let mut floats = [0, 0];
    let mut placed: Vec<usize> = Vec::new();
    for index in order {
        let wish = &wishes[index];
        let others = placed.iter().filter(|&&other| {
            let other = &wishes[other];
            other.by_rows == wish.by_rows && other.from <= wish.until && wish.from <= other.until
        });
        let mut taken: Vec<Range<usize>> =
            others.map(|&other| offsets[other]..offsets[other] + wishes[other].floats).collect();
        taken.sort_by_key(|range| range.start);
        let mut offset = 0;
        for range in taken {
            if offset + wish.floats <= range.start {
                break;
            }
            offset = offset.max(range.end.next_multiple_of(LINE));
        }
        offsets[index] = offset;
        let region = &mut floats[usize::from(wish.by_rows)];
        *region = (*region).max((offset + wish.floats).next_multiple_of(LINE));
        placed.push(index);
    }
    (offsets, floats)
}
