//! The shared segments of a node group: one a rank, all with the same layout.

use crate::kernels::{Buffer, zeros};

/// Floats of a cache line.
const LINE: usize = 16;

/// Sizes of a rank's segment; the same on every rank.
#[derive(Clone, Debug, Default)]
pub struct SegmentSizes {
    /// Floats of its flags and scores.
    pub scores: usize,
    /// Sums of gradients, and floats of each.
    pub sums: (usize, usize),
    /// Floats of the gradients of all rows; 0 where nobody else writes them.
    pub gradients: usize,
    /// The dense layers that are shared out.
    pub layers: Vec<LayerSegmentSizes>,
    /// Floats of what it publishes of a batch norm, twice; and, where there are several groups, of what all of them do.
    pub norms: [usize; 2],
    /// The group's replica.
    pub replica: ReplicaSizes,
}

/// Sizes of a group's replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplicaSizes {
    /// Values: weights and running statistics.
    pub values: usize,
    /// Weights.
    pub params: usize,
    /// How many moments of each weight the optimizer has.
    pub moments: usize,
}

/// Of a dense layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayerSegmentSizes {
    /// Floats of its input.
    pub input: usize,
    /// Floats of the gradient of its output.
    pub d_output: usize,
    /// Floats of partial sums of its output.
    pub partials: usize,
    /// Slots for the rows of ranks of other groups: as many as the rank with the most of them needs.
    pub remote_slots: usize,
    /// Floats of a slot's inputs.
    pub slot_input: usize,
}

/// A rank's segment.
#[derive(Debug)]
pub struct SharedSegment {
    pub scores: Buffer,
    pub sums: Vec<Buffer>,
    pub gradients: Buffer,
    pub layers: Vec<LayerSegment>,
    /// Pieces of norm groups, in turn.
    pub norms: [Buffer; 2],
    /// Those of all node groups.
    pub node_norms: Buffer,
}

/// A dense layer's part of a segment.
#[derive(Debug)]
pub struct LayerSegment {
    /// The layer's input, `[rows, inputs]`: a buffer of the workspace.
    pub input: Buffer,
    /// `[rows, outputs]`
    pub d_output: Buffer,
    /// Partial sums of all ranks' rows.
    pub partials: Buffer,
    /// Input and gradient of the output of the rows of ranks in other groups.
    pub remote_slots: Vec<[Buffer; 2]>,
}

/// A group's parameters and the optimizer's moments, which all its ranks share.
#[derive(Debug)]
pub struct Replica {
    pub params: Buffer,
    pub moments: Vec<Buffer>,
}

/// Places buffers in a segment one behind the other, or only counts what they would take.
struct Layout<'a> {
    memory: Option<&'a Buffer>,
    at: usize,
}

impl Layout<'_> {
    fn take(&mut self, len: usize) -> Buffer {
        let start = self.at;
        self.at += len.next_multiple_of(LINE);
        self.memory.map_or_else(|| zeros(0), |memory| memory.part(start..start + len))
    }
}

impl SegmentSizes {
    /// Floats of a rank's segment; that of a group's first rank holds the replica besides.
    pub fn floats(&self, first: bool) -> usize {
        let mut layout = Layout { memory: None, at: 0 };
        self.place(&mut layout);
        if first {
            self.place_replica(&mut layout);
        }
        layout.at
    }

    /// A rank's segment in `memory`.
    pub fn segment(&self, memory: &Buffer) -> SharedSegment {
        self.place(&mut Layout { memory: Some(memory), at: 0 })
    }

    /// The group's replica, in the segment of its first rank.
    pub fn replica(&self, memory: &Buffer) -> Replica {
        self.place_replica(&mut Layout { memory: Some(memory), at: self.floats(false) })
    }

    fn place(&self, layout: &mut Layout<'_>) -> SharedSegment {
        SharedSegment {
            scores: layout.take(self.scores),
            sums: (0..self.sums.0).map(|_| layout.take(self.sums.1)).collect(),
            gradients: layout.take(self.gradients),
            layers: self.layers.iter().map(|layer| layer.place(layout)).collect(),
            norms: [0, 1].map(|_| layout.take(self.norms[0])),
            node_norms: layout.take(self.norms[1]),
        }
    }

    fn place_replica(&self, layout: &mut Layout<'_>) -> Replica {
        let ReplicaSizes { values, params, moments } = self.replica;
        Replica { params: layout.take(values), moments: (0..moments).map(|_| layout.take(params)).collect() }
    }
}

impl LayerSegmentSizes {
    fn place(&self, layout: &mut Layout<'_>) -> LayerSegment {
        LayerSegment {
            input: layout.take(self.input),
            d_output: layout.take(self.d_output),
            partials: layout.take(self.partials),
            remote_slots: (0..self.remote_slots)
                .map(|_| [layout.take(self.slot_input), layout.take(self.d_output)])
                .collect(),
        }
    }
}
