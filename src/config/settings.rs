//! Everything that can be set: each a flag, and a key of the same name in the file given with `--config`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Batch, Every, ModelChoice, Recipe, RunConfig, Together};
use crate::comm::{Comm, Reduce, SharedWindow, Wire};
use crate::data::{Augment, Normalize};
use crate::error::{Error, Result, in_words, indented, nearest};
use crate::model::{Engine, Init, zoo};
use crate::optim::{OptimizerKind, Schedule};
use crate::row_count::RowCount;

/// What was set, in one place; what was not is `None`.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// Dataset to train on [default: glasses.h5; made by `glasses synth` if it is not there]
    #[arg(long, value_name = "FILE.h5")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Network: glasses, glasses-deep, glasses-wide, mnist, spiral, convnet, resnet9|18|20|32|34|50|56, mobilenet_v2, efficientnet_lite0, or a
    /// model file [default: glasses]
    #[arg(long, value_name = "NAME|FILE.toml")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelChoice>,
    /// Start from a whole recipe instead of the defaults
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
    /// Rows a step, over all ranks together; 'full' is plain gradient descent [default: 16]
    #[arg(long, value_name = "N|full")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// Passes over the training rows [default: 10]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// Learning rate [default: 0.0005]
    #[arg(long, value_name = "F")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// How gradients change weights [default: adamw]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerKind>,
    /// Momentum of 'momentum' and 'nesterov' [default: 0.9]
    #[arg(long, value_name = "F")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Weight decay: decoupled for adamw, L2 for the others [default: 0.01 for adamw, else 0]
    #[arg(long, value_name = "F")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Let weights and biases of norms, and other biases, decay [default: false for networks with norms, else true]
    #[arg(long, value_name = "BOOL", value_parser = clap::builder::BoolishValueParser::new())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_norms: Option<bool>,
    /// How the learning rate changes over the run [default: cosine]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Epochs over which the learning rate first rises linearly; may be a fraction [default: 1]
    #[arg(long, value_name = "F")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_epochs: Option<f64>,
    /// Limit each value of the averaged gradient to this size [default: no limit]
    #[arg(long, value_name = "F")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    /// Limit the Euclidean norm of the averaged gradient [default: no limit]
    #[arg(long, value_name = "F")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// How initial weights are spread [default: he]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// Let the last norm of each residual block begin with weights of zero (Goyal et al. 2017) [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_init_residual: Option<bool>,
    /// Engine for convolutions and dense layers [default: direct]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernels: Option<Engine>,
    /// How rows are prepared [default: per-image for images, dataset for features]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalize>,
    /// Changes to training pictures that keep their class [default: mirror for colour pictures, else none]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    /// Shards that the rows are cut into; part of the run's arithmetic, at least the ranks [default: 8, or the ranks if more]
    #[arg(long, value_name = "S")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<usize>,
    /// Seed of every random choice [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Draw the training rows anew, with replacement: each network of an ensemble learns from others [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<bool>,
    /// What the ranks make together: one network in lockstep, or an ensemble [default: lockstep]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Together>,
    /// Networks of an ensemble, with seeds one after the other [default: one for each group of ranks]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<usize>,
    /// Ranks that train one network of an ensemble, in lockstep among themselves [default: 1]
    #[arg(long, value_name = "R")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks_per_member: Option<usize>,
    /// Folder for the results; must be new or empty [default: a new runs/TIME-MODEL]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// Stop after this many steps (optimizer updates) [default: when the epochs are done]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    /// Evaluate after every N epochs, and at the end [default: 1]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<usize>,
    /// How the ranks' gradients become one sum [default: tree]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduce: Option<Reduce>,
    /// How dense layers' gradients reach all ranks: the same bits, at other speeds [default: auto]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<Comm>,
    /// Whether ranks of one machine work in shared memory instead of sending messages [default: auto]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<SharedWindow>,
    /// Width of the numbers that travel between machines [default: f32]
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<Wire>,
    /// Least rows of a group whose rows batch norms normalise together; 'all': the rows of a step [default: all]
    #[arg(long, value_name = "N|all")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_rows: Option<RowCount>,
    /// Rows of a shard that are shuffled together, block by block of the file; 'all': those of the shard [default: all]
    #[arg(long, value_name = "N|all")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shuffle_window: Option<RowCount>,
    /// Rows of such a block, of which the window takes as many as fit, one at least [default: the file's chunk]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shuffle_block: Option<usize>,
    /// How often the run's state is saved, for --resume: 10min, 200steps (or 200), 1epoch, never [default: 10min]
    #[arg(long, value_name = "TIME|STEPS|EPOCHS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<Every>,
    /// Checkpoints that are kept, the newest ones [default: 2]
    #[arg(long, value_name = "K")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    /// Checkpoints that may fail, one after the other, before the run ends [default: 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failed_checkpoints: Option<u64>,
    /// Give up a rank that says nothing, or gets no further, for so many seconds; 0: never [default: 60]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_timeout: Option<u64>,
    /// Compare the ranks' weights and write their digests every N steps, and at every epoch's end [default: 50]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_every: Option<usize>,
    /// Write a timeline of all ranks here, for ui.perfetto.dev or chrome://tracing; a file that is there is replaced [default: none]
    #[arg(long, value_name = "FILE.json")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<PathBuf>,
    /// Also write event files for TensorBoard into the run's folder: curves, confusion matrix, example pictures [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensorboard: Option<bool>,
}

