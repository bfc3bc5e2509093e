//! A rank's rows on their way through the network and back.

use super::shared::Watch;
use super::{At, Lap, Lockstep, SharedLayer, Tells, Update, goes_on};
use crate::comm::{Reduce, Strategy};
use crate::kernels::{self, Score};
use crate::metrics::Seconds;
use crate::model::{Gradients, Model, Params};
use crate::optim::Optimizer;
use crate::position::{self, Phase};
use crate::trace::What;
use crate::train::data::TrainData;
use crate::train::micro_batch::next_run;

impl Lockstep<'_> {
    /// Micro-batch by micro-batch: this rank's sums of all gradients. Those of dense layers leave for other groups before
    /// the convolutions' way back, which they so take place behind.
    pub(super) fn pass_summed(
        &mut self,
        model: &Model,
        params: &Params,
        data: &TrainData,
        (training, tells): ((u64, usize), Tells),
        seconds: &mut Seconds,
    ) {
        let Lockstep { workspace: ws, sums, rows, trees, sections, team, how, .. } = self;
        let mut lap = Lap::start();
        let leaves = &trees.ranks.own;
        let image = model.image_params().end;
        let (mut depth, mut next, mut start, mut done) = (0, 0, 0, 0);
        while next < leaves.len() {
            let mut run = std::mem::take(&mut ws.leaves);
            let (count, joins) = next_run(&leaves[next..], start, ws.capacity, &mut run);
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
                let began = team.trace.now();
                position::enter(Phase::Load);
                data.train.fill(micro_batch, &data.normalizer, ws);
                data.augment(training, ws);
                team.trace.end(began, What::Load, 0, [0; 4]);
                lap.end(&mut seconds.load);
                position::enter(Phase::Forward);
                model.forward(params, ws, Some(training));
                lap.end(&mut seconds.forward);
                let own = &mut sums[depth..=depth];
                position::enter(Phase::Backward);
                let accumulate = model.backward_loss(ws, own);
                let steps = model.rows_from()..model.steps();
                model.backward_rows(steps, params, ws, training, &mut own[0], accumulate);
                if whole {
                    join_last(sums, depth, joins, image..model.parameters());
                    if next + count == leaves.len() && how.reduce == Reduce::Tree && team.is_spread() {
                        lap.end(&mut seconds.backward);
                        team.meet();
                        sections[1].start(trees, team);
                        lap.end(&mut seconds.sync);
                    }
                }
                let own = &mut sums[depth..=depth];
                model.backward_images(params, ws, training, own, accumulate, &mut || team.comm.progress());
                if whole {
                    join_last(sums, depth, joins, 0..image);
                }
                lap.end(&mut seconds.backward);
            }
            for _ in 0..joins {
                let (left, right) = sums.split_at_mut(depth);
                depth -= 1;
                left[depth].score = left[depth].score + right[0].score;
            }
            (depth, next, start) = (depth + 1, next + count, end);
        }
        if leaves.is_empty() && how.reduce == Reduce::Tree && team.is_spread() {
            team.meet();
            sections[1].start(trees, team);
        }
        self.show_scores(tells);
    }

    /// All rows at once, because dense layers are shared out: a rank without a row comes along.
    pub(super) fn pass_shared(
        &mut self,
        model: &Model,
        params: &mut Params,
        optimizer: &mut Optimizer,
        data: &TrainData,
        (at, tells): (At, Tells),
        seconds: &mut Seconds,
    ) {
        let mut lap = Lap::start();
        let ws = &mut self.workspace;
        ws.leaves.clear();
        ws.leaves.extend_from_slice(&self.trees.ranks.own);
        ws.probe.at(0, true);
        let began = self.team.trace.now();
        position::enter(Phase::Load);
        data.train.fill(&self.rows, &data.normalizer, ws);
        data.augment(at.training, ws);
        self.team.trace.end(began, What::Load, 0, [0; 4]);
        lap.end(&mut seconds.load);
        position::enter(Phase::Forward);
        self.forward_shared(model, params, at.training, seconds);
        position::enter(Phase::Backward);
        lap = Lap::start();
        let (ws, sums) = (&mut self.workspace, &mut self.sums);
        sums.iter_mut().for_each(Gradients::start);
        model.backward_loss(ws, sums);
        self.show_scores(tells);
        let mut end = model.steps();
        for index in (0..self.layers.len()).rev() {
            let Lockstep { workspace: ws, layers, team, sums, .. } = self;
            let layer = &mut layers[index];
            if team.own_rows() > 0 {
                let steps = layer.step.step + 1..end;
                model.backward_rows(steps, params, ws, at.training, &mut sums[0], false);
                model.watch_rows(ws, &layer.step);
            } else {
                model.skip_rows(layer.step.step + 1..end, ws);
            }
            layer.show(ws, team);
            end = layer.step.step;
            if layer.strategy == Strategy::Factors {
                layer.backward_own_rows(params, ws, team);
            } else {
                lap.end(&mut seconds.backward);
                layer.far.finish_d_outputs(team);
                team.meet();
                if self.agreed.is_none() {
                    self.agree(tells);
                }
                lap.end(&mut seconds.sync);
                let (score, told) = self.agreed.unwrap_or_default();
                if !goes_on(score, told) {
                    return;
                }
                self.backward_split(index, params, optimizer, &mut lap, seconds);
            }
            self.workspace.take_turn();
        }
        let Lockstep { workspace: ws, team, sums, .. } = self;
        if team.own_rows() > 0 {
            model.backward_images(params, ws, at.training, sums, false, &mut || team.comm.progress());
        }
        lap.end(&mut seconds.backward);
    }

    fn forward_shared(&mut self, model: &Model, params: &Params, training: (u64, usize), seconds: &mut Seconds) {
        let Lockstep { workspace: ws, layers, team, .. } = self;
        let mut lap = Lap::start();
        let rows = team.own_rows();
        let by_rows = |layer: &SharedLayer| layer.strategy == Strategy::Factors && team.is_spread();
        layers.iter().filter(|layer| by_rows(layer)).for_each(|layer| layer.far.expect_rows(team, layer.index));
        // The first dense layer reads what the last step image by image wrote.
        let first = layers.first().filter(|layer| by_rows(layer) && layer.step.step == model.rows_from());
        model.forward_images(params, ws, Some(training), &mut |row| {
            if let Some(layer) = first {
                layer.send_row(team, row);
            }
            team.comm.progress();
        });
        let mut step = model.rows_from();
        for layer in layers.iter_mut() {
            if rows > 0 {
                model.forward_rows(step..layer.step.step, params, ws, Some(training));
            }
            step = layer.step.step;
            if !layer.is_whole(team) {
                lap.end(&mut seconds.forward);
                layer.forward(params, ws, team, seconds);
                lap = Lap::start();
                step += 1;
            } else if layer.strategy == Strategy::Factors && team.is_spread() && step != model.rows_from() {
                (0..rows).for_each(|row| layer.send_row(team, row));
            }
        }
        if rows > 0 {
            model.forward_rows(step..model.steps(), params, ws, Some(training));
        }
        lap.end(&mut seconds.forward);
    }

    /// A layer whose weights are split: the gradients of all rows' inputs by this rank's weights, and the update of these.
    fn backward_split(
        &mut self,
        index: usize,
        params: &mut Params,
        optimizer: &mut Optimizer,
        lap: &mut Lap,
        seconds: &mut Seconds,
    ) {
        let Lockstep { workspace: ws, layers, team, trees, total, .. } = self;
        let layer = &mut layers[index];
        let update = match optimizer.wants_norm() {
            true => Update::Later(total, params),
            false => Update::Now(optimizer, params),
        };
        let turn = ws.next_turn();
        let watch = Watch::new(ws.times(layer.step.step), team.trace.now());
        let updating = layer.update(&trees.ranks.leaves, update, team, Some(turn), watch);
        lap.end(&mut seconds.backward);
        (seconds.update, seconds.backward) = (seconds.update + updating, seconds.backward - updating);
        layer.exchange_d_inputs(ws, team);
        team.meet();
        lap.end(&mut seconds.sync);
    }

    /// Shows the others what this rank tells, and its scores.
    pub(super) fn show_scores(&mut self, tells: Tells) {
        let mut shown = self.team.own().scores.alias();
        let shown = bytemuck::cast_slice_mut::<f32, f64>(&mut shown);
        shown.fill(0.0);
        // 1 is a checkpoint, what is more is a signal.
        let due = tells.stop.map_or(u8::from(tells.checkpoint), |signal| 1 + signal);
        [shown[0], shown[1]] = [u8::from(tells.unwell), due].map(f64::from);
        let own = self.trees.ranks.sums_of[self.team.rank()];
        for (two, sum) in shown[2..].as_chunks_mut::<2>().0.iter_mut().zip(&self.sums[..own]) {
            *two = [sum.score.loss_sum, sum.score.correct as f64];
        }
    }

    /// Collective: what the loss said about all rows of the step, and what any rank tells; the ranks of a group have met since they
    /// showed it.
    pub(super) fn agree(&mut self, tells: Tells) {
        let team = &self.team;
        if team.size() == 1 {
            let told = Tells { checkpoint: tells.checkpoint || tells.stop.is_some(), ..tells };
            self.agreed = Some((self.sums[0].score, told));
            return;
        }
        let of_each = self.told.len() / team.size();
        if team.is_spread() {
            let shown = bytemuck::cast_slice::<f32, f64>(&team.own().scores);
            team.comm.gather_f64(shown, &mut self.told);
        } else {
            for (told, area) in self.told.chunks_exact_mut(of_each).zip(&team.areas) {
                told.copy_from_slice(bytemuck::cast_slice(&area.scores));
            }
        }
        let score = |two: &[f64; 2]| Score { loss_sum: two[0], correct: two[1] as u64 };
        let most = |place: usize| self.told.chunks(of_each).fold(0.0, |most: f64, rank| most.max(rank[place])) as u8;
        let due = most(1);
        let stop = (due > 1).then(|| due - 1);
        let told = Tells { unwell: most(0) > 0, checkpoint: due > 0, stop };
        let ranks = self.told.chunks(of_each).map(|rank| rank[2..].as_chunks::<2>().0);
        let joined = match self.how.reduce {
            Reduce::Tree => {
                let tree = &self.trees.ranks;
                let scores = ranks.zip(&tree.sums_of).flat_map(|(rank, &sums)| rank[..sums].iter().map(score));
                tree.join(scores, |a, b| a + b)
            }
            Reduce::Mpi => ranks.map(|rank| score(&rank[0])).reduce(|a, b| a + b),
        };
        self.agreed = Some((joined.unwrap_or_default(), told));
    }
}

/// Joins the sum at `depth` with `joins` that wait, the newest first, as far as these parameters go.
fn join_last(sums: &mut [Gradients], mut depth: usize, joins: usize, place: std::ops::Range<usize>) {
    for _ in 0..joins {
        let (left, right) = sums.split_at_mut(depth);
        depth -= 1;
        kernels::add(&mut left[depth].values[place.clone()], &right[0].values[place.clone()]);
    }
}
