//! The batch norms of a run's steps: groups, the exchange of their sums, and the running statistics.

use std::ops::Range;

use super::Lockstep;
use super::norm_groups::NormGroups;
use super::norm_statistics::{Exchanged, NormStep, PieceExchange, StepPeers};
use super::step_memory::StepMemory;
use super::topology::Topology;
use crate::comm::Reduce;
use crate::kernels;
use crate::model::ops::{NormRows, Normalize};
use crate::model::{Model, NormSum, Params, Workspace};

/// What a rank knows of the norms of its steps.
#[derive(Debug)]
pub struct StepNorms {
    /// Which rows are normalised together.
    pub groups: NormGroups,
    exchange: PieceExchange,
    /// The norms of the network.
    steps: Vec<NormStep>,
    /// Of each sum of gradients, what its rows bring to the running statistics, norm by norm.
    running: Vec<Vec<f64>>,
    /// The same of all rows.
    total: Vec<f64>,
}

impl StepNorms {
    /// With memory of these sizes.
    pub fn new(model: &Model, rows: NormRows, memory: &StepMemory) -> StepNorms {
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

impl Lockstep<'_> {
    /// Collective, behind the decision to update: the running statistics take this step's, of `rows` rows, in.
    pub(super) fn update_statistics(&mut self, model: &Model, params: &mut Params, rows: u64) {
        let Lockstep { norms, topology, workspace: ws, trees, config, .. } = self;
        if norms.groups.is_empty() {
            return;
        }
        if norms.groups.span_ranks {
            // Every rank knows all groups.
            norms.keep_running(model, ws, 0);
        }
        let StepNorms { groups, exchange, running, total, steps } = norms;
        let own = trees.ranks.sums_of[topology.rank()];
        match config.reduce {
            _ if groups.span_ranks || topology.size() == 1 => total.copy_from_slice(&running[0]),
            Reduce::Mpi => {
                total.fill(0.0);
                running[..own].iter().for_each(|sum| kernels::merge_sums64(total, sum));
                topology.comm.allreduce_f64(total);
            }
            Reduce::Tree => {
                let pieces = running[..own].iter().map(|sum| &sum[..]);
                let exchanged = Exchanged { kind: NormSum::Gradients, width: total.len(), about: 0 };
                let read = exchange.run(topology, &groups.whole, exchanged, pieces, total);
                topology.has_read(read as usize / 4);
            }
        }
        if topology.groups.place() > 0 {
            return;
        }
        let mut start = 0;
        for (norm, &NormStep { width, .. }) in model.norms().iter().zip(steps.iter()) {
            let (means, variances) = total[start..start + width].split_at(norm.channels);
            let with_variance = groups.trees[groups.of[norm.norm]].rows_with_variance();
            take_in(norm.momentum, means, rows as usize, &mut params.values[norm.mean.clone()]);
            take_in(norm.momentum, variances, with_variance, &mut params.values[norm.variance.clone()]);
            start += width;
        }
    }
}

/// Running statistics go on with a step's: `sums` over so many rows.
fn take_in(momentum: f64, sums: &[f64], rows: usize, running: &mut [f32]) {
    if rows == 0 {
        return;
    }
    for (running, sum) in running.iter_mut().zip(sums) {
        let old = f64::from(*running);
        *running = momentum.mul_add(sum / rows as f64 - old, old) as f32;
    }
}
