//! A rank that dies, in every way, and a launcher that does.

use std::time::{Duration, Instant};

use crate::lab::{Lab, Run, Seen, Start, Trouble, random_step};
use crate::line::{Failure, SOON};
use crate::outside::{Random, signal};

const DEAD: &[&str] = &["its process ended without a word (killed, crashed or out of memory)"];

/// A run on 2 to 5 ranks, one of which ends by `strike` at a random moment.
fn one_dies(lab: &Lab, random: &mut Random, strike: impl Fn(u32)) -> Result<Seen, Trouble> {
    let ranks = 2 + random.below(4);
    let rank = random.below(ranks);
    let mut run = lab.start(Start { ranks, ..Start::default() })?;
    run.reach_moment(random)?;
    let process = run.process(rank)?;
    let since = Instant::now();
    strike(process);
    let failure = Failure { rank: Some(rank), causes: DEAD, within: SOON, root_survives: rank > 0 };
    Ok(run.fails(since, failure, random)?)
}

pub fn killed(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    one_dies(lab, random, |process| signal(process, "KILL"))
}

/// More than once: Rust's own handler, there to find stacks that are too small, takes the first one that comes from outside for
/// nothing, and of two that a process finds at the same time it sees one.
pub fn crashed(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    one_dies(lab, random, |process| {
        for _ in 0..5 {
            signal(process, "SEGV");
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

pub fn launcher_killed(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let ranks = 2 + random.below(4);
    let mut run = lab.start(Start { ranks, ..Start::default() })?;
    run.reach_moment(random)?;
    let since = Instant::now();
    signal(run.launcher(), "KILL");
    let failure = Failure { rank: None, causes: &["its launcher is gone"], within: SOON, root_survives: true };
    Ok(run.fails(since, failure, random)?)
}

/// A run with a fault in the program.
fn by_fault(lab: &Lab, random: &mut Random, kind: &str, causes: &'static [&'static str]) -> Result<Seen, Trouble> {
    let (ranks, step) = (2 + random.below(4), random_step(random));
    let rank = random.below(ranks);
    let fault = Some(format!("{kind} rank={rank} step={step}"));
    let mut run: Run<'_> = lab.start(Start { ranks, fault, ..Start::default() })?;
    run.reach(step - 1)?;
    let failure = Failure { rank: Some(rank), causes, within: SOON, root_survives: rank > 0 };
    Ok(run.fails(Instant::now(), failure, random)?)
}

pub fn panicked(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    by_fault(lab, random, "panic", &["(a bug in glasses)"])
}

pub fn left(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    by_fault(lab, random, "exit", DEAD)
}
