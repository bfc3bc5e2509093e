//! Where runs are made to fail: the data, the run that nobody disturbs, and a run in flight.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::outside::{Random, program, same_run, signal, wait};

/// Every few steps a checkpoint: a failure is likely to hit the writing of one. Every step's digest: they show where a run is.
const SETTINGS: &str = "--batch 12 --optimizer adam --checkpoint-every 3 --digest-every 1";

/// Of a run; and of a long one.
const EPOCHS: usize = 6;
const MANY_EPOCHS: usize = 30;
/// Steps of [`EPOCHS`], of which the last ones are left alone: a run should not be over when it is made to fail.
const STEPS: usize = 102;
const LAST_STEPS: usize = 16;

/// A run that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Marks the processes of a run, through its launcher and other hosts.
const MARK: &str = "GLASSES_TEST_RUN";

/// Why a round is not as it should be.
pub enum Trouble {
    Wrong(String),
    /// It cannot be tried on this machine.
    Skipped(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Trouble {
        Trouble::Wrong(why)
    }
}

/// What was seen of a round.
pub struct Seen {
    /// Seconds from the failure until no rank was left, and how the launcher ended; none where the run went on.
    pub gone: Option<(f64, String)>,
    /// What was said, or done.
    pub said: String,
}

impl Seen {
    /// All ranks were gone after so many seconds.
    pub fn gone(seconds: f64, end: Option<ExitStatus>, said: impl Into<String>) -> Seen {
        let code = |status: ExitStatus| status.code().map_or("killed".to_owned(), |code| code.to_string());
        Seen { gone: Some((seconds, end.map_or("hangs".to_owned(), code))), said: said.into() }
    }

    /// It did no harm.
    pub fn went_on(said: impl Into<String>) -> Seen {
        Seen { gone: None, said: said.into() }
    }
}

/// A folder with data and the run that nobody disturbed.
pub struct Lab {
    pub dir: PathBuf,
    /// Of every run.
    settings: String,
    long: OnceLock<PathBuf>,
    runs: AtomicUsize,
}

/// How a run is started.
#[derive(Default)]
pub struct Start<'a> {
    pub ranks: usize,
    /// What stands in front of all.
    pub before: &'a [&'a str],
    /// What stands in front of each rank's program.
    pub wrapper: &'a [&'a str],
    /// For `GLASSES_FAULT`.
    pub fault: Option<String>,
    /// More settings.
    pub more: &'a str,
    /// In place of `faces.h5`.
    pub data: Option<&'a str>,
    /// Where its folder is made, in place of the lab.
    pub out: Option<PathBuf>,
    /// A long run.
    pub is_long: bool,
    /// Whether what is in front of all reads lines.
    pub is_steered: bool,
}

impl Lab {
    /// Data, and a run of it: of `model`, or of the network that is the default.
    pub fn new(dir: &Path, model: Option<&str>) -> Result<Lab, String> {
        let settings = model.map_or(SETTINGS.to_owned(), |model| format!("{SETTINGS} --model {model}"));
        let lab = Lab { dir: dir.to_owned(), settings, long: OnceLock::new(), runs: AtomicUsize::new(0) };
        lab.glasses("synth --size 24 --count 251 --out faces.h5")?;
        lab.glasses(&format!("train --data faces.h5 --epochs {EPOCHS} {} --out whole", lab.settings))?;
        Ok(lab)
    }

    /// The run that nobody disturbed.
    pub fn whole(&self, is_long: bool) -> Result<PathBuf, String> {
        if !is_long {
            return Ok(self.dir.join("whole"));
        }
        if self.long.get().is_none() {
            self.glasses(&format!("train --data faces.h5 --epochs {MANY_EPOCHS} {} --out long", self.settings))?;
        }
        Ok(self.long.get_or_init(|| self.dir.join("long")).clone())
    }

    fn glasses(&self, line: &str) -> Result<(), String> {
        let log = self.dir.join("log");
        let mut child =
            program(&self.dir, &log, &[], 0, &[]).args(line.split(' ')).spawn().map_err(|e| e.to_string())?;
        match wait(&mut child, LIMIT) {
            Some(status) if status.success() => Ok(()),
            status => Err(format!("glasses {line}: {status:?}\n{}", tail(&log))),
        }
    }

    /// Starts a run.
    pub fn start(&self, start: Start<'_>) -> Result<Run<'_>, String> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let name = format!("run{number}");
        let path = start.out.clone().unwrap_or_else(|| self.dir.clone()).join(&name);
        let (data, epochs) = (start.data.unwrap_or("faces.h5"), if start.is_long { MANY_EPOCHS } else { EPOCHS });
        let settings = &self.settings;
        let line = format!("train --data {data} --epochs {epochs} {settings} --out {} {}", path.display(), start.more);
        Run::spawn(self, start, path, &name, &line)
    }

    /// Goes on with a run on `ranks` ranks.
    pub fn resume(&self, path: &Path, ranks: usize, before: &[&str]) -> Result<Run<'_>, String> {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let start = Start { ranks, before, ..Start::default() };
        Run::spawn(self, start, path.to_owned(), &format!("run{number}"), &format!("train --resume {}", path.display()))
    }
}

/// A run in flight.
pub struct Run<'a> {
    pub lab: &'a Lab,
    child: Child,
    mark: String,
    /// Its folder.
    pub path: PathBuf,
    log: PathBuf,
    pub ranks: usize,
    is_long: bool,
    /// Where to see the folder from here, and what resumes it there.
    pub seen_at: PathBuf,
}

