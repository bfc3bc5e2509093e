//! What other programs call things: the command or the flag of ours that is meant.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Words that stand where a command does.
const COMMANDS: [(&str, &[&str]); 9] = [
    ("train", &["fit", "learn", "run", "finetune", "fine-tune"]),
    ("eval", &["test", "evaluate", "validate", "score", "val"]),
    ("predict", &["infer", "inference", "classify", "detect"]),
    ("ingest", &["convert", "prepare", "preprocess", "dataset", "pack"]),
    ("info", &["inspect", "show", "summary", "describe", "ls"]),
    ("sweep", &["tune", "grid", "search", "hyperopt"]),
    ("bench", &["benchmark", "profile"]),
    ("report", &["plot", "visualize", "visualise"]),
    ("doctor", &["check", "env", "diagnose"]),
];

/// Flags.
const FLAGS: [(&str, &[&str]); 12] = [
    (
        "ranks do the work: mpirun -n 8 glasses …",
        &["workers", "num-workers", "threads", "jobs", "n-jobs", "nproc", "procs", "np"],
    ),
    ("--lr", &["learning-rate", "eta"]),
    ("--batch", &["batch-size", "batchsize", "bs"]),
    ("--data", &["dataset", "data-dir", "input-data", "train", "train-data", "h5"]),
    ("--epochs", &["epoch", "num-epochs", "n-epochs", "iterations", "iters"]),
    ("--out", &["output", "output-dir", "save", "save-dir", "logdir", "log-dir"]),
    ("--model", &["arch", "architecture", "net", "network", "backbone"]),
    ("--optimizer", &["opt", "optim"]),
    ("--weight-decay", &["wd", "l2", "decay"]),
    ("--resume", &["restart", "checkpoint", "ckpt", "continue", "load", "restore"]),
    ("--schedule", &["scheduler", "lr-scheduler", "lr-schedule"]),
    ("this program computes on CPUs: leave it out", &["gpu", "gpus", "cuda", "device", "devices", "accelerator"]),
];

/// A line for who typed another program's word, or named a file without its flag.
pub fn of_usage(usage: &clap::Error, words: &[String]) -> Option<String> {
    if !matches!(usage.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        return None;
    }
    let wrong = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand].into_iter().find_map(|kind| usage.get(kind));
    let Some(ContextValue::String(wrong)) = wrong else { return None };
    let meant = |table: &[(&'static str, &[&str])], word: &str| {
        table.iter().find(|(_, others)| others.contains(&word)).map(|(ours, _)| *ours)
    };
    if let Some(flag) = wrong.strip_prefix("--") {
        return meant(&FLAGS, &flag.replace('_', "-")).map(|ours| match ours.strip_prefix("--") {
            Some(_) => format!("--{flag} is called {ours} here"),
            None => format!("there is no --{flag}: {ours}"),
        });
    }
    let lower = wrong.to_lowercase();
    let command = meant(&COMMANDS, &lower).filter(|_| words.first() == Some(wrong));
    if let Some(ours) = command {
        return Some(format!("'{wrong}' is called `glasses {ours}` here"));
    }
    let path = std::path::Path::new(wrong);
    if lower.ends_with(".toml") {
        return Some(format!("settings are named with their flag: --config {wrong}; a network: --model {wrong}"));
    }
    if lower.ends_with(".h5") || lower.ends_with(".hdf5") {
        return Some(format!("a dataset is named with its flag: --data {wrong}; a model: --model {wrong}"));
    }
    if path.is_dir() || lower.ends_with(".csv") {
        let fix = format!("glasses ingest {wrong} --out data.h5");
        return Some(format!("pictures and tables become a dataset first: {fix}; then: glasses --data data.h5"));
    }
    path.is_file().then(|| format!("to say what is on a picture: glasses predict --model runs/… {wrong}"))
}
