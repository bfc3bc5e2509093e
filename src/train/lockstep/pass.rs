//! A rank's rows forward and backward through the network.

use std::ops::Range;

use super::factors::UpdateProfile;
use super::norm_statistics::StepPeers;
use super::step::StepInput;
use super::topology::Topology;
use super::{Lockstep, SharedLayer, Update, should_update};
use crate::comm::{Reduce, Strategy};
use crate::kernels;
use crate::metrics::Seconds;
use crate::model::{Gradients, Params, SumsOf};
use crate::optim::Optimizer;
use crate::position::{self, Phase};
use crate::stopwatch::Stopwatch;
use crate::trace::What;
use crate::train::micro_batch::LeafRun;

impl Lockstep<'_> {
    /// Micro-batch by micro-batch: this rank's sums of all gradients.
    pub(super) fn pass_summed(&mut self, step: &StepInput<'_>, params: &Params, seconds: &mut Seconds) {
        let mut run = LeafRun::default();
        while run.leaves.end < self.trees.ranks.own.len() {
            let Lockstep { workspace: ws, sums, trees, .. } = self;
            run = run.next(&trees.ranks.own, ws.capacity, &mut ws.leaves);
            sums[run.depth].start();
            for rows in run.micro_batches(ws.capacity) {
                self.sum_micro_batch(step, params, &run, rows, seconds);
            }
            let sums = &mut self.sums;
            for depth in (run.depth - run.merges..run.depth).rev() {
                sums[depth].score = sums[depth].score + sums[depth + 1].score;
                self.norms.merge_running(depth);
            }
        }
        if self.trees.ranks.own.is_empty() {
            self.send_dense_sums(seconds);
        }
        self.publish_scores(step.context.flags);
    }

    /// Rows `rows` of `run`, of which this may be a part, forward and backward. Behind the last ones the sums of dense layers are sent to
    /// other groups before the backward pass of the convolutions, which hides the messages.
    fn sum_micro_batch(
        &mut self,
        step: &StepInput<'_>,
        params: &Params,
        run: &LeafRun,
        rows: Range<usize>,
        seconds: &mut Seconds,
    ) {
        let &StepInput { model, context, .. } = step;
        let (training, image, images) = (context.training(), model.summed_params().end, model.image_steps());
        let is_whole = rows.end == run.rows.end;
        let is_last = is_whole && run.leaves.end == self.trees.ranks.own.len();
        let ws = &mut self.workspace;
        if rows.len() < run.rows.len() {
            // A part of one shard.
            ws.leaves.clear();
        }
        ws.probe.at(run.leaves.start, is_whole);
        self.load(step, rows, seconds);
        let mut stopwatch = Stopwatch::start();
        position::enter(Phase::Forward);
        let Lockstep { workspace: ws, norms, topology, .. } = self;
        norms.group(ws, run.leaves.clone());
        model.pack(params, ws);
        model.forward_steps(0..model.steps(), params, ws, Some(training), &mut norms.peers(topology));
        norms.keep_running(model, ws, run.depth);
        stopwatch.lap(&mut seconds.forward);
        position::enter(Phase::Backward);
        let own = &mut self.sums[run.depth..=run.depth];
        let accumulate = model.backward_loss(ws, own);
        let sums = SumsOf { gradients: own, accumulate };
        model.backward_steps(images..model.steps(), params, ws, training, sums, &mut self.norms.peers(&self.topology));
        if is_whole {
            merge_last(&mut self.sums, run, image..model.parameters());
        }
        stopwatch.lap(&mut seconds.backward);
        if is_last {
            self.send_dense_sums(seconds);
            stopwatch = Stopwatch::start();
        }
        let Lockstep { workspace: ws, sums, topology, norms, .. } = self;
        let own = SumsOf { gradients: &mut sums[run.depth..=run.depth], accumulate };
        model.backward_steps(0..images, params, ws, training, own, &mut norms.peers(topology));
        if is_whole {
            merge_last(sums, run, 0..image);
        }
        stopwatch.lap(&mut seconds.backward);
    }

    /// Begins to send the sums of dense layers' gradients to other groups, where there are some.
    fn send_dense_sums(&mut self, seconds: &mut Seconds) {
        let Lockstep { trees, sections, topology, config, .. } = self;
        if config.reduce == Reduce::Tree && topology.is_multi_node() {
            let mut stopwatch = Stopwatch::start();
            topology.node_barrier();
            sections[1].start(trees, topology);
            stopwatch.lap(&mut seconds.sync);
        }
    }

    /// Rows `rows` of this rank's step, prepared, in the workspace.
    fn load(&mut self, step: &StepInput<'_>, rows: Range<usize>, seconds: &mut Seconds) {
        let mut stopwatch = Stopwatch::start();
        let (data, ws) = (step.data, &mut self.workspace);
        let began = self.topology.trace.now();
        position::enter(Phase::Load);
        data.train.fill(&self.rows[rows], &data.normalizer, ws);
        data.augment(step.context.training(), ws);
        self.topology.trace.end(began, What::Load, 0, [0; 4]);
        stopwatch.lap(&mut seconds.load);
    }

    /// All rows at once, because dense layers are shared out or norm groups have rows of several ranks: a rank without rows takes part in
    /// every exchange.
    pub(super) fn pass_at_once(
        &mut self,
        step: &StepInput<'_>,
        params: &mut Params,
        optimizer: &mut Optimizer,
        seconds: &mut Seconds,
    ) {
        let Lockstep { workspace: ws, norms, trees, .. } = self;
        let own = &trees.ranks.own;
        ws.leaves.clear();
        ws.leaves.extend_from_slice(own);
        norms.group(ws, 0..own.len());
        ws.probe.at(0, true);
        self.load(step, 0..self.rows.len(), seconds);
        position::enter(Phase::Forward);
        self.forward_at_once(step, params, seconds);
        if !self.norms.groups.span_ranks {
            self.norms.keep_running(step.model, &mut self.workspace, 0);
        }
        position::enter(Phase::Backward);
        self.backward_at_once(step, params, optimizer, seconds);
    }

    fn forward_at_once(&mut self, step: &StepInput<'_>, params: &Params, seconds: &mut Seconds) {
        let Lockstep { workspace: ws, layers, topology, norms, .. } = self;
        let &StepInput { model, context, .. } = step;
        let training = Some(context.training());
        let mut stopwatch = Stopwatch::start();
        let (rows, images) = (topology.own_rows(), model.image_steps());
        let send_rows =
            |layer: &SharedLayer, topology: &Topology<'_>| (0..rows).for_each(|row| layer.send_row(topology, row));
        for layer in layers.iter().filter(|layer| layer.sends_rows(topology)) {
            layer.messages.expect_rows(topology, layer.index);
            if layer.step.ready == 0 {
                send_rows(layer, topology);
            }
        }
        model.pack(params, ws);
        let mut peers = StepPeers { layers, ..norms.peers(topology) };
        model.forward_steps(0..images, params, ws, training, &mut peers);
        let (mut waited, mut read) = (peers.seconds, peers.read);
        let mut next = images;
        for index in 0..=layers.len() {
            let end = layers.get(index).map_or(model.steps(), |layer| layer.step.step);
            let mut peers = norms.peers(topology);
            model.forward_steps(next..end, params, ws, training, &mut peers);
            (waited, read, next) = (waited + peers.seconds, read + peers.read, end);
            let Some(layer) = layers.get_mut(index) else { break };
            if !layer.is_whole(topology) {
                stopwatch.lap(&mut seconds.forward);
                layer.forward(params, ws, topology, seconds);
                stopwatch = Stopwatch::start();
                next += 1;
            } else if layer.sends_rows(topology) && layer.step.ready > images {
                send_rows(layer, topology);
            }
        }
        topology.has_read(read as usize / 4);
        stopwatch.lap(&mut seconds.forward);
        (seconds.sync, seconds.forward) = (seconds.sync + waited, seconds.forward - waited);
    }

    /// The loss, and the backward pass; it returns early, on all ranks, where a score or a flag of any rank ends the run.
    fn backward_at_once(
        &mut self,
        step: &StepInput<'_>,
        params: &mut Params,
        optimizer: &mut Optimizer,
        seconds: &mut Seconds,
    ) {
        let &StepInput { model, context, .. } = step;
        let mut stopwatch = Stopwatch::start();
        self.sums.iter_mut().for_each(Gradients::start);
        model.backward_loss(&mut self.workspace, &mut self.sums);
        self.publish_scores(context.flags);
        let mut end = model.steps();
        for index in (0..self.layers.len()).rev() {
            self.backward_part(step, self.layers[index].step.step + 1..end, params, seconds);
            let Lockstep { workspace: ws, layers, topology, .. } = self;
            let layer = &mut layers[index];
            if topology.own_rows() > 0 {
                model.watch_rows(ws, &layer.step);
            }
            end = layer.step.step;
            layer.publish_d_outputs(ws, topology);
            stopwatch.lap(&mut seconds.backward);
            let goes_on = match layer.strategy {
                Strategy::Split => self.backward_split(step, index, params, optimizer, seconds),
                _ => {
                    layer.backward_own_rows(params, ws, topology);
                    true
                }
            };
            if !goes_on {
                return;
            }
            stopwatch = Stopwatch::start();
            if self.topology.own_rows() > 0 {
                model.add_d_input(&mut self.workspace, &self.layers[index].step);
            }
        }
        if self.layers.is_empty() {
            let images = model.image_steps();
            self.backward_part(step, images..end, params, seconds);
            stopwatch.lap(&mut seconds.backward);
            self.send_dense_sums(seconds);
            (stopwatch, end) = (Stopwatch::start(), images);
        }
        self.backward_part(step, 0..end, params, seconds);
        stopwatch.lap(&mut seconds.backward);
    }

    /// Some steps backward. What norms wait for other ranks counts as that, and not as work.
    fn backward_part(&mut self, step: &StepInput<'_>, steps: Range<usize>, params: &Params, seconds: &mut Seconds) {
        let Lockstep { workspace: ws, sums, topology, norms, .. } = self;
        let mut peers = norms.peers(topology);
        let sums = SumsOf { gradients: sums, accumulate: false };
        step.model.backward_steps(steps, params, ws, step.context.training(), sums, &mut peers);
        let (waited, read) = (peers.seconds, peers.read);
        topology.has_read(read as usize / 4);
        (seconds.sync, seconds.backward) = (seconds.sync + waited, seconds.backward - waited);
    }

    /// A layer whose weights are split: the gradients of all rows' inputs by this rank's weights, and the update of these. Whether the step
    /// goes on.
    fn backward_split(
        &mut self,
        step: &StepInput<'_>,
        index: usize,
        params: &mut Params,
        optimizer: &mut Optimizer,
        seconds: &mut Seconds,
    ) -> bool {
        let mut stopwatch = Stopwatch::start();
        self.layers[index].messages.finish_d_outputs(&self.topology);
        self.topology.node_barrier();
        if self.agreed.is_none() {
            self.exchange_scores(step.context.flags);
        }
        stopwatch.lap(&mut seconds.sync);
        let (score, flags) = self.agreed.unwrap_or_default();
        if !should_update(score, flags) {
            return false;
        }
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
        true
    }
}

/// Merges the sum of `run` with those that wait for it, the newest first, as far as these parameters go.
fn merge_last(sums: &mut [Gradients], run: &LeafRun, place: Range<usize>) {
    for depth in (run.depth - run.merges..run.depth).rev() {
        let (left, right) = sums.split_at_mut(depth + 1);
        kernels::add(&mut left[depth].values[place.clone()], &right[0].values[place.clone()]);
    }
}
