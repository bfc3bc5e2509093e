//! Where each tensor and each gradient stands in memory, by who still needs it.

use std::ops::Range;

use super::gradients::GradientPlan;
use super::graph::TensorId;
use super::ops::work::Keeps;
use super::step::Steps;

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
    /// Floats of the tensors' regions: for the images that go together, and for each row.
    pub value_floats: [usize; 2],
    /// The same of the gradients'.
    pub gradient_floats: [usize; 2],
}

/// A place in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How many images have it at a time, in turn; nothing where every row of a micro-batch has its own.
    pub images: Option<usize>,
    /// Whether, without a backward pass, images may take turns nevertheless.
    pub takes_turns: bool,
    /// Floats in front of it: in the region of rows, those of each row.
    pub offset: usize,
    /// Floats of a row.
    pub floats: usize,
}

impl Place {
    /// Where some rows of a micro-batch stand in the tensor's memory; `keeps` says whether a backward pass follows.
    pub fn of(&self, rows: &Rows, keeps: bool) -> Range<usize> {
        let Place { images, takes_turns, floats, .. } = *self;
        let first = if images.is_some() || (takes_turns && !keeps) { rows.first } else { 0 };
        (rows.start - first) * floats..(rows.end - first) * floats
    }

    /// Where it lies in a region for `capacity` rows.
    pub fn range(&self, capacity: usize) -> Range<usize> {
        match self.images {
            Some(images) => self.offset..self.offset + self.floats * images.min(capacity),
            None => self.offset * capacity..(self.offset + self.floats) * capacity,
        }
    }
}

/// Rows of a micro-batch that go through a step together.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// The first.
    pub start: usize,
    /// The one behind the last.
    pub end: usize,
    /// The first of the images that go through the segment together.
    pub first: usize,
}

impl Rows {
    /// All rows of a micro-batch of `batch`.
    pub fn all(batch: usize) -> Rows {
        Rows { start: 0, end: batch, first: 0 }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Each of them with its part of `values`, which are theirs.
    pub fn each<'v>(&self, values: &'v [f32]) -> impl Iterator<Item = (usize, &'v [f32])> {
        (self.start..self.end).zip(values.chunks_exact((values.len() / self.len()).max(1)))
    }
}

/// Something that needs a place for a while.
struct Wish {
    floats: usize,
    images: Option<usize>,
    from: usize,
    until: usize,
}

impl Wish {
    /// Floats in its region: in that of rows, those of each row.
    fn all(&self) -> usize {
        self.floats * self.images.unwrap_or(1)
    }
}

impl Memory {
    /// For steps with these gradients, where `kept` is what a backward pass needs of each tensor.
    pub fn plan(planned: Steps<'_>, gradients: &GradientPlan, kept: &[Keeps], purpose: Purpose) -> Memory {
        let (owners, wishes) = values(planned, kept, purpose);
        let (offsets, value_floats) = allocate(&wishes);
        let Steps { steps, rows, .. } = planned;
        let turns = turns(planned);
        let place = |tensor: TensorId| {
            let owner = owners[tensor];
            Place {
                images: wishes[owner].images,
                takes_turns: turns[tensor].is_some(),
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
            images: slot.images,
            from: steps.len() - slot.born,
            until: steps.len() - slot.dies,
        };
        let wishes: Vec<Wish> = gradients.slots.iter().map(wish).collect();
        let (offsets, gradient_floats) = allocate(&wishes);
        let places = wishes.iter().zip(offsets).map(|(wish, offset)| Place {
            images: wish.images,
            takes_turns: false,
            offset,
            floats: wish.floats,
        });
        Memory { values, gradients: places.collect(), value_floats, gradient_floats }
    }
}

/// The tensors that images need in turn, unless a backward pass follows, and how many images at a time: those that only the steps of one
/// segment of images know.
fn turns(planned: Steps<'_>) -> Vec<Option<usize>> {
    let Steps { steps, segments, rows, output } = planned;
    let mut turns = vec![None; rows.len()];
    let mut writers = vec![None; rows.len()];
    for (index, step) in steps.iter().enumerate() {
        (turns[step.output], writers[step.output]) = (segments.turns(index, index), Some(index));
        for &input in &step.inputs {
            turns[input] = turns[input].filter(|_| writers[input].is_some_and(|w| segments.turns(w, index).is_some()));
        }
    }
    turns[output] = None;
    // An output in an input's place is the same memory.
    let held = |step: &super::step::Step| step.held.map(|held| (step.inputs[held], step.output));
    for (input, output) in steps.iter().rev().filter_map(held) {
        turns[input] = turns[input].and(turns[output]);
    }
    for (input, output) in steps.iter().filter_map(held) {
        turns[output] = turns[output].and(turns[input]);
    }
    turns
}

/// The tensors that stand in memory of their own, and which of them each tensor shares its memory with.
fn values(planned: Steps<'_>, kept: &[Keeps], purpose: Purpose) -> (Vec<TensorId>, Vec<Wish>) {
    let Steps { steps, segments, rows, output } = planned;
    let mut owners: Vec<TensorId> = (0..rows.len()).collect();
    for step in steps {
        if let Some(held) = step.held {
            owners[step.output] = owners[step.inputs[held]];
        }
    }
    let turns = turns(planned);
    let wish = |tensor: TensorId| Wish { floats: rows[tensor].values, images: turns[tensor], from: 0, until: 0 };
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
                (wish.images, wish.until) = (None, usize::MAX);
            }
        }
    }
    wishes[owners[output]].until = usize::MAX;
    for wish in &mut wishes {
        // Images follow one another through all steps of a segment: what all rows have at once must last for all of it. Step i is
        // at time i + 1.
        if wish.images.is_none() {
            let span = |time: usize| segments.span(time - 1);
            wish.from = if wish.from == 0 { 0 } else { span(wish.from).start + 1 };
            wish.until = if (1..=steps.len()).contains(&wish.until) { span(wish.until).end } else { wish.until };
        }
        if purpose == Purpose::Explanation || (purpose == Purpose::Training && wish.images.is_none()) {
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
            other.images.is_none() == wish.images.is_none() && other.from <= wish.until && wish.from <= other.until
        });
        let mut taken: Vec<Range<usize>> =
            others.map(|&other| offsets[other]..offsets[other] + wishes[other].all()).collect();
        taken.sort_by_key(|range| range.start);
        let mut offset = 0;
        for range in taken {
            if offset + wish.all() <= range.start {
                break;
            }
            offset = offset.max(range.end.next_multiple_of(LINE));
        }
        offsets[index] = offset;
        let region = &mut floats[usize::from(wish.images.is_none())];
        *region = (*region).max((offset + wish.all()).next_multiple_of(LINE));
        placed.push(index);
    }
    (offsets, floats)
}
