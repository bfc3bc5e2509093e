//! Ranks that stand still: one for good, one for a while, all at once.

use std::time::{Duration, Instant};

use crate::lab::{Lab, Run, Seen, Start, Trouble};
use crate::line::{Failure, SOON};
use crate::outside::{Random, signal};

/// Seconds after which a silent rank is given up.
const STALL: u64 = 6;

fn start<'a>(lab: &'a Lab, random: &mut Random) -> Result<Run<'a>, String> {
    let (ranks, more) = (2 + random.below(4), format!("--stall-timeout {STALL}"));
    let mut run = lab.start(Start { ranks, more: &more, ..Start::default() })?;
    run.reach_moment(random)?;
    Ok(run)
}

pub fn stopped(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let mut run = start(lab, random)?;
    let rank = random.below(run.ranks);
    let since = Instant::now();
    signal(run.process(rank)?, "STOP");
    let within = Duration::from_secs(STALL) + SOON;
    let failure = Failure { rank: Some(rank), causes: &["no word from it for"], within, root_survives: rank > 0 };
    Ok(run.fails(since, failure, random)?)
}

/// Stopped for half the time after which it would be given up.
pub fn slow(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let mut run = start(lab, random)?;
    let rank = random.below(run.ranks);
    let process = run.process(rank)?;
    signal(process, "STOP");
    std::thread::sleep(Duration::from_secs(STALL) / 2);
    signal(process, "CONT");
    run.succeed()?;
    let stderr = run.stderr();
    let name = format!("warning: rank {rank} of {} on ", run.ranks);
    for part in [" is slow at ", " goes on, after "] {
        let lines: Vec<&str> = stderr.lines().filter(|line| line.contains(part)).collect();
        if lines.len() != 1 || !lines[0].starts_with(&name) {
            return Err(format!("rank {rank} was slow; not one line with '{part}':\n{}", run.said()).into());
        }
    }
    Ok(Seen::went_on("rank R is slow, …, rank R goes on; same digest"))
}

/// All are stopped for longer than a silent rank is waited for, as a scheduler does that gives the cores to another job.
pub fn held(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let mut run = start(lab, random)?;
    let processes: Vec<u32> = run.processes().into_values().collect();
    processes.iter().for_each(|&process| signal(process, "STOP"));
    std::thread::sleep(Duration::from_secs(STALL + 2));
    processes.iter().for_each(|&process| signal(process, "CONT"));
    run.succeed()?;
    if let Some(line) = run.stderr().lines().find(|line| line.contains(" is slow ") || line.starts_with("error: ")) {
        return Err(format!("nobody was to blame: {line}\n{}", run.said()).into());
    }
    Ok(Seen::went_on("nothing; same digest"))
}
