//! Signals that ask a run to end: it saves and says how to go on.

use std::time::{Duration, Instant};

use crate::lab::{Lab, Seen, Start, Trouble};
use crate::line::{SOON, errors, is_whole};
use crate::outside::{Random, signal};

const INTERRUPTED: i32 = 75;

/// To one rank, to all, or to the launcher, which passes USR1 on. What Open MPI's makes of a TERM is its own affair (it ends
/// the ranks within a second or two, and returns 1), but nothing may be lost.
pub fn asked_to_end(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let ranks = 2 + random.below(4);
    let mut run = lab.start(Start { ranks, ..Start::default() })?;
    run.reach_moment(random)?;
    let (name, whom) = (["USR1", "TERM"][random.below(2)], ["one rank", "all ranks", "the launcher"][random.below(3)]);
    let processes: Vec<u32> = run.processes().into_values().collect();
    let since = Instant::now();
    match whom {
        "one rank" => signal(processes[random.below(processes.len())], name),
        "all ranks" => processes.iter().for_each(|&process| signal(process, name)),
        _ => signal(run.launcher(), name),
    }
    let gone = run.gone(since, SOON)?;
    let (status, said) = (run.end(Duration::from_secs(15))?, run.stderr());
    let ends_all = (name, whom) == ("TERM", "the launcher");
    if status.success() || (!ends_all && status.code() != Some(INTERRUPTED)) {
        return Err(format!("SIG{name} to {whom}: {status}\n{}", run.said()).into());
    }
    let lines = said.lines().filter(|line| line.starts_with(&format!("interrupted by SIG{name} after step "))).count();
    if lines != 1 && !ends_all {
        return Err(format!("SIG{name} to {whom}: {lines} lines, not one\n{}", run.said()).into());
    }
    if !errors(&run)?.is_empty() {
        return Err(format!("SIG{name} to {whom} is no failure\n{}", run.said()).into());
    }
    is_whole(&run.seen_at, !ends_all)?;
    run.goes_on(random, &[])?;
    Ok(Seen::gone(gone, Some(status), "interrupted by SIG… after step S: saved"))
}
