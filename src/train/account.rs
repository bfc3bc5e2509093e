//! What a run says of itself: what it is, and what it came to.

use super::run::Run;
use crate::comm::Communicator;
use crate::data::{Part, class_names};
use crate::metrics::{EpochLine, Seconds, Slowest, Summary};
use crate::plural::plural;

impl Run<'_> {
    /// What runs, for a person.
    pub fn describe(&self) -> String {
        let (data, config) = (&self.data, self.config);
        let rows = |part: &Option<Part>| part.as_ref().map_or(0, |part| part.shards.rows());
        format!(
            "training '{}' ({}) on {}: {} train, {} val, {} test rows of {}, classes {}\n\
             {} ({}), {}, batch {}, {}, {} lr {}, seed {}{}",
            self.model.spec.name,
            plural(self.model.parameters(), "parameter"),
            config.data.display(),
            data.train.shards.rows(),
            rows(&data.val),
            rows(&data.test),
            data.shape,
            class_names::brief(&data.classes),
            plural(self.comm.size(), "rank"),
            self.comm.describe(),
            plural(config.shards, "shard"),
            self.batch,
            plural(config.epochs, "epoch"),
            format!("{:?}", config.optimizer).to_lowercase(),
            config.lr,
            config.seed,
            if self.comm.size() == 1 { String::new() } else { format!("\n{}", self.lockstep.describe(&self.model)) },
        )
    }

    /// What the run came to, of which these are the lines.
    pub fn summary(&self, lines: &[EpochLine]) -> Summary {
        let (last, progress) = (lines.last(), self.now(false));
        let mut exchange = progress.exchange;
        exchange += progress.sums.exchange;
        let training_seconds = progress.training_seconds + progress.sums.wall_seconds;
        let value = |get: fn(&EpochLine) -> f64| last.map_or(f64::NAN, get);
        Summary {
            model: self.model.spec.name.clone(),
            parameters: self.model.parameters(),
            train_rows: self.rows(),
            val_rows: self.data.val.as_ref().map_or(0, |part| part.shards.rows()),
            test_rows: self.data.test.as_ref().map_or(0, |part| part.shards.rows()),
            ranks: self.comm.size(),
            shards: self.config.shards,
            epochs: lines.len(),
            steps: progress.step,
            train_loss: value(|line| line.train_loss),
            train_accuracy: value(|line| line.train_accuracy),
            val_loss: last.and_then(|line| line.val_loss),
            val_accuracy: last.and_then(|line| line.val_accuracy),
            test_loss: last.and_then(|line| line.test_loss),
            test_accuracy: last.and_then(|line| line.test_accuracy),
            val_balance: last.and_then(|line| line.val_balance),
            test_balance: last.and_then(|line| line.test_balance),
            best_epoch: progress.best.map(|best| best.epoch),
            images_per_sec: (progress.rows + progress.sums.count) as f64 / training_seconds,
            training_seconds,
            bytes_communicated: progress.bytes,
            exchange,
            failed_checkpoints: progress.failed_writes,
            weights_sha256: self.params.sha256(),
            wall_seconds: progress.wall_seconds,
            members: Vec::new(),
        }
    }
}

/// Collective: each phase's time, averaged over the ranks, and which of several ranks computed longest.
pub fn seconds_of_ranks(comm: &dyn Communicator, own: Seconds) -> (Seconds, Option<Slowest>) {
    let Seconds { load, forward, backward, sync, update, evaluate } = own;
    let (size, busy) = (comm.size(), load + forward + backward + update);
    // Each rank's own time in a place of its own: one sum brings all of it.
    let mut sums = vec![load, forward, backward, sync, update, evaluate];
    sums.extend((0..size).map(|rank| if rank == comm.rank() { busy } else { 0.0 }));
    comm.allreduce_f64(&mut sums);
    let each = sums.split_off(6);
    let mean = each.iter().sum::<f64>() / size as f64;
    let longest = each.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).filter(|_| size > 1);
    let slowest = longest.map(|(rank, &seconds)| Slowest { rank, seconds, mean });
    let [load, forward, backward, sync, update, evaluate] = std::array::from_fn(|phase| sums[phase] / size as f64);
    (Seconds { load, forward, backward, sync, update, evaluate }, slowest)
}
