//! What other programs call things: the command or the flag of ours that is meant.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::data::open::h5_of;

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
    let missing = usage.kind() == ErrorKind::MissingRequiredArgument;
    if !missing && !matches!(usage.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        return None;
    }
    let (command, rest) = words.split_first()?;
    if missing {
        return line_for(command, &Named::new(rest)).map(|line| format!("for example: {line}"));
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
    if let Some(ours) = meant(&COMMANDS, &lower).filter(|_| command == wrong) {
        let line = line_for(ours, &Named::new(rest)).map(|line| format!(": {line}")).unwrap_or_default();
        return Some(format!("'{wrong}' is called `glasses {ours}` here{line}"));
    }
    if let Some(line) = line_for(command, &Named::new(rest)) {
        return Some(format!("models and datasets are named with their flags: {line}"));
    }
    let path = Path::new(wrong);
    let typed = quoted(wrong);
    if lower.ends_with(".toml") {
        return Some(format!("settings are named with their flag: --config {typed}; a network: --model {typed}"));
    }
    if is_run(path) {
        return Some(format!(
            "to go on with a run: glasses train --resume {typed}; to judge its model: glasses eval --model {typed} --data FILE.h5"
        ));
    }
    if is_hdf5(wrong) {
        return Some(format!("a dataset is named with its flag: --data {typed}; a model: --model {typed}"));
    }
    if path.is_dir() || lower.ends_with(".csv") {
        let fix = format!("glasses ingest {typed} --out data.h5");
        return Some(format!("pictures and tables become a dataset first: {fix}; then: glasses --data data.h5"));
    }
    path.is_file().then(|| format!("to say what is on a picture: glasses predict --model runs/… {typed}"))
}

/// What stands on a command's line: values of the flags that name files, and what has no flag.
#[derive(Default)]
struct Named<'a> {
    models: Vec<&'a str>,
    data: Option<&'a str>,
    others: Vec<&'a str>,
}

impl<'a> Named<'a> {
    fn new(words: &'a [String]) -> Named<'a> {
        let (mut named, mut flag) = (Named::default(), "");
        for word in words {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ if word.starts_with('-') && word.len() > 1 => (word.as_str(), None),
                _ => (std::mem::take(&mut flag), Some(word.as_str())),
            };
            match (name, value) {
                ("--json" | "--csv" | "--force" | "--skip-bad", _) => {}
                (name, None) => flag = name,
                ("--model", Some(value)) => named.models.push(value),
                ("--data", Some(value)) => named.data = Some(value),
                ("", Some(value)) => named.others.push(value),
                _ => {}
            }
        }
        named
    }
}

/// The line that was meant, for commands that want files by their flags; nothing where it names what they want.
fn line_for(command: &str, named: &Named) -> Option<String> {
    let Named { models, data, others } = named;
    let all = |paths: &[&str]| paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(" ");
    let may_be_model = |path: &str| is_run(Path::new(path)) || is_hdf5(path);
    match command {
        "eval" => {
            let with = |models: &[&str], data: &str| format!("glasses eval --model {} --data {data}", all(models));
            let mut rest = others.clone();
            let mut models = models.clone();
            if models.is_empty() && rest.len() == 1 && data.is_none() && is_hdf5(rest[0]) && !is_model(rest[0]) {
                let (as_model, as_data) = (with(&rest, "FILE.h5"), with(&["runs/…"], &quoted(rest[0])));
                return Some(format!("{as_model}; or, if it is a dataset: {as_data}"));
            }
            if models.is_empty() && !rest.is_empty() {
                let at = rest.iter().position(|path| is_model(path)).unwrap_or(0);
                models.push(rest.remove(at));
            }
            if !models.is_empty() {
                let (more, others) = rest.into_iter().partition(|path| is_run(Path::new(path)));
                models.extend::<Vec<&str>>(more);
                rest = others;
            }
            if models.is_empty() {
                models.push("runs/…");
            }
            let data = data.or(rest.first().copied()).map_or("FILE.h5".to_owned(), quoted);
            Some(with(&models, &data))
        }
        "predict" => {
            let (models, pictures) = match (&models[..], &others[..]) {
                ([], [first, rest @ ..]) if may_be_model(first) => (vec![*first], rest),
                ([], rest) => (vec!["runs/…"], rest),
                (models, rest) => (models.to_vec(), rest),
            };
            let pictures = if pictures.is_empty() { "photos".to_owned() } else { all(pictures) };
            Some(format!(
                "glasses predict --model {} {pictures}",
                models.iter().map(|model| quoted(model)).collect::<Vec<_>>().join(" --model ")
            ))
        }
        "ingest" => {
            let source = others.first()?;
            Some(format!("glasses ingest {} --out {}", quoted(source), quoted(&h5_of(Path::new(source)))))
        }
        "export" => {
            let model = others.first().or(models.first()).copied().unwrap_or("runs/…");
            Some(format!("glasses export {} --to onnx --out model.onnx", quoted(model)))
        }
        _ => None,
    }
}

/// What to type for a path with blanks in it.
fn quoted(path: &str) -> String {
    if path.contains(char::is_whitespace) { format!("'{path}'") } else { path.to_owned() }
}

fn is_hdf5(path: &str) -> bool {
    [".h5", ".hdf5"].iter().any(|ending| path.to_lowercase().ends_with(ending))
}

fn is_run(path: &Path) -> bool {
    path.join("config.toml").exists() || path.join("model.h5").exists()
}

/// Whether a path is a model by what it is called: a run's folder, or a file as runs have them.
fn is_model(path: &str) -> bool {
    let path = Path::new(path);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    is_run(path) || ["model.h5", "best.h5"].contains(&name) || (name.starts_with("step-") && is_hdf5(name))
}
