//! The command line: clap only.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::config::Settings;

/// Trains convolutional image classifiers from scratch on clusters of CPUs.
///
/// `glasses` alone is `glasses train`; under `mpirun -n 8 glasses` it trains on 8 ranks.
#[derive(Debug, Parser)]
#[command(name = "glasses", version, max_term_width = 110, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; nothing means train.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// With --version: more, on several lines (as `glasses version`)
    #[arg(short, long, requires = "version")]
    pub verbose: bool,
    /// Options of `train`, which may stand alone.
    #[command(flatten)]
    pub train: commands::train::Options,
}

impl Cli {
    /// What a flag said of the training, where there is to be one.
    pub fn settings(&self) -> Option<&Settings> {
        match &self.command {
            None => Some(&self.train.settings),
            Some(Command::Train(options)) => Some(&options.settings),
            Some(Command::Sweep(options)) => Some(&options.settings),
            Some(_) => None,
        }
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // There is one of them in a process.
pub enum Command {
    /// Train a network (this is what `glasses` alone does)
    Train(commands::train::Options),
    /// Train every combination of some settings' values, and make a table of what came of them
    Sweep(commands::sweep::Options),
    /// Make a dataset from pictures, IDX files or a CSV table
    Ingest(commands::ingest::Options),
    /// Make a dataset of drawn faces, or the spiral
    Synth(commands::synth::Options),
    /// Judge a model by the rows of a dataset: loss, accuracy, confusion, precision and recall
    Eval(commands::eval::Options),
    /// Say which class pictures are of
    Predict(commands::predict::Options),
    /// Compute a run's steps again and compare: which step, parameter, shard and machine went wrong
    Verify(commands::verify::Options),
    /// Make a page about a run, or several laid over one another: curves, confusion, maps of what the network looks at
    Report(commands::report::Options),
    /// Watch a run on the terminal, in progress or over: curves, time left, where the time goes
    Watch(commands::watch::Options),
    /// Measure what this machine gives: GFLOP/s a layer, images/s a step, inference
    Bench(commands::bench::Options),
    /// Predict what training takes on a cluster: time, efficiency and bytes of each strategy
    Plan(commands::plan::Options),
    /// Give a model to other programs: ONNX, or named weights for PyTorch
    Export(commands::export::Options),
    /// Take weights from elsewhere, to train them here
    Import(commands::import::Options),
    /// Check how ranks are started, the machines, shared memory, file locks: what is wrong, and what to type instead
    Doctor(commands::doctor::Options),
    /// Show what a dataset or a model file holds, or what a network is made of
    Info(commands::info::Options),
    /// Read a file in a process of its own, where it cannot harm another
    #[command(hide = true)]
    Probe(commands::probe::Options),
    /// Print what completes commands and options in a shell
    Completions(commands::completions::CompletionOptions),
    /// Print the manual page, or write one for every subcommand
    Man(commands::completions::ManOptions),
    /// Say what this program was built from and what it runs on
    Version(commands::version::Options),
}
