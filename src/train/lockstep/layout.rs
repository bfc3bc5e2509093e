//! The memory that a rank shows its neighbours: one part a rank, cut alike by all of them.

use crate::kernels::{Buffer, zeros};

/// Floats of a cache line.
const LINE: usize = 16;

/// How much of what a rank shows; the same on every rank.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    /// Floats of what it tells with its sums.
    pub scores: usize,
    /// Sums of gradients, and floats of each.
    pub sums: (usize, usize),
    /// Floats of the gradients of all rows; 0 where nobody else writes them.
    pub gradients: usize,
    /// The dense layers that are shared out.
    pub layers: Vec<LayerSizes>,
    /// Of the group's one copy: parameters, and how many moments of them the optimizer has.
    pub params: (usize, usize),
}

/// Of a dense layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayerSizes {
    /// Floats of its input.
    pub input: usize,
    /// Floats of the gradient of its output.
    pub d_output: usize,
    /// Floats of partial sums of its output.
    pub partials: usize,
    /// Ranks of other groups whose rows this rank takes in, at most.
    pub boxes: usize,
    /// Floats of each such rank's inputs.
    pub boxed_input: usize,
}

/// A rank's part.
#[derive(Debug)]
pub struct Area {
    pub scores: Buffer,
    pub sums: Vec<Buffer>,
    pub gradients: Buffer,
    pub layers: Vec<LayerArea>,
}

/// A dense layer's part of it.
#[derive(Debug)]
pub struct LayerArea {
    /// The layer's input, `[rows, inputs]`: a buffer of the workspace.
    pub input: Buffer,
    /// `[rows, outputs]`
    pub d_output: Buffer,
    /// Partial sums of all ranks' rows.
    pub partials: Buffer,
    /// Input and gradient of the output of the rows of ranks in other groups.
    pub boxes: Vec<[Buffer; 2]>,
}

/// A group's copy of what is trained.
#[derive(Debug)]
pub struct Copy {
    pub params: Buffer,
    pub moments: Vec<Buffer>,
}

/// Cuts memory, or only counts how much it would take.
struct Cut<'a> {
    memory: Option<&'a Buffer>,
    at: usize,
}

impl Cut<'_> {
    fn take(&mut self, len: usize) -> Buffer {
        let start = self.at;
        self.at += len.next_multiple_of(LINE);
        self.memory.map_or_else(|| zeros(0), |memory| memory.part(start..start + len))
    }
}

impl Sizes {
    /// Floats of the part of a rank; the first one of a group holds the group's copy besides.
    pub fn floats(&self, first: bool) -> usize {
        let mut cut = Cut { memory: None, at: 0 };
        self.area(&mut cut);
        if first {
            self.copy(&mut cut);
        }
        cut.at
    }

    /// A rank's part, cut.
    pub fn cut(&self, memory: &Buffer) -> Area {
        self.area(&mut Cut { memory: Some(memory), at: 0 })
    }

    /// The group's copy, in the part of its first rank.
    pub fn cut_copy(&self, memory: &Buffer) -> Copy {
        self.copy(&mut Cut { memory: Some(memory), at: self.floats(false) })
    }

    fn area(&self, cut: &mut Cut<'_>) -> Area {
        Area {
            scores: cut.take(self.scores),
            sums: (0..self.sums.0).map(|_| cut.take(self.sums.1)).collect(),
            gradients: cut.take(self.gradients),
            layers: self.layers.iter().map(|layer| layer.area(cut)).collect(),
        }
    }

    fn copy(&self, cut: &mut Cut<'_>) -> Copy {
        let (params, moments) = self.params;
        Copy { params: cut.take(params), moments: (0..moments).map(|_| cut.take(params)).collect() }
    }
}

impl LayerSizes {
    fn area(&self, cut: &mut Cut<'_>) -> LayerArea {
        LayerArea {
            input: cut.take(self.input),
            d_output: cut.take(self.d_output),
            partials: cut.take(self.partials),
            boxes: (0..self.boxes).map(|_| [cut.take(self.boxed_input), cut.take(self.d_output)]).collect(),
        }
    }
}
