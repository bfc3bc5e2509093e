//! The batch norms of a run's steps: groups, the exchange of their sums, and the running statistics.

use std::ops::Range;

use super::norm_groups::NormGroups;
use super::norm_statistics::{NormStep, PieceExchange, StepPeers};
use super::step_memory::StepMemory;
use super::topology::Topology;
use crate::kernels;
use crate::model::ops::Normalize;
use crate::model::{Model, Workspace};
use crate::row_count::RowCount;

/// What a rank knows of the norms of its steps.
#[derive(Debug)]
pub struct StepNorms {
    /// Which rows are normalised together.
    pub groups: NormGroups,
    pub(super) exchange: PieceExchange,
    /// The norms of the network.
    pub(super) steps: Vec<NormStep>,
    /// Of each sum of gradients, what its rows bring to the running statistics, norm by norm.
    pub(super) running: Vec<Vec<f64>>,
    /// The same of all rows.
    pub(super) total: Vec<f64>,
}

impl StepNorms {
    /// With memory of these sizes.
    pub fn new(model: &Model, rows: RowCount, memory: &StepMemory) -> StepNorms {
        let norms = model.norms().iter().map(Normalize::width).zip(model.norm_steps());
        let steps: Vec<NormStep> = norms.map(|(width, step)| NormStep { width, step }).collect();
        let all = steps.iter().map(|norm| norm.width).sum();
        StepNorms {
            groups: NormGroups::new(model.norms(), rows),
            exchange: PieceExchange::new(&memory.norms),
            running: vec![vec![0.0; all]; memory.segment.sums.0],
            total: vec![0.0; all],
            steps,
        }
    }

    /// What the forward and backward passes have to do with other ranks.
    pub fn peers<'p, 'a>(&'p self, topology: &'p Topology<'a>) -> StepPeers<'p, 'a> {
        let StepNorms { groups, exchange, steps, .. } = self;
        StepPeers { topology, layers: &[], groups, exchange, steps, seconds: 0.0, read: 0 }
    }

    /// Groups the rows of leaves `run` of this rank, which are those of the workspace.
    pub fn group(&self, ws: &mut Workspace, run: Range<usize>) {
        let Workspace { norms, leaves, .. } = ws;
        if !self.groups.is_empty() {
            norms.of.copy_from_slice(&self.groups.of);
            self.groups.fill(&mut norms.groupings, run, leaves);
        }
    }

    /// What the rows that have just gone forward bring to the running statistics, to the sums from `first` on.
    pub fn keep_running(&mut self, model: &Model, ws: &mut Workspace, first: usize) {
        let mut start = 0;
        for (norm, &NormStep { width, .. }) in model.norms().iter().zip(&self.steps) {
            let running = &mut self.running;
            ws.norms.running(norm, |sum, values| running[first + sum][start..start + width].copy_from_slice(values));
            start += width;
        }
    }

    /// Merges the sum `depth + 1` with the one before it.
    pub fn merge_running(&mut self, depth: usize) {
        let (left, right) = self.running.split_at_mut(depth + 1);
        kernels::merge_sums64(&mut left[depth], &right[0]);
    }
}
