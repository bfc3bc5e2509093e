//! Many runs within one job: the ranks in groups, each of which takes the next run when it is done with one.
//!
//! Who takes what is decided by files: a run is of the group that can create its claim. Nobody waits for a rank that trains,
//! and a group that finds nothing left waits in a sleeping barrier, which uses no processor. The claims are of one job: what a former one left is
//! removed first, and a lock on the folder keeps two jobs apart.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGUSR1;

use super::interrupt;
use super::job::Job;
use super::origin::Origin;
use super::prepare::write_divergence;
use crate::comm::{self, Communicator, all_agree, on_root};
use crate::config::RunConfig;
use crate::error::{Error, Exit, Result};
use crate::files::write_whole;
use crate::lock::RunLock;
use crate::metrics::Summary;
use crate::plural::plural;
use crate::report::{Console, percent};

/// Where claims are while runs are dealt out.
const CLAIMS: &str = ".claims";
/// In place of a claim: some group was interrupted, no run is to begin.
const STOP: &str = "stop";
/// Time between two looks for runs that are done.
const PAUSE: Duration = Duration::from_millis(100);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum End {
    /// All steps are made.
    Finished,
    /// Its losses or weights are no longer numbers: a result.
    Diverged(String),
    /// It could not go on. The words, and the exit code.
    Failed(String, u8),
    /// A signal asked it to end; it can go on. The words, and the exit code.
    Interrupted(String, u8),
}

/// Trains a run on these ranks; its messages go to that console.
pub type Train = fn(&RunConfig, &Origin, &dyn Communicator, Console) -> Result<Summary>;

/// Collective: has `train` run `jobs` in their order, as many at a time as there are groups of `each` ranks; `folder` is one that all ranks
/// see. How each of them ended, on every rank; `None` where it never began. The root says a line of each to `console`.
///
/// # Errors
/// The same one on every rank: the folder is not everyone's, another process deals in it, or it refuses the claims.
pub fn deal(
    jobs: &[Job],
    folder: &Path,
    each: usize,
    comm: &dyn Communicator,
    console: &Console,
    train: Train,
) -> Result<Vec<Option<End>>> {
    let claims = folder.join(CLAIMS);
    let mut lock = None;
    let token = on_root(comm, || {
        lock = Some(RunLock::acquire(folder, Duration::ZERO)?);
        if claims.exists() {
            std::fs::remove_dir_all(&claims).map_err(Error::io("remove the folder", &claims))?;
        }
        std::fs::create_dir(&claims).map_err(Error::io("create the folder", &claims))?;
        let token = format!("job-{}-{}", comm::host(), std::process::id());
        create(&claims.join(&token))?;
        Ok(token)
    })?;
    all_agree(comm, sees(&claims, &token))?;
    let part = comm.split(comm.rank() / each);
    let (done, mut ends) = (AtomicBool::new(false), Vec::new());
    let dealt = std::thread::scope(|scope| {
        // However this ends.
        let _done = Done(&done);
        if comm.is_root() {
            scope.spawn(|| watch(jobs, &claims, &done, console));
        }
        let leads = part.is_root();
        scope.spawn({
            let (claims, done) = (&claims, &done);
            move || forward_signals(claims, leads, done)
        });
        let dealt = take_turns(jobs, &claims, part.as_ref(), train, &mut ends);
        // Others may need hours yet.
        comm.sleeping_barrier();
        dealt
    });
    drop(part);
    all_agree(comm, dealt)?;
    let own = serde_json::to_vec(&ends).map_err(|e| Error::io("gather", "the runs' ends")(e.into()));
    let all = comm.allgather(&all_agree(comm, own)?);
    let mut found = vec![None; jobs.len()];
    for (index, end) in all.iter().flat_map(|own| serde_json::from_slice::<Vec<(usize, End)>>(own).unwrap_or_default())
    {
        found[index] = Some(end);
    }
    // A signal that came while the last runs were about to end has interrupted none of them: those that have not begun.
    let stop = on_root(comm, || Ok(std::fs::read_to_string(claims.join(STOP)).map_or(String::new(), signal_name)))?;
    if !stop.is_empty() {
        let not_begun = || End::Interrupted(format!("not begun: {stop}"), Exit::Interrupted as u8);
        for end in &mut found {
            end.get_or_insert_with(not_begun);
        }
    }
    if comm.is_root() {
        let _ = std::fs::remove_dir_all(&claims);
    }
    Ok(found)
}

/// How many of so many runs are left.
pub fn left_of(left: usize, runs: usize) -> String {
    format!("{left} of {} {} left", plural(runs, "run"), if runs == 1 { "is" } else { "are" })
}