impl<'a> Run<'a> {
    fn spawn(lab: &'a Lab, start: Start<'_>, path: PathBuf, name: &str, line: &str) -> Result<Run<'a>, String> {
        let (mark, log) = (format!("{}-{name}", std::process::id()), lab.dir.join(format!("{name}.log")));
        let mut command = program(&lab.dir, &log, start.before, start.ranks, start.wrapper);
        command.args(line.split_whitespace()).env(MARK, &mark);
        if let Some(fault) = &start.fault {
            command.env("GLASSES_FAULT", fault);
        }
        if start.is_steered {
            command.stdin(Stdio::piped());
        }
        let child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
        let ranks = start.ranks.max(1);
        Ok(Run { lab, child, mark, seen_at: path.clone(), path, log, ranks, is_long: start.is_long })
    }

    /// The launcher.
    pub fn launcher(&self) -> u32 {
        self.child.id()
    }

    /// Its processes that still run, by rank.
    pub fn processes(&self) -> BTreeMap<usize, u32> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter_map(|pid| Some((self.rank_of(pid)?, pid))).collect()
    }

    /// Which rank of this run a process is, if it is one. What has ended and is only not yet buried is none.
    fn rank_of(&self, pid: u32) -> Option<usize> {
        if std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim() != "glasses" {
            return None;
        }
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let text = String::from_utf8_lossy(&environment);
        let value = |name: &str| text.split('\0').find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
        if value(MARK) != Some(&self.mark) {
            return None;
        }
        Some(value("OMPI_COMM_WORLD_RANK").or(value("PMI_RANK")).map_or(0, |rank| rank.parse().unwrap_or(0)))
    }

    /// The process of a rank.
    pub fn process(&self, rank: usize) -> Result<u32, String> {
        self.processes().get(&rank).copied().ok_or_else(|| format!("rank {rank} is not there\n{}", tail(&self.log)))
    }

    /// Steps that are made, as the digests say.
    pub fn step(&self) -> usize {
        let text = std::fs::read_to_string(self.seen_at.join("digests.jsonl")).unwrap_or_default();
        text.lines().filter(|line| !line.contains("\"hosts\"")).count()
    }

    /// Waits until so many steps are made.
    pub fn reach(&mut self, step: usize) -> Result<(), String> {
        let start = Instant::now();
        while self.step() < step {
            let ended = self.child.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || start.elapsed() > LIMIT {
                return Err(format!("it has not come to step {step}: {ended:?}\n{}", self.said()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Waits until it is at a random step, and there a random while.
    pub fn reach_moment(&mut self, random: &mut Random) -> Result<(), String> {
        self.reach(random_step(random))?;
        std::thread::sleep(Duration::from_micros(random.below(40_000) as u64));
        Ok(())
    }

    /// Tells what was started in front of all.
    pub fn steer(&mut self, line: &str) -> Result<(), String> {
        let pipe = self.child.stdin.as_mut().ok_or("nobody listens")?;
        writeln!(pipe, "{line}").and_then(|()| pipe.flush()).map_err(|e| format!("{line}: {e}"))
    }

    /// Waits until no rank is left, at most so long after `since`; the seconds since then.
    pub fn gone(&mut self, since: Instant, within: Duration) -> Result<f64, String> {
        loop {
            let _ = self.child.try_wait();
            let left = self.processes();
            if left.is_empty() {
                return Ok(since.elapsed().as_secs_f64());
            }
            if since.elapsed() > within {
                let states: Vec<String> =
                    left.iter().map(|(rank, pid)| format!("rank {rank}: {}", state(*pid))).collect();
                return Err(format!(
                    "after {:.1} s there are still {}\n{}",
                    since.elapsed().as_secs_f64(),
                    states.join(", "),
                    self.said()
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the launcher.
    pub fn end(&mut self, within: Duration) -> Result<ExitStatus, String> {
        wait(&mut self.child, within)
            .ok_or_else(|| format!("the launcher is still there after {} s\n{}", within.as_secs(), self.said()))
    }

    /// Waits until it has done what it should, as the run that nobody disturbed.
    pub fn succeed(&mut self) -> Result<(), String> {
        let status = self.end(LIMIT)?;
        if !status.success() {
            return Err(format!("{status}\n{}", self.said()));
        }
        same_run(&self.seen_at, &self.lab.whole(self.is_long)?).map_err(|why| format!("{why}\n{}", self.said()))
    }

    /// Goes on with it on another number of ranks: it has to come to what nobody disturbed.
    pub fn goes_on(&self, random: &mut Random, before: &[&str]) -> Result<(), String> {
        let ranks = (self.ranks + 1 + random.below(4)) % 5;
        let mut next = self.lab.resume(&self.path, ranks, before)?;
        (next.seen_at, next.is_long) = (self.seen_at.clone(), self.is_long);
        next.succeed().map_err(|why| format!("resumed on {ranks} ranks: {why}\nbefore that:\n{}", self.said()))
    }

    /// What it wrote to standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What the folder says of runs that died, without the times.
    pub fn failures(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.seen_at.join("failures.log")).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').map_or(line, |(_, line)| line).to_owned()).collect()
    }

    /// Everything that it said, for who has to find out what went wrong.
    pub fn said(&self) -> String {
        format!("{}failures.log: {:#?}", tail(&self.log), self.failures())
    }
}

/// Whatever became of it, nothing is left running.
impl Drop for Run<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.processes().values().for_each(|&pid| signal(pid, "KILL"));
        let _ = std::fs::remove_file(&self.log);
    }
}

/// After which step a run is made to fail: training has begun, and is not over.
pub fn random_step(random: &mut Random) -> usize {
    4 + random.below(STEPS - LAST_STEPS - 4)
}

fn tail(path: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].iter().map(|line| format!("| {line}\n")).collect()
}

/// What a process does.
fn state(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("State:")).unwrap_or("gone");
    let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    format!("{} {place}", line.trim_start_matches("State:").trim())
}
