//! A rank that gets no more memory: from a moment on, or from the start.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::lab::{Lab, Run, Seen, Start, Trouble};
use crate::line::{errors, is_whole};
use crate::outside::Random;

/// Until a run has ended that can write nothing any more, and has tried so often.
const LIMIT: Duration = Duration::from_secs(30);
/// Until ranks are given up that cannot connect, because MPI had no memory.
const CONNECTING: Duration = Duration::from_secs(70);
/// Tries.
const PATIENCE: &str = "--max-failed-checkpoints 2";
const INTERRUPTED: i32 = 75;

/// Kilobytes that a process has reserved.
fn reserved(process: u32) -> Result<usize, String> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).map_err(|e| e.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).ok_or("no size")?;
    line.trim_end_matches("kB").trim().parse().map_err(|_| format!("the size of a process: {line}"))
}

/// Either nothing more had to be taken, and it came to the same end, or all ranks have ended, with a line.
fn ends_somehow(run: &mut Run<'_>, since: Instant) -> Result<Option<Seen>, String> {
    let gone = run.gone(since, LIMIT)?;
    let status = run.end(Duration::from_secs(15))?;
    if status.success() {
        run.succeed()?;
        return Ok(None);
    }
    let mut errors = errors(run)?;
    if status.code() == Some(INTERRUPTED) || errors.len() != 1 {
        return Err(format!("{status}, {} lines of error\n{}", errors.len(), run.said()));
    }
    let line = errors.remove(0);
    Ok(Some(Seen::gone(gone, Some(status), short(&line))))
}

/// Half of the time of the root, and before its first checkpoint: later a run finds all that it needs in what it gave back.
pub fn taken_away(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let ranks = 2 + random.below(4);
    let is_early = random.below(2) == 0;
    let rank = if is_early { 0 } else { random.below(ranks) };
    let mut run = lab.start(Start { ranks, more: PATIENCE, ..Start::default() })?;
    if is_early {
        run.reach(1)?;
    } else {
        run.reach_moment(random)?;
    }
    let process = run.process(rank)?;
    let limit = 1024 * (reserved(process)? + random.below(4000));
    let since = Instant::now();
    let args = [format!("--pid={process}"), format!("--as={limit}")];
    match Command::new("prlimit").args(args).status() {
        Ok(status) if status.success() => {}
        other => return Err(Trouble::Skipped(format!("prlimit: {other:?}"))),
    }
    let Some(seen) = ends_somehow(&mut run, since)? else {
        return Ok(Seen::went_on("nothing; same digest"));
    };
    // There may be nothing yet to go on from.
    if run.path.exists() {
        is_whole(&run.seen_at, rank > 0)?;
        run.goes_on(random, &[])?;
    }
    Ok(seen)
}

/// From the start, one rank has a bit less than it takes, or much less, or enough.
pub fn short_at_start(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let ranks = 2 + random.below(4);
    let rank = random.below(ranks);
    let kilobytes = 60_000 + random.below(400_000);
    let line =
        format!("[ \"${{OMPI_COMM_WORLD_RANK-$PMI_RANK}}\" != {rank} ] || ulimit -v {kilobytes}; exec \"$0\" \"$@\"");
    let mut run = lab.start(Start { ranks, wrapper: &["sh", "-c", &line], more: PATIENCE, ..Start::default() })?;
    let since = Instant::now();
    let status = run.end(CONNECTING)?;
    let gone = run.gone(since, CONNECTING)?;
    if status.success() {
        run.succeed()?;
        return Ok(Seen::went_on("nothing; same digest"));
    }
    let said = run.stderr();
    if said.trim().is_empty() {
        return Err(format!("rank {rank} of {ranks} with {kilobytes} KB: {status}, and not a word").into());
    }
    let errors = errors(&run)?;
    if errors.len() > 1 {
        return Err(format!("{kilobytes} KB: {} lines, not one\n{}", errors.len(), run.said()).into());
    }
    let line = errors.first().map_or_else(|| "the launcher's or the loader's own words".to_owned(), |line| short(line));
    Ok(Seen::gone(gone, Some(status), line))
}

/// Without what differs from round to round.
fn short(line: &str) -> String {
    let line = line.trim_start_matches("error: ");
    let cause = line.split_once(", phase ").and_then(|(_, rest)| rest.split_once([':', ' ']));
    let text = cause.map_or(line, |(_, cause)| cause.trim_start()).split("; all ranks end").next().unwrap_or_default();
    text.chars().map(|c| if c.is_ascii_digit() { 'N' } else { c }).take(80).collect()
}
