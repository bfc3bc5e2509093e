//! What a run does: defaults < recipe < TOML file < flags, validated once. What it prints is what ran.

mod every;
pub mod grid;
mod settings;
mod strategy;
mod together;

pub use every::Every;
pub use settings::Settings;
pub use strategy::groups;
pub use together::Together;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::comm::{Comm, Reduce, SharedWindow, Wire};
use crate::data::{Augment, Normalize};
use crate::error::{Error, Result, in_words};
use crate::model::Engine;
use crate::model::{Init, ModelSpec, zoo};
use crate::optim::{OptimizerKind, Schedule};
use crate::plural::plural;
use crate::row_count::RowCount;

/// A whole set of settings under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// The paper's own: plain sgd, lr 1e-3, batch 16, 50 epochs, constant, no weight decay
    Paper,
}

/// Rows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "toml::Value", into = "toml::Value")]
pub enum Batch {
    /// All training rows.
    Full,
    /// This many, over all ranks together.
    Rows(usize),
}

impl FromStr for Batch {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Batch::Full),
            _ => text.parse().map(Batch::Rows).map_err(|_| "expected a number of rows, or 'full'".to_owned()),
        }
    }
}

impl TryFrom<toml::Value> for Batch {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::Integer(n) if n >= 0 => Ok(Batch::Rows(n as usize)),
            toml::Value::String(text) => text.parse(),
            other => Err(format!("batch = {other}: expected a number of rows, or \"full\"")),
        }
    }
}

impl From<Batch> for toml::Value {
    fn from(batch: Batch) -> toml::Value {
        match batch {
            Batch::Full => "full".into(),
            Batch::Rows(n) => toml::Value::Integer(n as i64),
        }
    }
}

/// A network by name, by file, or written out (as in the `config.toml` of a run that used a file).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, try_from = "toml::Value")]
pub enum ModelChoice {
    /// A name of the zoo, or a path that ends in `.toml`.
    Name(String),
    /// The network itself.
    Spec(ModelSpec),
}

impl FromStr for ModelChoice {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(ModelChoice::Name(text.to_owned()))
    }
}

/// By hand, because an untagged enum's errors do not say what is wrong with the network.
impl TryFrom<toml::Value> for ModelChoice {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::String(name) => Ok(ModelChoice::Name(name)),
            toml::Value::Table(table) => {
                table.try_into().map(ModelChoice::Spec).map_err(|e: toml::de::Error| in_words(e.message()))
            }
            other => Err(format!("model = {other}: expected a name, a file, or a table with name and layers")),
        }
    }
}

impl ModelChoice {
    /// The network.
    ///
    /// # Errors
    /// When the name is not known or the file cannot be read.
    pub fn resolve(&self) -> Result<ModelSpec> {
        match self {
            ModelChoice::Spec(spec) => Ok(spec.clone()),
            ModelChoice::Name(name) if name.ends_with(".toml") => ModelSpec::read(Path::new(name)),
            ModelChoice::Name(name) => zoo::find(name),
        }
    }
}

/// A run's complete settings. Those that only the data can decide are `None` until it is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)] // Each is described at the setting of the same name.
pub struct RunConfig {
    pub data: PathBuf,
    pub batch: Option<Batch>,
    pub epochs: usize,
    pub lr: f64,
    pub optimizer: OptimizerKind,
    pub momentum: f64,
    pub weight_decay: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_norms: Option<bool>,
    pub schedule: Schedule,
    pub warmup_epochs: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    pub init: Init,
    #[serde(default, skip_serializing_if = "is_false")]
    pub zero_init_residual: bool,
    pub kernels: Engine,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    pub shards: usize,
    pub seed: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub bootstrap: bool,
    #[serde(default, skip_serializing_if = "Together::is_lockstep")]
    pub strategy: Together,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks_per_member: Option<usize>,
    /// Not written to `config.toml`: given back with `--config`, a run gets a folder of its own.
    #[serde(skip_serializing)]
    pub out: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<usize>,
    pub eval_every: usize,
    pub reduce: Reduce,
    pub comm: Comm,
    pub window: SharedWindow,
    pub wire: Wire,
    #[serde(default, skip_serializing_if = "RowCount::is_all")]
    pub norm_rows: RowCount,
    #[serde(default, skip_serializing_if = "RowCount::is_all")]
    pub shuffle_window: RowCount,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shuffle_block: Option<usize>,
    pub checkpoint_every: Every,
    pub keep: usize,
    pub max_failed_checkpoints: u64,
    pub stall_timeout: u64,
    pub digest_every: usize,
    /// Not written to `config.toml`: what goes on or begins again would write over it.
    #[serde(skip_serializing)]
    pub trace: Option<PathBuf>,
    pub tensorboard: bool,
    pub model: ModelChoice,
}

/// What older runs did not write stands for what they did.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde passes references.
fn is_false(value: &bool) -> bool {
    !*value
}