/// The most bytes of a settings file.
const LONGEST: u64 = 1 << 20;

impl Settings {
    /// Reads a settings file.
    ///
    /// # Errors
    /// When it cannot be read or holds an unknown key (the nearest known one is suggested) or a value of a wrong kind.
    pub fn read(path: &Path) -> Result<Settings> {
        let invalid = |found: String, expected: &str, fix: String| {
            Error::invalid(path.display().to_string(), found, expected, fix)
        };
        let mut text = String::new();
        let file = crate::files::open(path)?;
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(Error::io("read", path))?;
        if text.len() as u64 > LONGEST {
            let fix = "name the TOML file with the settings".to_owned();
            return Err(invalid(format!("more than {LONGEST} bytes"), "settings", fix));
        }
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            invalid(indented(&in_words(&e.to_string())), "TOML", "see the marked place".to_owned())
        })?;
        // A network is written as a section of its own.
        let section = |(key, value): (&String, &toml::Value)| match value {
            toml::Value::Table(_) if key != "model" => Some(format!("a section [{key}]")),
            toml::Value::Array(all) if all.iter().any(toml::Value::is_table) => Some(format!("sections [[{key}]]")),
            _ => None,
        };
        if let Some(found) = table.iter().find_map(section) {
            let fix = "take the line in brackets out: settings stand at the top, without sections".to_owned();
            return Err(invalid(found, "lines such as epochs = 5, without sections", fix));
        }
        let known = Settings::keys();
        if let Some(key) = table.keys().find(|key| !known.contains(key)) {
            let fix = match nearest(key, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("known keys: {}", known.join(", ")),
            };
            return Err(invalid(format!("unknown key '{key}'"), "the names of train's options", fix));
        }
        toml::from_str(&text).map_err(|e| {
            invalid(
                indented(&in_words(&e.to_string())),
                "a value of the kind that the option takes",
                "see `glasses train --help`".to_owned(),
            )
        })
    }

    /// The names of all settings.
    pub fn keys() -> Vec<String> {
        let command = <Settings as clap::Args>::augment_args(clap::Command::new("glasses"));
        command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect()
    }

    fn recipe(recipe: Option<Recipe>) -> Settings {
        match recipe {
            None => Settings::default(),
            Some(Recipe::Paper) => Settings {
                optimizer: Some(OptimizerKind::Sgd),
                lr: Some(1e-3),
                batch: Some(Batch::Rows(16)),
                epochs: Some(50),
                schedule: Some(Schedule::Constant),
                warmup_epochs: Some(0.0),
                weight_decay: Some(0.0),
                augment: Some(Augment::None),
                ..Settings::default()
            },
        }
    }

    /// These settings where they say something, else those of `lower`.
    pub(super) fn over(self, lower: Settings) -> Settings {
        macro_rules! over {
            ($($field:ident)*) => { Settings { $($field: self.$field.or(lower.$field)),* } };
        }
        over!(data model recipe batch epochs lr optimizer momentum weight_decay decay_norms schedule warmup_epochs clip_value
            clip_norm init zero_init_residual kernels normalize augment shards seed bootstrap strategy members ranks_per_member out max_steps eval_every reduce comm window wire norm_rows shuffle_window shuffle_block checkpoint_every
            keep max_failed_checkpoints stall_timeout digest_every trace tensorboard)
    }

    /// Flags over file over recipe over defaults, for a run on `ranks` ranks.
    ///
    /// # Errors
    /// When a value makes no sense, or the model cannot be read.
    pub fn lower(self, file: Settings, ranks: usize) -> Result<RunConfig> {
        let typed = self.over(file);
        let all = typed.clone().over(Settings::recipe(typed.recipe));
        let optimizer = all.optimizer.unwrap_or(OptimizerKind::Adamw);
        let model = all.model.unwrap_or_else(|| ModelChoice::Name("glasses".to_owned()));
        // A file's network is written out, so that config.toml is complete.
        let spec = model.resolve()?;
        let reduce = all.reduce.unwrap_or_default();
        let strategy = all.strategy.unwrap_or_default();
        let each = if strategy == Together::Ensemble { all.ranks_per_member.unwrap_or(1) } else { ranks };
        let config = RunConfig {
            data: all.data.unwrap_or_else(|| super::DEFAULT_DATA.into()),
            batch: all.batch,
            epochs: all.epochs.unwrap_or(10),
            lr: all.lr.unwrap_or(5e-4),
            optimizer,
            momentum: all.momentum.unwrap_or(0.9),
            weight_decay: all.weight_decay.unwrap_or(if optimizer == OptimizerKind::Adamw { 0.01 } else { 0.0 }),
            decay_norms: all.decay_norms,
            schedule: all.schedule.unwrap_or(Schedule::Cosine),
            warmup_epochs: all.warmup_epochs.unwrap_or(1.0),
            clip_value: all.clip_value,
            clip_norm: all.clip_norm,
            init: all.init.unwrap_or_default(),
            zero_init_residual: all.zero_init_residual.unwrap_or(false),
            kernels: all.kernels.unwrap_or_default(),
            normalize: all.normalize,
            augment: all.augment,
            shards: all.shards.unwrap_or(each.max(8)),
            seed: all.seed.unwrap_or(1),
            bootstrap: all.bootstrap.unwrap_or(false),
            strategy,
            members: all.members.or((strategy == Together::Ensemble).then(|| ranks / each.max(1))),
            ranks_per_member: all.ranks_per_member,
            out: all.out,
            max_steps: all.max_steps,
            eval_every: all.eval_every.unwrap_or(1),
            // MPI's own sum knows no other way.
            comm: all.comm.unwrap_or(if reduce == Reduce::Mpi { Comm::Reduce } else { Comm::Auto }),
            window: all.window.unwrap_or(if reduce == Reduce::Mpi { SharedWindow::Off } else { SharedWindow::Auto }),
            wire: all.wire.unwrap_or_default(),
            reduce,
            norm_rows: all.norm_rows.unwrap_or_default(),
            shuffle_window: all.shuffle_window.unwrap_or_default(),
            // Of all rows of a shard together there are no blocks.
            shuffle_block: all.shuffle_block.filter(|_| all.shuffle_window.is_some_and(|window| !window.is_all())),
            checkpoint_every: all.checkpoint_every.unwrap_or(Every::Time(Duration::from_secs(600))),
            keep: all.keep.unwrap_or(2),
            max_failed_checkpoints: all.max_failed_checkpoints.unwrap_or(20),
            stall_timeout: all.stall_timeout.unwrap_or(60),
            digest_every: all.digest_every.unwrap_or(50),
            trace: all.trace,
            tensorboard: all.tensorboard.unwrap_or(false),
            model: match model {
                ModelChoice::Name(name) if zoo::names().any(|known| known == name) => ModelChoice::Name(name),
                _ => ModelChoice::Spec(spec),
            },
        };
        config.validate(ranks)?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_recipe() {
        let file = Settings { lr: Some(0.5), epochs: Some(3), recipe: Some(Recipe::Paper), ..Settings::default() };
        let flags = Settings { lr: Some(0.25), ..Settings::default() };
        let config = flags.lower(file, 1).unwrap();
        assert_eq!((config.lr, config.epochs, config.optimizer), (0.25, 3, OptimizerKind::Sgd));
        assert_eq!((config.schedule, config.weight_decay), (Schedule::Constant, 0.0));
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_run() {
        let flags = Settings { batch: Some(Batch::Full), clip_norm: Some(1.5), ..Settings::default() };
        let config = flags.lower(Settings::default(), 1).unwrap();
        let file: Settings = toml::from_str(&config.to_toml().unwrap()).unwrap();
        assert_eq!(Settings::default().lower(file, 1).unwrap(), config);
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_the_option_s_name() {
        let refused = |settings: Settings, ranks| settings.lower(Settings::default(), ranks).unwrap_err().to_string();
        assert!(refused(Settings { lr: Some(f64::NAN), ..Settings::default() }, 1).contains("--lr"));
        assert!(refused(Settings { batch: Some(Batch::Rows(0)), ..Settings::default() }, 1).contains("--batch"));
        assert!(refused(Settings { shards: Some(2), ..Settings::default() }, 3).contains("3 ranks for 2 shards"));
    }
}
