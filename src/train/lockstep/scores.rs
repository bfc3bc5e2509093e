//! Scores and flags of a step: each rank publishes its own, all ranks get those of all.

use super::{Lockstep, StepFlags};
use crate::comm::Reduce;
use crate::kernels::Score;

impl Lockstep<'_> {
    /// Writes this rank's flags and scores to its shared segment.
    pub(super) fn publish_scores(&mut self, flags: StepFlags) {
        let mut published = self.topology.own().scores.alias();
        let published = bytemuck::cast_slice_mut::<f32, f64>(&mut published);
        published.fill(0.0);
        // 1 is a checkpoint, what is more is a signal.
        let due = flags.interrupt.map_or(u8::from(flags.checkpoint), |signal| 1 + signal);
        [published[0], published[1]] = [u8::from(flags.nonfinite), due].map(f64::from);
        let own = self.trees.ranks.sums_of[self.topology.rank()];
        for (two, sum) in published[2..].as_chunks_mut::<2>().0.iter_mut().zip(&self.sums[..own]) {
            *two = [sum.score.loss_sum, sum.score.correct as f64];
        }
    }

    /// Collective: the scores of all rows of the step, and the flags that any rank raised. A node barrier lies between
    /// [`Lockstep::publish_scores`] and this.
    pub(super) fn exchange_scores(&mut self, flags: StepFlags) {
        let topology = &self.topology;
        if topology.size() == 1 {
            let flags = StepFlags { checkpoint: flags.checkpoint || flags.interrupt.is_some(), ..flags };
            self.agreed = Some((self.sums[0].score, flags));
            return;
        }
        let of_each = self.gathered.len() / topology.size();
        if topology.is_multi_node() {
            let own = bytemuck::cast_slice::<f32, f64>(&topology.own().scores);
            topology.comm.allgather_f64(own, &mut self.gathered);
        } else {
            for (gathered, segment) in self.gathered.chunks_exact_mut(of_each).zip(&topology.segments) {
                gathered.copy_from_slice(bytemuck::cast_slice(&segment.scores));
            }
        }
        let score = |two: &[f64; 2]| Score { loss_sum: two[0], correct: two[1] as u64 };
        let most =
            |place: usize| self.gathered.chunks(of_each).fold(0.0, |most: f64, rank| most.max(rank[place])) as u8;
        let due = most(1);
        let interrupt = (due > 1).then(|| due - 1);
        let flags = StepFlags { nonfinite: most(0) > 0, checkpoint: due > 0, interrupt };
        let ranks = self.gathered.chunks(of_each).map(|rank| rank[2..].as_chunks::<2>().0);
        let merged = match self.config.reduce {
            Reduce::Tree => {
                let tree = &self.trees.ranks;
                let scores = ranks.zip(&tree.sums_of).flat_map(|(rank, &sums)| rank[..sums].iter().map(score));
                tree.merge(scores, |a, b| a + b)
            }
            Reduce::Mpi => ranks.map(|rank| score(&rank[0])).reduce(|a, b| a + b),
        };
        self.agreed = Some((merged.unwrap_or_default(), flags));
    }
}
