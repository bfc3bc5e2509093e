//! The rows of all ranks at a dense layer that is shared out, as the kernels read and write them.

use std::ops::Range;

use super::point_to_point::PointToPoint;
use super::topology::Topology;
use crate::kernels::{DenseShape, Groups, GroupsMut, Rows, RowsMut};

/// The inputs of all rows, rank by rank: where weights are split those of other groups' ranks have come as stretches.
pub struct Inputs<'a> {
    pub topology: &'a Topology<'a>,
    pub messages: &'a PointToPoint,
    pub layer: usize,
    pub shape: DenseShape,
    /// The stretch, where weights are split.
    pub own: Option<Range<usize>>,
}

impl Groups for Inputs<'_> {
    fn count(&self) -> usize {
        self.topology.size()
    }
    fn rows(&self, rank: usize) -> Rows<'_> {
        match &self.own {
            Some(own) if self.topology.intra_node(rank).is_none() => {
                self.messages.inputs(rank, own, self.topology.rows[rank])
            }
            _ => self.topology.input(rank, self.layer, self.shape.inputs),
        }
    }
}

/// Where the gradients of the inputs of all rows go, rank by rank.
pub struct DInputs<'a, 'b> {
    pub topology: &'a mut Topology<'b>,
    pub messages: &'a mut PointToPoint,
    pub turn: usize,
    pub shape: DenseShape,
    pub own: Range<usize>,
}

impl GroupsMut for DInputs<'_, '_> {
    fn count(&self) -> usize {
        self.topology.size()
    }
    fn rows_mut(&mut self, rank: usize) -> RowsMut<'_> {
        let (node, rows) = (self.topology.groups.neighbours(), self.topology.rows[rank]);
        if node.contains(&rank) {
            let gradients = &mut self.topology.segments[rank - node.start].gradients[self.turn];
            return RowsMut::whole(gradients, self.shape.inputs, rows);
        }
        self.messages.d_inputs(rank, &self.own, rows)
    }
}
