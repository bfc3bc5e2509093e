//! A rank's rows forward and backward through the network.

use super::factors::UpdateProfile;
use super::{Lockstep, SharedLayer, StepContext, StepFlags, Update, should_update};
use crate::comm::{Reduce, Strategy};
use crate::kernels::{self, Score};
use crate::metrics::Seconds;
use crate::model::{Gradients, Model, Params};
use crate::optim::Optimizer;
use crate::position::{self, Phase};
use crate::stopwatch::Stopwatch;
use crate::trace::What;
use crate::train::data::TrainData;
use crate::train::micro_batch::next_run;

impl Lockstep<'_> {
    /// Micro-batch by micro-batch: this rank's sums of all gradients. Those of dense layers are sent to other groups before the
    /// backward pass of the convolutions, which hides the messages.
    pub(super) fn pass_summed(
        &mut self,
        model: &Model,
        params: &Params,
        data: &TrainData,
        context: &StepContext,
        seconds: &mut Seconds,
    ) {
        let training = context.training();
        let Lockstep { workspace: ws, sums, rows, trees, sections, topology, config, .. } = self;
        let mut stopwatch = Stopwatch::start();
        let leaves = &trees.ranks.own;
        let image = model.image_params().end;
        let (mut depth, mut next, mut start, mut done) = (0, 0, 0, 0);
        while next < leaves.len() {
            let mut run = std::mem::take(&mut ws.leaves);
            let (count, merges) = next_run(&leaves[next..], start, ws.capacity, &mut run);
            let end = leaves[next + count - 1].end;
            ws.leaves = run;
            sums[depth].start();
            for micro_batch in rows[start..end].chunks(ws.capacity) {
                if micro_batch.len() < end - start {
                    // A part of one shard.
                    ws.leaves.clear();
                }
                done += micro_batch.len();
                let whole = done == end;
                ws.probe.at(next, whole);
                let began = topology.trace.now();
                position::enter(Phase::Load);
                data.train.fill(micro_batch, &data.normalizer, ws);
                data.augment(training, ws);
                topology.trace.end(began, What::Load, 0, [0; 4]);
                stopwatch.lap(&mut seconds.load);
                position::enter(Phase::Forward);
                model.forward(params, ws, Some(training));
                stopwatch.lap(&mut seconds.forward);
                let own = &mut sums[depth..=depth];
                position::enter(Phase::Backward);
                let accumulate = model.backward_loss(ws, own);
                let steps = model.rows_from()..model.steps();
                model.backward_rows(steps, params, ws, training, &mut own[0], accumulate);
                if whole {
                    merge_last(sums, depth, merges, image..model.parameters());
                    if next + count == leaves.len() && config.reduce == Reduce::Tree && topology.is_multi_node() {
                        stopwatch.lap(&mut seconds.backward);
                        topology.node_barrier();
                        sections[1].start(trees, topology);
                        stopwatch.lap(&mut seconds.sync);
                    }
                }
                let own = &mut sums[depth..=depth];
                model.backward_images(params, ws, training, own, accumulate, &mut || topology.comm.progress());
                if whole {
                    merge_last(sums, depth, merges, 0..image);
                }
                stopwatch.lap(&mut seconds.backward);
            }
            for _ in 0..merges {
                let (left, right) = sums.split_at_mut(depth);
                depth -= 1;
                left[depth].score = left[depth].score + right[0].score;
            }
            (depth, next, start) = (depth + 1, next + count, end);
        }
        if leaves.is_empty() && config.reduce == Reduce::Tree && topology.is_multi_node() {
            topology.node_barrier();
            sections[1].start(trees, topology);
        }
        self.publish_scores(context.flags);
    }

    /// All rows at once, because dense layers are shared out: a rank without rows takes part in every exchange.
    pub(super) fn pass_shared(
        &mut self,
        model: &Model,
        params: &mut Params,
        optimizer: &mut Optimizer,
        data: &TrainData,
        context: &StepContext,
        seconds: &mut Seconds,
    ) {
        let training = context.training();
        let mut stopwatch = Stopwatch::start();
        let ws = &mut self.workspace;
        ws.leaves.clear();
        ws.leaves.extend_from_slice(&self.trees.ranks.own);
        ws.probe.at(0, true);
        let began = self.topology.trace.now();
        position::enter(Phase::Load);
        data.train.fill(&self.rows, &data.normalizer, ws);
        data.augment(training, ws);
        self.topology.trace.end(began, What::Load, 0, [0; 4]);
        stopwatch.lap(&mut seconds.load);
        position::enter(Phase::Forward);
        self.forward_shared(model, params, training, seconds);
        position::enter(Phase::Backward);
        stopwatch = Stopwatch::start();
        let (ws, sums) = (&mut self.workspace, &mut self.sums);
        sums.iter_mut().for_each(Gradients::start);
        model.backward_loss(ws, sums);
        self.publish_scores(context.flags);
        let mut end = model.steps();
        for index in (0..self.layers.len()).rev() {
            let Lockstep { workspace: ws, layers, topology, sums, .. } = self;
            let layer = &mut layers[index];
            if topology.own_rows() > 0 {
                let steps = layer.step.step + 1..end;
                model.backward_rows(steps, params, ws, training, &mut sums[0], false);
                model.watch_rows(ws, &layer.step);
            }
            layer.publish_d_outputs(ws, topology);
            end = layer.step.step;
            if layer.strategy == Strategy::Factors {
                layer.backward_own_rows(params, ws, topology);
            } else {
                stopwatch.lap(&mut seconds.backward);
                layer.messages.finish_d_outputs(topology);
                topology.node_barrier();
                if self.agreed.is_none() {
                    self.exchange_scores(context.flags);
                }
                stopwatch.lap(&mut seconds.sync);
                let (score, flags) = self.agreed.unwrap_or_default();
                if !should_update(score, flags) {
                    return;
                }
                self.backward_split(index, params, optimizer, &mut stopwatch, seconds);
            }
            if self.topology.own_rows() > 0 {
                model.add_d_input(&mut self.workspace, &self.layers[index].step);
            }
        }
        let Lockstep { workspace: ws, topology, sums, .. } = self;
        if topology.own_rows() > 0 {
            model.backward_images(params, ws, training, sums, false, &mut || topology.comm.progress());
        }
        stopwatch.lap(&mut seconds.backward);
    }

    fn forward_shared(&mut self, model: &Model, params: &Params, training: (u64, usize), seconds: &mut Seconds) {
        let Lockstep { workspace: ws, layers, topology, .. } = self;
        let mut stopwatch = Stopwatch::start();
        let rows = topology.own_rows();
        let by_rows = |layer: &SharedLayer| layer.strategy == Strategy::Factors && topology.is_multi_node();
        layers
            .iter()
            .filter(|layer| by_rows(layer))
            .for_each(|layer| layer.messages.expect_rows(topology, layer.index));
        model.forward_images(params, ws, Some(training), &mut |row| {
            for layer in layers.iter().filter(|layer| by_rows(layer) && layer.step.reads_images) {
                layer.send_row(topology, row);
            }
            topology.comm.progress();
        });
        let mut step = model.rows_from();
        for layer in layers.iter_mut() {
            if rows > 0 {
                model.forward_rows(step..layer.step.step, params, ws, Some(training));
            }
            step = layer.step.step;
            if !layer.is_whole(topology) {
                stopwatch.lap(&mut seconds.forward);
                layer.forward(params, ws, topology, seconds);
                stopwatch = Stopwatch::start();
                step += 1;
            } else if layer.strategy == Strategy::Factors && topology.is_multi_node() && !layer.step.reads_images {
                (0..rows).for_each(|row| layer.send_row(topology, row));
            }
        }
        if rows > 0 {
            model.forward_rows(step..model.steps(), params, ws, Some(training));
        }
        stopwatch.lap(&mut seconds.forward);
    }

    /// A layer whose weights are split: the gradients of all rows' inputs by this rank's weights, and the update of these.
    fn backward_split(
        &mut self,
        index: usize,
        params: &mut Params,
        optimizer: &mut Optimizer,
        stopwatch: &mut Stopwatch,
        seconds: &mut Seconds,
    ) {
        let Lockstep { workspace: ws, layers, topology, trees, total, .. } = self;
        let layer = &mut layers[index];
        let update = match optimizer.wants_norm() {
            true => Update::Later(total, params),
            false => Update::Now(optimizer, params),
        };
        let place = layer.step.d_input.map(|slot| ws.gradient_range(slot));
        let profile = UpdateProfile::new(ws.times(layer.step.step), topology.trace.now());
        let updating = layer.update(&trees.ranks.leaves, update, topology, place, profile);
        stopwatch.lap(&mut seconds.backward);
        (seconds.update, seconds.backward) = (seconds.update + updating, seconds.backward - updating);
        layer.exchange_d_inputs(ws, topology);
        topology.node_barrier();
        stopwatch.lap(&mut seconds.sync);
    }

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

/// Merges the sum at `depth` with `merges` that wait, the newest first, as far as these parameters go.
fn merge_last(sums: &mut [Gradients], mut depth: usize, merges: usize, place: std::ops::Range<usize>) {
    for _ in 0..merges {
        let (left, right) = sums.split_at_mut(depth);
        depth -= 1;
        kernels::add(&mut left[depth].values[place.clone()], &right[0].values[place.clone()]);
    }
}
