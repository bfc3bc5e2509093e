//! A cable that is pulled between two hosts (`hosts.sh`): for some seconds, or for good.

use std::time::{Duration, Instant};

use crate::lab::{Lab, Run, Seen, Start, Trouble};
use crate::line::{SOON, is_whole};
use crate::outside::Random;

/// Seconds after which a silent rank is given up.
const STALL: u64 = 8;
/// What the script ends with where there are no namespaces.
const NOT_PERMITTED: i32 = 77;
/// How the link is cut, and mended.
const CUTS: [[&str; 2]; 2] = [["down", "up"], ["pull", "plug"]];

/// A run on two hosts, at a random moment.
fn start<'a>(lab: &'a Lab, random: &mut Random, more: &str) -> Result<Run<'a>, Trouble> {
    let script = format!("{}/tests/fail/hosts.sh", env!("CARGO_MANIFEST_DIR"));
    let ranks = 1 + random.below(2);
    let before = [script.as_str(), &ranks.to_string()];
    let mut run = lab.start(Start { before: &before, more, is_steered: true, ..Start::default() })?;
    run.ranks = 2 * ranks;
    if let Err(why) = run.reach_moment(random) {
        return match run.end(SOON) {
            Ok(status) if status.code() == Some(NOT_PERMITTED) => Err(Trouble::Skipped(run.stderr())),
            _ => Err(why.into()),
        };
    }
    Ok(run)
}

/// A network that is away for 5 s.
pub fn away(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let mut run = start(lab, random, "")?;
    let [cut, mend] = CUTS[random.below(CUTS.len())];
    run.steer(cut)?;
    std::thread::sleep(Duration::from_secs(5));
    run.steer(mend)?;
    run.succeed()?;
    Ok(Seen::went_on("nothing; same digest"))
}

/// A network that never comes back: either side gives the other one up, and says so.
pub fn gone(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let mut run = start(lab, random, &format!("--stall-timeout {STALL}"))?;
    let [cut, _] = CUTS[random.below(CUTS.len())];
    let since = Instant::now();
    run.steer(cut)?;
    let gone = run.gone(since, Duration::from_secs(STALL) + SOON)?;
    let launcher = run.end(Duration::from_secs(2));
    if let Ok(status) = &launcher
        && status.success()
    {
        return Err(format!("{status}\n{}", run.said()).into());
    }
    let (stderr, failures) = (run.stderr(), run.failures());
    // What the root's side says reaches the launcher's terminal; the other side has the folder only.
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let names = |line: &str, host: usize| line.contains(&format!(" on host{host} is lost in epoch "));
    let sides = [0, 1].map(|host| failures.iter().filter(|line| names(line, host)).count());
    if lines.len() != 1 || !names(lines[0], 1) || failures.len() > 2 || sides[1] != 1 {
        return Err(format!("not one line that names host1\n{}", run.said()).into());
    }
    is_whole(&run.seen_at, true)?;
    run.goes_on(random, &[])?;
    Ok(Seen::gone(gone, launcher.ok(), "rank R of N on host1 is lost …: no word from it …"))
}
