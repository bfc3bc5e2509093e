//! Kills runs from outside and goes on with them: `cargo test --release --test kill -- --rounds 100`.
//!
//! A round is one run that is killed several times, at random moments: one of its ranks, or its launcher with all ranks, or
//! its launcher alone, with SIGKILL. Each time another process goes on with it, on another number of ranks. In the end its
//! weights, its metrics (but for times and bytes) and its chain of digests must be those of a run that nobody disturbed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use glasses::rng::{Purpose, Stream};
use serde_json::Value;

/// Rounds of a plain `cargo test`.
const ROUNDS: usize = 4;

/// How often a run is killed at most.
const KILLS: usize = 4;

/// A run that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(300);

/// Every few steps a checkpoint: a kill is likely to hit the writing of one.
const TRAIN: &str = "--data faces.h5 --epochs 4 --batch 12 --optimizer adam --checkpoint-every 3 --digest-every 10";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str, default: usize| {
        let place = args.iter().position(|arg| arg == name);
        place.and_then(|place| args.get(place + 1)?.parse().ok()).unwrap_or(default)
    };
    // `cargo test WORD` asks every test program for tests with that word in their name.
    if let Some(filter) = args.first().filter(|arg| !arg.starts_with("--"))
        && !"killed_runs_go_on_to_the_same_bits".contains(filter.as_str())
    {
        return ExitCode::SUCCESS;
    }
    let (rounds, seed) = (option("--rounds", ROUNDS), option("--seed", 1));
    println!("\nrunning 1 test");
    let folder = tempfile::tempdir().expect("a folder for the runs");
    let dir = folder.path();
    run(dir, "synth --size 24 --count 251 --out faces.h5");
    let whole = Instant::now();
    run(dir, &format!("train {TRAIN} --out whole"));
    let seconds = whole.elapsed().as_secs_f64();
    let (mut right, mut seen) = (0, Seen::default());
    for round in 0..rounds {
        let mut random = Random { stream: Stream::new(seed as u64, Purpose::Synth, 0, 0, round), next: 0 };
        match one_round(dir, round, seconds, &mut random, &mut seen) {
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
    let verdict = if right == rounds { "ok" } else { "FAILED" };
    println!("test killed_runs_go_on_to_the_same_bits ... {verdict}\n");
    let failed = usize::from(right < rounds);
    println!("test result: {verdict}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out\n", 1 - failed);
    if right == rounds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What happened.
#[derive(Default)]
struct Seen {
    /// Of one rank, of all with the launcher, of the launcher alone.
    kills: [usize; 3],
    writing: usize,
    resumed: usize,
}

/// Random numbers of a round.
struct Random {
    stream: Stream,
    next: usize,
}

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.next += 1;
        self.stream.bits(self.next) as usize % limit
    }
}

/// `glasses LINE`, which must do well.
fn run(dir: &Path, line: &str) {
    let status = start(dir, 0, line).wait().expect("it ends");
    assert!(status.success(), "glasses {line}: {status}");
}

/// Starts `glasses LINE` on `ranks` ranks; 0 is without a launcher.
fn start(dir: &Path, ranks: usize, line: &str) -> Child {
    let mut command = match ranks {
        0 => Command::new(env!("CARGO_BIN_EXE_glasses")),
        ranks => {
            let launcher = std::env::var("MPIRUN").unwrap_or_else(|_| "mpirun".to_owned());
            let mut command = Command::new(launcher);
            command.arg("-n").arg(ranks.to_string()).arg(env!("CARGO_BIN_EXE_glasses"));
            command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
            command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
            command
        }
    };
    command.args(line.split(' ')).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null());
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("stderr")).expect("a log");
    command.stderr(log).spawn().expect("it starts")
}

fn one_round(dir: &Path, round: usize, seconds: f64, random: &mut Random, seen: &mut Seen) -> Result<(), String> {
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
            format!("train {TRAIN} --out {out}")
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
    for file in ["summary.json", "metrics.jsonl", "digests.jsonl"] {
        let [got, want] = [&path, &dir.join("whole")].map(|run| lasting(&run.join(file)));
        if got != want {
            return Err(format!("{file} differs after {kills} kills:\n{got:#?}\n{want:#?}"));
        }
    }
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
        0 if !ranks.is_empty() => kill(ranks[random.below(ranks.len())]),
        1 => {
            let _ = child.kill();
            ranks.iter().for_each(|&rank| kill(rank));
        }
        _ => {
            let _ = child.kill();
        }
    }
    wait(child).map(|_| ())
}

fn kill(pid: u32) {
    let _ = Command::new("kill").arg("-9").arg(pid.to_string()).stderr(Stdio::null()).status();
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

fn wait(child: &mut Child) -> Result<ExitStatus, String> {
    let start = Instant::now();
    loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => return Ok(status),
            None if start.elapsed() > LIMIT => {
                let ranks: Vec<u32> = children(child.id());
                let _ = child.kill();
                ranks.iter().for_each(|&rank| kill(rank));
                return Err("it hangs".to_owned());
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The lines of a file, without what differs from run to run: times, bytes, who computed.
fn lasting(path: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let values: Vec<Value> = match serde_json::from_str(&text) {
        Ok(whole) => vec![whole],
        Err(_) => text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect(),
    };
    let mut values: Vec<Value> = values.into_iter().filter(|value| value.get("hosts").is_none()).collect();
    for value in values.iter_mut().filter_map(Value::as_object_mut) {
        for name in ["seconds", "images_per_sec", "bytes_communicated", "exchange", "slowest", "wall_seconds", "ranks"]
        {
            value.remove(name);
        }
    }
    values
}
