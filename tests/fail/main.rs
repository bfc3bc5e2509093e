//! Makes runs fail from outside, in every way: `cargo test --release --test fail -- --rounds 20 [--kind WORD]
//! [--model NAME] [--seed N] [--jobs N]`.
//!
//! A round is one run on a random number of ranks, in which one thing fails, at a random moment and, where a rank fails, on a
//! random one. Either the run goes on to the bits of a run that nobody disturbed, or all ranks are gone within seconds, with
//! one line that names the rank; then nothing is half-written, and another process, on another number of ranks, goes on
//! to the same bits. The table at the end is what is kept in `benches/results/`.

mod data;
mod deaths;
mod disk;
mod lab;
mod line;
mod memory;
mod network;
#[path = "../outside/mod.rs"]
mod outside;
mod signals;
mod stalls;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use lab::{Lab, Seen, Trouble};
use outside::{Options, Random, verdict};

const TEST: &str = "failures_from_outside_end_all_ranks_in_one_line_or_do_no_harm";

/// Kinds that are tried at the same time.
const JOBS: usize = 2;

type Round = fn(&Lab, &mut Random) -> Result<Seen, Trouble>;

/// What can fail.
const KINDS: [(&str, &str, Round); 18] = [
    ("kill", "SIGKILL of a rank", deaths::killed),
    ("launcher", "SIGKILL of mpirun", deaths::launcher_killed),
    ("segv", "SIGSEGV of a rank", deaths::crashed),
    ("panic", "panic of a rank", deaths::panicked),
    ("exit", "exit(0) of a rank in the middle", deaths::left),
    ("stop", "SIGSTOP of a rank, `--stall-timeout 6`", stalls::stopped),
    ("slow", "SIGSTOP of a rank for 3 s, `--stall-timeout 6`", stalls::slow),
    ("held", "SIGSTOP of all ranks for 8 s, `--stall-timeout 6`", stalls::held),
    ("signal", "USR1 or TERM to a rank, to all, to mpirun", signals::asked_to_end),
    ("spoilt", "data removed, cut, emptied, overwritten while training", data::spoilt_while_training),
    ("missing", "the same before `--resume`", data::missing_at_resume),
    ("reading", "the same on one rank only, at the start", data::bad_on_one_rank),
    ("memory", "no more memory for a rank (`prlimit --as`)", memory::taken_away),
    ("small", "60 to 460 MB of addresses for a rank (`ulimit -v`)", memory::short_at_start),
    ("full", "disk full for 2 to 4 s", disk::full_for_a_while),
    ("fills", "disk full for good, `--max-failed-checkpoints 3`", disk::full_for_good),
    ("away", "link between two hosts cut for 5 s", network::away),
    ("cut", "link between two hosts cut for good, `--stall-timeout 8`", network::gone),
];

fn main() -> ExitCode {
    let Some(options) = Options::of(TEST) else { return ExitCode::SUCCESS };
    let (rounds, seed) = (options.get("--rounds").unwrap_or(1), options.get("--seed").unwrap_or(1));
    let wanted: Option<String> = options.get("--kind");
    println!("\nrunning 1 test");
    let folder = tempfile::tempdir().expect("a folder for the runs");
    let lab = match Lab::new(folder.path(), options.get::<String>("--model").as_deref()) {
        Ok(lab) => lab,
        Err(why) => {
            println!("{why}");
            return verdict(TEST, false);
        }
    };
    let numbers: Vec<usize> =
        (0..KINDS.len()).filter(|&kind| wanted.as_deref().is_none_or(|wanted| wanted == KINDS[kind].0)).collect();
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // A round waits more than it computes.
    std::thread::scope(|scope| {
        for _ in 0..options.get("--jobs").unwrap_or(JOBS) {
            scope.spawn(|| {
                while let Some(&kind) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let rows = rounds_of(&lab, kind, rounds, seed);
                    all.lock().unwrap_or_else(PoisonError::into_inner).push((kind, rows));
                }
            });
        }
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by_key(|(kind, _)| *kind);
    println!(
        "\n| what fails | as it should be | s until all ranks are gone: median, worst | mpirun's exit code | what was said |"
    );
    println!("| - | -: | -: | - | - |");
    all.iter_mut().for_each(|(kind, rows)| println!("{}", rows.line(KINDS[*kind].1, rounds)));
    println!();
    verdict(TEST, !all.is_empty() && all.len() == numbers.len() && all.iter().all(|(_, rows)| rows.wrong == 0))
}

/// All rounds of a kind.
fn rounds_of(lab: &Lab, kind: usize, rounds: usize, seed: u64) -> Rows {
    let ((name, _, round), start, mut rows) = (KINDS[kind], Instant::now(), Rows::default());
    for index in 0..rounds {
        match round(lab, &mut Random::new(seed, 1000 * kind + index)) {
            Ok(seen) => rows.add(seen),
            Err(Trouble::Wrong(why)) => {
                println!("{name}, round {index}: {why}");
                rows.wrong += 1;
            }
            Err(Trouble::Skipped(why)) => {
                skip(name, &why);
                break;
            }
        }
    }
    println!("{name}: {} of {rounds} as they should be, {:.0} s", rows.right(), start.elapsed().as_secs_f64());
    rows
}

/// Into the file that jobs/test.sh reads out at its end, and to whoever watches.
fn skip(name: &str, why: &str) {
    use std::io::Write;
    let line = format!("{TEST} ({name}): {}", why.replace('\n', " "));
    println!("NOT TESTED: {line}");
    if let Some(path) = std::env::var_os("SKIPPED_TESTS") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }
}

/// What was seen of one kind.
#[derive(Default)]
struct Rows {
    gone: Vec<f64>,
    codes: BTreeMap<String, usize>,
    said: BTreeMap<String, usize>,
    wrong: usize,
}

impl Rows {
    fn add(&mut self, seen: Seen) {
        if let Some((seconds, code)) = seen.gone {
            self.gone.push(seconds);
            *self.codes.entry(code).or_default() += 1;
        }
        *self.said.entry(seen.said).or_default() += 1;
    }

    fn right(&self) -> usize {
        self.said.values().sum()
    }

    fn line(&mut self, what: &str, rounds: usize) -> String {
        self.gone.sort_by(f64::total_cmp);
        let times = match self.gone.last() {
            Some(worst) => format!("{:.1}, {worst:.1}", self.gone[self.gone.len() / 2]),
            None => "goes on".to_owned(),
        };
        let (codes, said) = (counted(&self.codes), counted(&self.said));
        format!("| {what} | {} of {rounds} | {times} | {codes} | {said} |", self.right())
    }
}

/// What there was, and how often each where that differs.
fn counted(all: &BTreeMap<String, usize>) -> String {
    let parts: Vec<String> = match all.len() {
        1 => all.keys().cloned().collect(),
        _ => all.iter().map(|(what, count)| format!("{count} × {what}")).collect(),
    };
    parts.join("; ")
}
