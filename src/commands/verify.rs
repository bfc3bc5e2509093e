//! `glasses verify`: computes a run's steps again and says which of them went wrong.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::{folder, probe};
use crate::comm::{Communicator, all_agree, on_root};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::plural::plural;
use crate::say;
use crate::train::{self, Verdict, Wrong};

/// Options of `glasses verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses verify runs/faces\n  \
    glasses verify runs/faces --steps 5..15")]
pub struct Options {
    /// Folder of the run
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Steps whose digests are compared: A..B, A.., ..B or one number; the computation begins at the nearest checkpoint
    /// before them [default: all]
    #[arg(long, value_name = "A..B", default_value = "1..", hide_default_value = true, value_parser = parse_steps)]
    pub steps: RangeInclusive<usize>,
    /// The dataset, where it is not where the run found it
    #[arg(long, value_name = "FILE.h5")]
    pub data: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

fn parse_steps(text: &str) -> Result<RangeInclusive<usize>, String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let number = |text: &str, none: usize| if text.is_empty() { Ok(none) } else { text.parse::<usize>() };
    match (number(first, 1), number(last, usize::MAX)) {
        (Ok(first), Ok(last)) if first >= 1 && first <= last && !text.is_empty() => Ok(first..=last),
        _ => Err("expected steps as in 100..200, 100.., ..200 or 150, the first not below 1".to_owned()),
    }
}

/// Collective: verifies.
///
/// # Errors
/// The same one on every rank: a run that cannot be read, other data, or a step that went wrong.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    let ours =
        || folder::one_run(&options.run).and_then(|()| folder::begun("RUN", &options.run)).map(|()| String::new());
    on_root(comm, ours)?;
    let settings = Settings::read(&options.run.join("config.toml")).and_then(|file| {
        let flags = Settings { data: options.data.clone(), ..Settings::default() };
        flags.lower(file, comm.size())
    });
    let config = all_agree(comm, settings)?;
    probe::check(&[vec![config.data.clone()], probe::files_of_run(&options.run)].concat(), comm)?;
    let verdict = train::verify(&config, &options.run, options.steps.clone(), comm)?;
    if comm.is_root() {
        if options.json {
            let path = options.run.join("verdict");
            say!("{}", crate::metrics::json(&verdict, &path)?);
        } else {
            print(&verdict);
        }
    }
    match verdict.wrong {
        None => Ok(()),
        Some(wrong) => Err(error(options, &wrong)),
    }
}

fn print(verdict: &Verdict) {
    let from = match verdict.from {
        0 => "the initial weights".to_owned(),
        step => format!("the checkpoint of step {step}"),
    };
    match &verdict.wrong {
        None => {
            let (all, are) = if verdict.compared == 1 { ("the", "is") } else { ("all", "are") };
            let digests = plural(verdict.compared, "digest");
            say!("{all} {digests} up to step {} {are} right, computed from {from}", verdict.last);
        }
        Some(wrong) => {
            say!("compared {}, computed from {from}", plural(verdict.compared, "digest"));
            say!("right up to step {}, not at step {} (epoch {})", wrong.right_until, wrong.step, wrong.epoch);
            for (rank, host, right) in &wrong.odd {
                say!("  weights of rank {rank} on {host}: {}", if *right { "right" } else { "wrong" });
            }
            if !wrong.odd.is_empty() {
                say!("  weights of rank 0: {}", if wrong.params.is_empty() { "right" } else { "wrong" });
            }
            if let Some(first) = wrong.params.first() {
                say!("  first wrong parameter of rank 0: {first}, and {} more", wrong.params.len() - 1);
            }
            if !wrong.shards_known {
                say!(
                    "  which shard went wrong is not known: the weights were wrong before this step, or not digested just"
                );
                say!("  before it; a run resumed from a checkpoint before it, with --digest-every 1, would show it");
                return;
            }
            for shard in &wrong.shards {
                say!("  shard {}: wrong, computed by rank {} on {}", shard.shard, shard.rank, shard.host);
            }
            if wrong.shards.is_empty() {
                say!(
                    "  every shard brought what it should to this step: suspect the sum, the update, or the memory of weights"
                );
            }
        }
    }
}

fn error(options: &Options, wrong: &Wrong) -> Error {
    let what = match wrong.params.first() {
        Some(first) => format!("other weights at step {}, first in {first}", wrong.step),
        None if wrong.odd.is_empty() => {
            format!("other gradients of {} at step {}", plural(wrong.shards.len(), "shard"), wrong.step)
        }
        None => format!("ranks with other weights at step {}", wrong.step),
    };
    let hosts: Vec<&str> =
        wrong.shards.iter().filter(|_| wrong.shards_known).map(|shard| shard.host.as_str()).collect();
    let odd = wrong.odd.iter().filter(|(_, _, right)| !right).map(|(_, host, _)| host.as_str());
    let mut suspects: Vec<&str> = hosts.into_iter().chain(odd).collect();
    suspects.sort_unstable();
    suspects.dedup();
    let fix = if suspects.is_empty() {
        "run with --digest-every 1 around these steps to see the shard, or suspect the root's machine".to_owned()
    } else {
        format!("suspect {}, or a program of another version", suspects.join(", "))
    };
    Error::invalid(format!("run {}", options.run.display()), what, "the digests that the same steps give here", fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_as_ranges() {
        assert_eq!(parse_steps("3..9"), Ok(3..=9));
        assert_eq!(parse_steps("3.."), Ok(3..=usize::MAX));
        assert_eq!(parse_steps("..9"), Ok(1..=9));
        assert_eq!(parse_steps("7"), Ok(7..=7));
        for bad in ["", "0", "0..3", "9..3", "a..b", "-1..2"] {
            assert!(parse_steps(bad).is_err(), "{bad}");
        }
    }
}
