//! The running statistics of batch norms: what a step's rows bring to them.

use super::Lockstep;
use super::norm_statistics::{Exchanged, NormStep};
use super::norms::StepNorms;
use crate::comm::Reduce;
use crate::kernels;
use crate::model::{Model, NormSum, Params};

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
