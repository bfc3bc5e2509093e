//! Kills runs from outside and goes on with them: `cargo test --release --test kill -- --rounds 100 [--model NAME] [--seed N]`.
//!
//! A round is one run that is killed several times, at random moments: one of its ranks, or its launcher with all ranks, or
//! its launcher alone, with SIGKILL. Each time another process goes on with it, on another number of ranks. In the end its
//! weights, its metrics (but for times and bytes) and its chain of digests must be those of a run that nobody disturbed.

#[path = "../outside/mod.rs"]
mod outside;

use std::path::Path;
use std::process::{Child, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use outside::{Options, Random, program, same_run, signal, verdict};

const TEST: &str = "killed_runs_go_on_to_the_same_bits";

/// Rounds of a plain `cargo test`.
const ROUNDS: usize = 4;

/// How often a run is killed at most.
const KILLS: usize = 4;

/// A run that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// Every few steps a checkpoint: a kill is likely to hit the writing of one.
const TRAIN: &str = "--data faces.h5 --epochs 4 --batch 12 --optimizer adam --checkpoint-every 3 --digest-every 10";

fn main() -> ExitCode {
    let Some(options) = Options::of(TEST) else { return ExitCode::SUCCESS };
    let (rounds, seed) = (options.get("--rounds").unwrap_or(ROUNDS), options.get("--seed").unwrap_or(1));
    println!("\nrunning 1 test");
    let folder = tempfile::tempdir().expect("a folder for the runs");
    let dir = folder.path();
    run(dir, "synth --size 24 --count 251 --out faces.h5");
    let whole = Instant::now();
    let train = match options.get::<String>("--model") {
        Some(model) => format!("train {TRAIN} --model {model}"),
        None => format!("train {TRAIN}"),
    };
    run(dir, &format!("{train} --out whole"));
    let seconds = whole.elapsed().as_secs_f64();
    let (mut right, mut seen) = (0, Seen::default());
    for round in 0..rounds {
        let mut random = Random::new(seed, round);
        match one_round(dir, &train, round, seconds, &mut random, &mut seen) {
            Ok(()) => right += 1,
            Err(why) => println!("round {round}: {why}"),
        }
    }
    println!(
        "{right} of {rounds} runs ended in the same weights, metrics and digests; {} kills ({} of one rank, {} of all, {} of \
         the launcher alone), {} of them while a checkpoint was being written, {} restarts from a checkpoint",
        seen.kills.iter().sum::<usize>(),
        seen.kills[0],
        seen.kills[1],
        seen.kills[2],
        seen.writing,
        seen.resumed
    );
    verdict(TEST, right == rounds)
}

/// What happened.
#[derive(Default)]
struct Seen {
    /// Of one rank, of all with the launcher, of the launcher alone.
    kills: [usize; 3],
    writing: usize,
    resumed: usize,
}

/// `glasses LINE`, which must do well.
fn run(dir: &Path, line: &str) {
    let status = start(dir, 0, line).wait().expect("it ends");
    assert!(status.success(), "glasses {line}: {status}");
}

/// Starts `glasses LINE` on `ranks` ranks; 0 is without a launcher.
fn start(dir: &Path, ranks: usize, line: &str) -> Child {
    let mut command = program(dir, &dir.join("stderr"), &[], ranks, &[]);
    command.args(line.split(' ')).spawn().expect("it starts")
}

fn one_round(
    dir: &Path,
    train: &str,
    round: usize,
    seconds: f64,
    random: &mut Random,
    seen: &mut Seen,
) -> Result<(), String> {
    let out = format!("run{round}");
    let path = dir.join(&out);
    let _ = std::fs::remove_file(dir.join("stderr"));
    let kills = 1 + random.below(KILLS);
    let mut orphans = false;
    for kill in 0..=kills {
        let ranks = random.below(6);
        if orphans {
            // Ranks outlive their launcher by a second, and may only now make the folder.
            std::thread::sleep(Duration::from_millis(if path.join("config.toml").exists() { 0 } else { 2000 }));
        }
        let line = if path.join("config.toml").exists() {
            seen.resumed += usize::from(path.join("checkpoints").exists());
            format!("train --resume {out}")
        } else {
            format!("{train} --out {out}")
        };
        let mut child = start(dir, ranks, &line);
        if kill < kills {
            std::thread::sleep(Duration::from_secs_f64(seconds * random.below(1000) as f64 / 700.0));
            if random.below(2) == 0 {
                await_writing(&mut child, &path.join("checkpoints"));
            }
            let kind = if ranks == 0 { 1 } else { random.below(3) };
            end(&mut child, kind, &path, random, seen)?;
            orphans = kind == 2;
            continue;
        }
        let status = wait(&mut child)?;
        if !status.success() {
            let log = std::fs::read_to_string(dir.join("stderr")).unwrap_or_default();
            return Err(format!("glasses {line} on {ranks} ranks: {status}\n{log}"));
        }
    }
    same_run(&path, &dir.join("whole")).map_err(|why| format!("after {kills} kills: {why}"))?;
    std::fs::remove_dir_all(&path).map_err(|e| e.to_string())
}

/// Kills a running process in one of three ways, unless it has ended already.
fn end(child: &mut Child, kind: usize, path: &Path, random: &mut Random, seen: &mut Seen) -> Result<(), String> {
    let ranks = children(child.id());
    if child.try_wait().map_err(|e| e.to_string())?.is_some() {
        return Ok(());
    }
    seen.kills[kind] += 1;
    seen.writing += usize::from(is_writing(&path.join("checkpoints")));
    match kind {
        // Killed before it had any: then the launcher is all there is.
        0 if !ranks.is_empty() => signal(ranks[random.below(ranks.len())], "KILL"),
        1 => {
            let _ = child.kill();
            ranks.iter().for_each(|&rank| signal(rank, "KILL"));
        }
        _ => {
            let _ = child.kill();
        }
    }
    wait(child).map(|_| ())
}

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    listed.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn is_writing(checkpoints: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(checkpoints) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(".part"))
}

/// Waits for the next checkpoint that is being written, if one comes.
fn await_writing(child: &mut Child, checkpoints: &Path) {
    let start = Instant::now();
    while !is_writing(checkpoints) && start.elapsed() < Duration::from_secs(2) && matches!(child.try_wait(), Ok(None)) {
        std::thread::yield_now();
    }
}

/// A run that hangs is killed.
fn wait(child: &mut Child) -> Result<ExitStatus, String> {
    outside::wait(child, LIMIT).ok_or_else(|| {
        let ranks = children(child.id());
        let _ = child.kill();
        ranks.iter().for_each(|&rank| signal(rank, "KILL"));
        "it hangs".to_owned()
    })
}
