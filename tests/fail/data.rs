//! The file of the data: gone, cut, overwritten while a run trains; bad for one rank alone.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Instant;

use crate::lab::{Lab, Run, Seen, Start, Trouble};
use crate::line::{SOON, errors};
use crate::outside::{Random, signal};

/// What `glasses` ends with when its input is bad.
const INPUT: i32 = 2;
const INTERRUPTED: i32 = 75;

/// Ways to spoil a file.
const WAYS: [&str; 4] = ["removed", "cut", "emptied", "overwritten"];

fn io(e: std::io::Error) -> String {
    e.to_string()
}

/// Spoils a file in place, as another program does.
fn spoil(path: &Path, way: &str) -> Result<(), String> {
    if way == "removed" {
        return std::fs::remove_file(path).map_err(io);
    }
    let mut file = OpenOptions::new().write(true).open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    match way {
        "cut" => file.set_len(length / 2).map_err(io),
        "emptied" => file.set_len(0).map_err(io),
        _ => file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&vec![0xA5; length as usize])).map_err(io),
    }
}

/// A copy of the data that may be spoilt, its name and a folder for it.
fn copy(lab: &Lab, name: &str) -> Result<PathBuf, String> {
    let path = lab.dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap_or(&lab.dir)).map_err(io)?;
    std::fs::copy(lab.dir.join("faces.h5"), &path).map_err(io)?;
    Ok(path)
}

/// Rows are in memory: a run does not need its file any more.
pub fn spoilt_while_training(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let path = copy(lab, "spoilt.h5")?;
    let ranks = 2 + random.below(4);
    let mut run = lab.start(Start { ranks, data: Some("spoilt.h5"), ..Start::default() })?;
    run.reach_moment(random)?;
    spoil(&path, WAYS[random.below(WAYS.len())])?;
    run.succeed()?;
    Ok(Seen::went_on("nothing; same digest"))
}

/// It has to end with one error of all ranks, that says `part`.
fn is_refused(run: &mut Run<'_>, part: &str) -> Result<(f64, ExitStatus), String> {
    let since = Instant::now();
    // It has to start first.
    let status = run.end(SOON + SOON)?;
    let gone = run.gone(since, SOON + SOON)?;
    let all = errors(run)?;
    if status.code() != Some(INPUT) || all.len() != 1 || !run.stderr().contains(part) {
        return Err(format!("{status}, {} lines of error, wanted '{part}'\n{}", all.len(), run.said()));
    }
    Ok((gone, status))
}

/// A run cannot go on without its data, says so, and goes on when it is back.
pub fn missing_at_resume(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let path = copy(lab, "missing.h5")?;
    let ranks = 2 + random.below(4);
    let mut run = lab.start(Start { ranks, data: Some("missing.h5"), ..Start::default() })?;
    run.reach_moment(random)?;
    let process = run.process(random.below(ranks))?;
    signal(process, "USR1");
    let status = run.end(SOON)?;
    if status.code() != Some(INTERRUPTED) {
        return Err(format!("{status}\n{}", run.said()).into());
    }
    spoil(&path, WAYS[random.below(WAYS.len())])?;
    let mut next = lab.resume(&run.path, 1 + random.below(4), &[])?;
    let (gone, status) = is_refused(&mut next, "missing.h5")?;
    copy(lab, "missing.h5")?;
    run.goes_on(random, &[])?;
    Ok(Seen::gone(gone, Some(status), "one error, exit code 2; with the file back: same digest"))
}

/// One rank sees another file than the rest: where it starts, the data is bad.
pub fn bad_on_one_rank(lab: &Lab, random: &mut Random) -> Result<Seen, Trouble> {
    let path = copy(lab, "elsewhere/faces.h5")?;
    spoil(&path, WAYS[random.below(WAYS.len())])?;
    let ranks = 2 + random.below(4);
    let rank = random.below(ranks);
    let line = format!("[ \"${{OMPI_COMM_WORLD_RANK-$PMI_RANK}}\" != {rank} ] || cd elsewhere; exec \"$0\" \"$@\"");
    let out = Some(lab.dir.clone());
    let mut run = lab.start(Start { ranks, wrapper: &["sh", "-c", &line], out, ..Start::default() })?;
    let (gone, status) = is_refused(&mut run, &format!("on: rank {rank} of {ranks}"))?;
    if run.path.exists() {
        return Err(format!("{} was left behind", run.path.display()).into());
    }
    Ok(Seen::gone(gone, Some(status), "one error, exit code 2, on: rank R of N"))
}
