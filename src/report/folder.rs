//! What a run's folder holds, read as leniently as can be: a run may be in progress, of another version, or killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result, printable_name};
use crate::files::{read_text, text_if_there};

/// A line of `metrics.jsonl`; what it does not say is nothing.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
#[allow(missing_docs)] // The names are those of [`crate::metrics::EpochLine`].
pub struct Epoch {
    pub epoch: usize,
    pub step: usize,
    pub lr: Option<f64>,
    pub train_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    pub val_loss: Option<f64>,
    pub val_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub seconds: BTreeMap<String, f64>,
    pub images_per_sec: Option<f64>,
    pub slowest: Option<crate::metrics::Slowest>,
    /// Everything else, of which what begins with `bytes` is a count of bytes.
    #[serde(flatten)]
    pub rest: BTreeMap<String, Value>,
}

/// A run, as its files tell it.
#[derive(Clone, Debug, Default)]
pub struct RunFiles {
    /// The folder.
    pub path: PathBuf,
    /// `config.toml`.
    pub config: toml::Table,
    /// `metrics.jsonl`.
    pub epochs: Vec<Epoch>,
    /// `summary.json`, once the run is over.
    pub summary: Option<Value>,
}

/// Phases of an epoch, in the order in which they happen.
pub const PHASES: [&str; 6] = ["load", "forward", "backward", "sync", "update", "evaluate"];

impl RunFiles {
    /// Reads a folder.
    ///
    /// # Errors
    /// When there is no run in it: no `config.toml`, or one that is no TOML.
    pub fn read(path: &Path) -> Result<RunFiles> {
        let no_run = |found: String| {
            Error::invalid(
                path.display().to_string(),
                found,
                "the folder of a run, with config.toml and metrics.jsonl",
                "name a folder that `glasses train` made, such as one in runs/",
            )
        };
        if !path.is_dir() {
            return Err(no_run(if path.exists() { "a file" } else { "no such folder" }.to_owned()));
        }
        let Some(config) = text_if_there(&path.join("config.toml"))? else {
            return Err(no_run("a folder without config.toml".to_owned()));
        };
        let config =
            config.parse().map_err(|e: toml::de::Error| no_run(format!("a config.toml that is none ({e})")))?;
        let lines = read_text(&path.join("metrics.jsonl")).unwrap_or_default();
        // The last line may be half-written, or a killed process may have left one.
        let epochs = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let summary = read_text(&path.join("summary.json")).ok();
        let summary = summary.and_then(|text| serde_json::from_str(&text).ok());
        Ok(RunFiles { path: path.to_owned(), config, epochs, summary })
    }

    /// What the run is called: the last part of its path.
    pub fn name(&self) -> String {
        let absolute = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        absolute
            .file_name()
            .map_or_else(|| "run".to_owned(), |name| printable_name(&name.to_string_lossy()).into_owned())
    }

    /// Its settings, a line each, tables as `model.name`.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        flatten("", &toml::Value::Table(self.config.clone()), &mut found);
        found
    }

    /// The file of its data, as it was when it ran.
    pub fn data(&self) -> Option<PathBuf> {
        self.config.get("data").and_then(toml::Value::as_str).map(PathBuf::from)
    }

    /// A text or number of the summary.
    pub fn summary_of(&self, key: &str) -> Option<&Value> {
        self.summary.as_ref()?.get(key).filter(|value| !value.is_null())
    }
}

fn flatten(name: &str, value: &toml::Value, found: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&name, value, found);
            }
        }
        toml::Value::Array(values) => {
            let texts: Vec<String> = values.iter().map(show).collect();
            found.insert(name.to_owned(), texts.join(", "));
        }
        value => drop(found.insert(name.to_owned(), show(value))),
    }
}

fn show(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