/// Why runs that were dealt out have not all come to a result, if so; `again` is the command that goes on.
pub fn failure(jobs: &[Job], ends: &[Option<End>], again: &str) -> Option<Error> {
    let ended = || jobs.iter().zip(ends).filter_map(|(job, end)| Some((job, end.as_ref()?)));
    // Of several the greatest: 76, not saved, before 75.
    let exit = |of: fn(&End) -> Option<u8>| ended().filter_map(|(_, end)| of(end)).max().map(Exit::of_code);
    let failed: Vec<String> = ended()
        .filter_map(|(job, end)| match end {
            End::Failed(message, _) => Some(format!("{}: {}", job.name, message.replace('\n', "\n  "))),
            _ => None,
        })
        .collect();
    if let Some(exit) = exit(|end| if let End::Interrupted(_, code) = end { Some(*code) } else { None }) {
        let results = ended().filter(|(_, end)| matches!(end, End::Finished | End::Diverged(_))).count();
        let (left, saved) = (jobs.len() - results, if exit == Exit::Interrupted { ", saved" } else { ", not saved" });
        let message = format!("interrupted{saved}: {}; {again} goes on with what is left", left_of(left, jobs.len()));
        return Some(Error::Ended { message, exit });
    }
    let exit = exit(|end| if let End::Failed(_, code) = end { Some(*code) } else { None })?;
    let what = format!("{} of {} failed", failed.len(), plural(jobs.len(), "run"));
    let fix = format!("mend what is named; {again} goes on with what is left");
    Some(Error::Several { what, items: failed, fix }.ended(exit))
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Whether what the root wrote is here, too.
fn sees(claims: &Path, token: &str) -> Result<()> {
    if claims.join(token).exists() {
        return Ok(());
    }
    let place = claims.parent().unwrap_or(claims).display().to_string();
    let fix = "name one on a file system that all machines share, with --out";
    Err(Error::invalid(place, "a folder that the root sees, and this rank does not", "one that all ranks see", fix))
}

/// Whether this process made the file: of several that try, one does.
fn create(path: &Path) -> Result<bool> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(Error::io("create", path)(e)),
    }
}

/// Collective over a group: takes runs until none is left. What the group's root learns goes to `ends`.
fn take_turns(
    jobs: &[Job],
    claims: &Path,
    part: &dyn Communicator,
    train: Train,
    ends: &mut Vec<(usize, End)>,
) -> Result<()> {
    let mut next = 0;
    loop {
        let taken = on_root(part, || {
            while next < jobs.len() && !claims.join(STOP).exists() {
                next += 1;
                if create(&claims.join(format!("{}", next - 1)))? {
                    return Ok((next - 1).to_string());
                }
            }
            Ok(String::new())
        })?;
        let Ok(index) = taken.parse::<usize>() else { return Ok(()) };
        let job = &jobs[index];
        let console = Console::warnings(part.is_root(), &job.name);
        // Its own: the memory that the run shares goes with it.
        let ended = train(&job.config, &job.origin, part.split(0).as_ref(), console);
        let (end, line) = end_of(job, ended);
        let stops = matches!(end, End::Interrupted(..));
        on_root(part, || {
            // Somebody may have removed the folder.
            let _ = std::fs::create_dir_all(claims);
            if stops {
                create(&claims.join(STOP))?;
            }
            if let End::Diverged(message) = &end {
                write_divergence(&job.folder, message, &job.config)?;
            }
            write_whole(&claims.join(format!("{index}.done")), line.as_bytes())?;
            ends.push((index, end));
            Ok(String::new())
        })?;
        if stops {
            return Ok(());
        }
    }
}

/// How a run ended, and the line that says so.
fn end_of(job: &Job, ended: Result<Summary>) -> (End, String) {
    let name = &job.name;
    match ended {
        Ok(summary) => {
            let training = format!("training accuracy {}", percent(summary.train_accuracy));
            let test = summary.test_accuracy.map_or(String::new(), |test| format!("test accuracy {}, ", percent(test)));
            (End::Finished, format!("{name}: {test}{training}, {:.1} s", summary.wall_seconds))
        }
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            match error.exit() {
                Exit::Diverged => (End::Diverged(first.to_owned()), format!("{name}: diverged: {first}")),
                exit @ (Exit::Interrupted | Exit::Unsaved) => {
                    (End::Interrupted(first.to_owned(), exit as u8), format!("{name}: {first}"))
                }
                exit => (End::Failed(text.clone(), exit as u8), format!("{name}: failed: {first}")),
            }
        }
    }
}

/// The signal that stands in the file; one that means as much, where the disk had no room for its number.
fn signal_of(text: &str) -> u8 {
    text.parse().unwrap_or(SIGUSR1 as u8)
}

fn signal_name(text: String) -> String {
    interrupt::name(signal_of(&text))
}

/// Beside the training, or the sleeping barrier: a signal to one rank interrupts all groups, whatever that rank does. Who `leads` a group
/// looks for all of it.
fn forward_signals(claims: &Path, leads: bool, done: &AtomicBool) {
    let stop = claims.join(STOP);
    while !done.load(Ordering::Acquire) {
        let caught = interrupt::caught();
        if let Some(signal) = caught.filter(|_| !stop.exists()) {
            let _ = std::fs::create_dir_all(claims);
            // A full disk may have room for a file without a word in it; else it is tried again.
            let written = write_whole(&stop, signal.to_string().as_bytes());
            let _ = written.is_err() && create(&stop).is_ok();
        } else if caught.is_some() {
            return;
        }
        if leads && let Ok(signal) = std::fs::read_to_string(&stop) {
            return interrupt::raise(signal_of(&signal));
        }
        std::thread::sleep(PAUSE);
    }
}

/// On the root, beside its own training: prints each run's line when it is done.
fn watch(jobs: &[Job], claims: &Path, done: &AtomicBool, console: &Console) {
    let (mut printed, mut count) = (vec![false; jobs.len()], 0);
    let bar = console.bar_of_runs(jobs.len());
    loop {
        // Asked first: what came before that is seen.
        let last = done.load(Ordering::Acquire);
        for (index, printed) in printed.iter_mut().enumerate().filter(|(_, printed)| !**printed) {
            let Ok(line) = std::fs::read_to_string(claims.join(format!("{index}.done"))) else { continue };
            (*printed, count) = (true, count + 1);
            bar.suspend(|| console.say(format!("[{count}/{}] {line}", jobs.len())));
            bar.set_position(count as u64);
        }
        if last {
            bar.finish_and_clear();
            return;
        }
        std::thread::sleep(PAUSE);
    }
}