/// The dataset of a run that names none.
pub const DEFAULT_DATA: &str = "glasses.h5";

impl RunConfig {
    fn validate(&self, ranks: usize) -> Result<()> {
        let check = |holds: bool, option: &str, found: String, expected: &str| {
            let fix = "see `glasses train --help`";
            if holds { Ok(()) } else { Err(Error::invalid(format!("--{option}"), found, expected, fix)) }
        };
        let positive = |option: &str, value: f64| {
            check(value.is_finite() && value > 0.0, option, value.to_string(), "a positive number")
        };
        // The limit keeps products of settings within 64 bits, and every setting within what TOML can hold.
        let count = |option: &str, value: usize| {
            check((1..=1 << 32).contains(&(value as u64)), option, value.to_string(), "1 to 4294967296")
        };
        if let Some(Batch::Rows(rows)) = self.batch {
            count("batch", rows)?;
        }
        count("epochs", self.epochs)?;
        count("eval-every", self.eval_every)?;
        count("max-steps", self.max_steps.unwrap_or(1))?;
        count("shards", self.shards)?;
        count("keep", self.keep)?;
        count("digest-every", self.digest_every)?;
        count("shuffle-block", self.shuffle_block.unwrap_or(1))?;
        count("max-failed-checkpoints", self.max_failed_checkpoints as usize)?;
        count("stall-timeout", self.stall_timeout.max(1) as usize)?;
        check(self.shards <= 1 << 16, "shards", self.shards.to_string(), "at most 65536")?;
        positive("lr", self.lr)?;
        positive("clip-value", self.clip_value.unwrap_or(1.0))?;
        positive("clip-norm", self.clip_norm.unwrap_or(1.0))?;
        check((0.0..1.0).contains(&self.momentum), "momentum", self.momentum.to_string(), "at least 0 and below 1")?;
        for (option, value) in [("weight-decay", self.weight_decay), ("warmup-epochs", self.warmup_epochs)] {
            check(value.is_finite() && value >= 0.0, option, value.to_string(), "at least 0")?;
        }
        if self.reduce == Reduce::Mpi {
            let refused = [
                ("comm", format!("{:?}", self.comm), self.comm == Comm::Reduce, "reduce"),
                ("window", format!("{:?}", self.window), self.window == SharedWindow::Off, "off"),
                ("wire", format!("{:?}", self.wire), self.wire == Wire::F32, "f32"),
            ];
            for (option, found, holds, only) in refused {
                let expected = format!("--{option} {only}, the only one that goes with --reduce mpi");
                check(holds, option, found.to_lowercase(), &expected)?;
            }
        }
        self.validate_ensemble(ranks)?;
        self.enough_shards(ranks)
    }

    /// The path of the data that holds in every folder; the one that was given where the folder's name is no text, as TOML wants it.
    pub fn data_from_everywhere(&self) -> PathBuf {
        let whole = std::path::absolute(&self.data).ok().filter(|path| path.to_str().is_some());
        whole.unwrap_or_else(|| self.data.clone())
    }

    /// Whether the learning rate has risen before the run ends.
    ///
    /// # Errors
    /// When it has not.
    pub fn check_warmup(&self) -> Result<()> {
        if self.warmup_epochs <= self.epochs as f64 {
            return Ok(());
        }
        let (found, epochs) = (self.warmup_epochs, self.epochs);
        let fix = "lower it, or raise --epochs: the learning rate would still be rising at the run's end";
        Err(Error::invalid("--warmup-epochs", found.to_string(), format!("at most --epochs, which is {epochs}"), fix))
    }

    /// Whether each of `ranks` ranks has a shard.
    ///
    /// # Errors
    /// When one has none.
    pub fn enough_shards(&self, ranks: usize) -> Result<()> {
        let ranks = self.ranks_of_run(ranks);
        if ranks > self.shards {
            return Err(Error::invalid(
                "--shards",
                format!("{} for {}", plural(ranks, "rank"), plural(self.shards, "shard")),
                "at least one shard a rank",
                format!(
                    "start at most {}, or pass --shards {ranks} (which changes the run)",
                    plural(self.shards, "rank")
                ),
            ));
        }
        Ok(())
    }

    /// The setting that makes the weights depend on the number of ranks, if there is one.
    pub fn binds_ranks(&self) -> Option<&'static str> {
        match (self.reduce, self.wire) {
            (Reduce::Mpi, _) => Some("--reduce mpi"),
            (_, Wire::Bf16) => Some("--wire bf16"),
            _ => None,
        }
    }

    /// The complete settings as TOML, as they stand in a run's `config.toml`.
    ///
    /// # Errors
    /// Never in practice: every setting has a TOML form.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| {
            Error::invalid("the settings", e.to_string(), "values that TOML can hold", "please report this as a bug")
        })
    }
}
