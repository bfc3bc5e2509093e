//! What a run that failed has to leave: one line that names rank, host, epoch, step, phase and cause, and a folder without
//! anything half-written.

use std::path::Path;
use std::time::{Duration, Instant};

use glasses::checkpoint::{read, read_state};
use glasses::files::is_temporary;

use crate::lab::{Run, Seen};
use crate::outside::Random;

/// All ranks end within this time.
pub const SOON: Duration = Duration::from_secs(10);
/// The launcher has a bit longer: it clears up after them.
const LAUNCHER: Duration = Duration::from_secs(15);
/// What ranks end with that were asked to end and have saved.
const INTERRUPTED: i32 = 75;

/// How a run has to fail.
#[derive(Clone, Copy)]
pub struct Failure {
    /// Who is to blame, where that is one rank.
    pub rank: Option<usize>,
    /// One of these is the cause.
    pub causes: &'static [&'static str],
    pub within: Duration,
    /// Whether the rank that writes the folder can clear up.
    pub root_survives: bool,
}

/// The line of a lost run, or of a panic, in parts.
struct Line {
    rank: usize,
    epoch: usize,
    step: usize,
    cause: String,
}

/// `error: rank R of N on HOST is lost in epoch E, step S, phase P: CAUSE; all ranks end…`, or, of a panic,
/// `error: rank R of N on HOST panicked in epoch E, step S, phase P (a bug in glasses); all ranks end`.
fn parse(line: &str) -> Option<Line> {
    let rest = line.strip_prefix("error: rank ")?;
    let (who, rest) = rest.split_once(" on ")?;
    let rank = who.split_once(" of ")?.0.parse().ok()?;
    let (_host, rest) = rest.split_once(' ')?;
    let (_what, rest) = rest.split_once("in epoch ")?;
    let (epoch, rest) = rest.split_once(", step ")?;
    let (step, rest) = rest.split_once(", phase ")?;
    let (_phase, cause) = rest.split_once([':', ' '])?;
    let cause = cause.trim_start().split("; all ranks end").next()?.to_owned();
    Some(Line { rank, epoch: epoch.parse().ok()?, step: step.parse().ok()?, cause })
}

/// The lines of failure that a run left, each once: every place has at most one of each.
pub fn errors(run: &Run<'_>) -> Result<Vec<String>, String> {
    let stderr = run.stderr();
    let mut all = Vec::<String>::new();
    for place in [stderr.lines().map(str::to_owned).collect(), run.failures()] {
        let lines: Vec<String> = Vec::into_iter(place).filter(|line| line.starts_with("error: ")).collect();
        for (at, line) in lines.iter().enumerate() {
            if lines[..at].contains(line) {
                return Err(format!("twice: {line}\n{}", run.said()));
            }
        }
        all.extend(lines);
    }
    all.sort();
    all.dedup();
    Ok(all)
}

impl Run<'_> {
    /// It has to fail like this, and another one has to be able to go on with it.
    pub fn fails(&mut self, since: Instant, failure: Failure, random: &mut Random) -> Result<Seen, String> {
        let gone = self.gone(since, failure.within)?;
        let status = self.end(LAUNCHER)?;
        if status.success() || status.code() == Some(INTERRUPTED) {
            return Err(format!("it ended with {status}\n{}", self.said()));
        }
        let errors = errors(self)?;
        let [line] = &errors[..] else {
            return Err(format!("{} lines, not one:\n{}\n{}", errors.len(), errors.join("\n"), self.said()));
        };
        let parsed = parse(line).ok_or_else(|| format!("what does this line say: {line}\n{}", self.said()))?;
        if failure.rank.is_some_and(|rank| rank != parsed.rank) {
            return Err(format!("rank {:?} was made to fail: {line}\n{}", failure.rank, self.said()));
        }
        if !failure.causes.iter().any(|cause| parsed.cause.starts_with(cause)) {
            return Err(format!("not {:?}: {line}\n{}", failure.causes, self.said()));
        }
        // Where a rank was is what it said a fifth of a second before at most: it may not have said yet that it has begun.
        if (parsed.epoch == 0) != (parsed.step == 0) {
            return Err(format!("no step without an epoch: {line}"));
        }
        is_whole(&self.seen_at, failure.root_survives)?;
        self.goes_on(random, &[])?;
        Ok(Seen::gone(gone, Some(status), parsed.cause))
    }
}

/// Whether all files in a run's folder can be read; a root that was killed may leave a temporary one.
pub fn is_whole(folder: &Path, root_survived: bool) -> Result<(), String> {
    for entry in std::fs::read_dir(folder).map_err(|e| e.to_string())?.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let fail = |why: String| Err(format!("{} is not whole: {why}", path.display()));
        if path.is_dir() {
            is_whole(&path, root_survived)?;
        } else if is_temporary(&name) {
            if root_survived {
                return fail("it has no name yet".to_owned());
            }
        } else if name.starts_with("step-") {
            read_state(&path).map_err(|e| e.to_string())?;
        } else if name.ends_with(".h5") {
            read(&path).map_err(|e| e.to_string())?;
        } else if name.ends_with(".jsonl") || name.ends_with(".json") {
            let text = std::fs::read_to_string(&path).map_err(|e| e.to_string())?;
            let is_json = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
            let ends = text.is_empty() || text.ends_with('\n') || name == "live.json";
            if !ends || !(is_json(&text) || text.lines().all(is_json)) {
                return fail(text.lines().last().unwrap_or_default().to_owned());
            }
        }
    }
    Ok(())
}
