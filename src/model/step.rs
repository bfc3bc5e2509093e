//! An operation as it is run.

use std::ops::Range;

use super::graph::TensorId;
use super::ops::work::Work;
use super::segments::Segments;

/// What a row takes of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its sizes.
    pub sizes: Vec<usize>,
    /// Floats, borders included.
    pub values: usize,
    /// Floats of the gradient, with borders of its own.
    pub gradients: usize,
}

/// An operation as it is run.
#[derive(Debug)]
pub struct Step {
    /// What computes it.
    pub work: Work,
    /// The tensors that it reads.
    pub inputs: Vec<TensorId>,
    /// The tensor that it writes.
    pub output: TensorId,
    /// The input whose place the output takes.
    pub held: Option<usize>,
    /// Where its packed weights stand.
    pub packed: Range<usize>,
    /// Its place in [`Program::layers`].
    pub layer: usize,
    /// The floats of its weights; none where it has none.
    pub params: Range<usize>,
    /// Whether its kernels sum the gradients of weights over all leaves of a subtree: those of a dense layer.
    pub sums_leaves: bool,
}

impl Step {
    /// Whether it has weights.
    pub fn has_weights(&self) -> bool {
        !self.params.is_empty()
    }

    /// Words a row that its backward pass needs besides its tensors.
    pub fn kept(&self) -> usize {
        if let Work::Map(map) = &self.work { map.kept() } else { 0 }
    }

    /// Whether its backward pass reads its inputs.
    pub fn reads_inputs(&self) -> bool {
        match &self.work {
            Work::Map(map) => map.reads_input(),
            Work::Statistics(_) | Work::Normalize(_) | Work::Scale(_) => true,
            Work::View | Work::Elementwise(_) | Work::Concat(_) => false,
        }
    }
}

/// The steps of a program, before their memory is planned.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'p> {
    /// First to last.
    pub steps: &'p [Step],
    /// How rows go through them.
    pub segments: &'p Segments,
    /// What a row takes of each tensor.
    pub rows: &'p [Row],
    /// The logits.
    pub output: TensorId,
}
