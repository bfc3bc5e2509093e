//! A disk that fills up while a run trains: a small one (tmpfs) in a mount namespace of its own.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{Lab, Run, Seen, Start, Trouble};
use crate::line::{errors, is_whole};
use crate::outside::Random;

/// Holds three checkpoints of such a run, its model and its report.
const SIZE: &str = "40m";

/// What a run ends with that could not save anything: before its last step, and after it.
const UNSAVED: i32 = 76;
const REFUSED: i32 = 1;

/// Seconds between the first of three tries and the last.
const PAUSES: f64 = 3.0;

/// A disk; it is gone with the process that holds its namespace, which ends with this.
struct Disk {
    holder: Child,
    /// Where it is, for who is in the namespace.
    inside: PathBuf,
    /// The same, for who is not.
    outside: PathBuf,
    enter: [String; 3],
    filler: Option<File>,
}

impl Disk {
    fn new(lab: &Lab) -> Result<Disk, Trouble> {
        let inside = lab.dir.join("disk");
        std::fs::create_dir_all(&inside).map_err(|e| e.to_string())?;
        let line = format!("mount -t tmpfs -o size={SIZE} none '{}' && echo ready && exec cat", inside.display());
        let mut holder = Command::new("unshare")
            .args(["-m", "sh", "-c", &line])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| Trouble::Skipped(format!("unshare: {e}")))?;
        let mut said = String::new();
        let _ = holder.stdout.as_mut().map(|pipe| BufReader::new(pipe).read_line(&mut said));
        if said != "ready\n" {
            let _ = holder.wait();
            return Err(Trouble::Skipped("no mount allowed here".to_owned()));
        }
        let process = holder.id();
        let outside = Path::new(&format!("/proc/{process}/root")).join(inside.strip_prefix("/").unwrap_or(&inside));
        let enter =
            ["nsenter".to_owned(), format!("--mount=/proc/{process}/ns/mnt"), format!("--wd={}", lab.dir.display())];
        Ok(Disk { holder, inside, outside, enter, filler: None })
    }

    fn enter(&self) -> Vec<&str> {
        self.enter.iter().map(String::as_str).collect()
    }

    /// Takes all that is free.
    fn fill(&mut self) -> Result<(), String> {
        if self.filler.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(self.outside.join("filler"));
            self.filler = Some(file.map_err(|e| e.to_string())?);
        }
        let Some(file) = &mut self.filler else { return Ok(()) };
        [1 << 20, 1 << 14, 1].iter().for_each(|&size| {
            let bytes = vec![0; size];
            while file.write_all(&bytes).is_ok() {}
        });
        Ok(())
    }

    fn free(&mut self) -> Result<(), String> {
        self.filler = None;
        std::fs::remove_file(self.outside.join("filler")).map_err(|e| e.to_string())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A run on the disk, on 1 to 5 ranks, at a random moment.
fn start<'a>(lab: &'a Lab, disk: &Disk, more: &str, is_long: bool, random: &mut Random) -> Result<Run<'a>, String> {
    let ranks = 1 + random.below(5);
    // A run alone needs no launcher.
    let launched = if ranks == 1 { random.below(2) } else { ranks };
    let out = Some(disk.inside.clone());
    let start = Start { ranks: launched, before: &disk.enter(), more, out, is_long, ..Start::default() };
    let mut run = lab.start(start)?;
    run.seen_at = disk.outside.join(run.path.strip_prefix(&disk.inside).map_err(|e| e.to_string())?);
    run.reach_moment(random)?;
    Ok(run)
}

/// For some seconds: what could not be written is written afterwards.
pub fn full_for_a_while(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let mut disk = Disk::new(lab)?;
    let mut run = start(lab, &disk, "", false, random)?;
    let (since, time) = (Instant::now(), Duration::from_millis(2000 + random.below(2000) as u64));
    while since.elapsed() < time {
        disk.fill()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    disk.free()?;
    run.succeed()?;
    let summary = std::fs::read_to_string(run.seen_at.join("summary.json")).map_err(|e| e.to_string())?;
    let summary: serde_json::Value = serde_json::from_str(&summary).map_err(|e| e.to_string())?;
    let failed = summary["failed_checkpoints"].as_u64().unwrap_or(0);
    let warnings = run.stderr().lines().filter(|line| line.contains("could not be written (")).count() as u64;
    if failed == 0 || warnings != failed {
        return Err(format!("{failed} failures counted, {warnings} said\n{}", run.said()).into());
    }
    is_whole(&run.seen_at, true)?;
    Ok(Seen::went_on("… could not be written …, tried again …; same digest, failed_checkpoints > 0"))
}

/// For good: the run ends when it has tried often enough, and goes on when there is room again.
pub fn full_for_good(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    lab.whole(true)?;
    let mut disk = Disk::new(lab)?;
    let mut run = start(lab, &disk, "--max-failed-checkpoints 3", true, random)?;
    let since = Instant::now();
    while !run.processes().is_empty() && since.elapsed() < Duration::from_secs(60) {
        disk.fill()?;
        std::thread::sleep(Duration::from_millis(10));
    }
    let gone = run.gone(since, Duration::from_secs(60))?;
    let status = run.end(Duration::from_secs(15))?;
    let errors = errors(&run)?;
    let code = match &errors[..] {
        [line] if line.starts_with("error: interrupted by a disk that refuses everything after step") => UNSAVED,
        [line] if line.starts_with("error: cannot ") => REFUSED,
        _ => return Err(format!("{} lines of error\n{}", errors.len(), run.said()).into()),
    };
    if status.code() != Some(code) || !run.stderr().contains("(3 of 3 failures in a row), given up") {
        return Err(format!("{status}\n{}", run.said()).into());
    }
    if gone < PAUSES {
        return Err(format!(
            "three tries have pauses of 1 s and 2 s between them: gone after {gone} s\n{}",
            run.said()
        )
        .into());
    }
    is_whole(&run.seen_at, true)?;
    disk.free()?;
    run.goes_on(random, &disk.enter())?;
    let what = if code == UNSAVED { "interrupted by a disk that refuses everything …" } else { "cannot write …" };
    Ok(Seen::gone(gone, Some(status), what))
}
