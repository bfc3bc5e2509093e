//! Every rank's pulse: a thread a rank tells the others that it lives and where it is, so that nobody waits for a rank that is
//! dead or stuck.
//!
//! Ranks are a tree: those of a machine are linked to its first one, the first ones to the root (`links.rs`), by TCP, beside
//! MPI. A link that ends without a goodbye is a death, known within a tenth of a second; a rank without a word, or one
//! that computes without getting further, is stuck after `--stall-timeout` (`monitor.rs`). Whoever finds it out says so in one line,
//! and every rank ends by itself: nobody needs MPI, the launcher or the root for it.

mod links;
mod monitor;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::comm::{self, Communicator};
use crate::report::Console;
use links::Links;
use monitor::Monitor;

/// A panicking rank gives its thread so long to tell the others.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// In the run's folder: the lines of runs that died.
const FAILURES: &str = "failures.log";

/// This process is about to end, and says why itself.
static DYING: AtomicBool = AtomicBool::new(false);
/// The others have been told.
static TOLD: AtomicBool = AtomicBool::new(false);
/// Seconds after which a stuck rank is given up, if ever.
static STALL: AtomicU64 = AtomicU64::new(60);
/// The folder of the run that goes on in this process, and whether this process writes there.
static RUN: Mutex<Option<(String, bool)>> = Mutex::new(None);

/// Where the run is one of several: the command that goes on with them, and their folder.
static WHOLE: Mutex<Option<(String, PathBuf)>> = Mutex::new(None);

/// A rank's thread; it ends when this is dropped.
pub struct Pulse {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// Collective: from now on a rank that dies or is stuck ends the others. Ranks that cannot be reached by TCP are named in a warning.
    /// It may outlive `comm`, so that nobody hangs in the end of MPI.
    pub fn begin(comm: &dyn Communicator) -> Pulse {
        let done = Arc::new(AtomicBool::new(false));
        if comm.size() == 1 || !comm.has_processes() {
            return Pulse { done, thread: None };
        }
        let console = Console::new(comm.is_root());
        let hosts = comm::hosts(comm);
        let (links, unreached) = Links::open(comm);
        for (rank, failure) in unreached {
            console.warn(format!(
                "rank {rank} on {} cannot be linked to the others ({failure}): that it died they hear from the launcher, if \
                 at all; let the ranks' machines reach one another by TCP",
                hosts[rank]
            ));
        }
        tell_of_panics();
        let monitor = Monitor::new(links, hosts, comm.nodes().clone(), done.clone());
        let thread = std::thread::Builder::new().name("pulse".to_owned()).spawn(move || monitor.run());
        if let Err(failure) = &thread {
            console.warn(format!("no thread to watch the other ranks: {failure}"));
        }
        Pulse { done, thread: thread.ok() }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// From now on ranks that are stuck are given up after so many seconds; 0: never.
pub fn give_up_after(seconds: u64) {
    STALL.store(seconds, Ordering::Relaxed);
}

/// The folder of the run that goes on here: a dying run leaves its line there, too, and who `writes` there clears up.
pub fn in_folder(path: &Path, writes: bool) {
    *RUN.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.display().to_string(), writes));
}

/// While this is held, runs are parts of what one command makes.
pub struct CommandScope(Option<(String, PathBuf)>);

/// Runs are parts of what `command` makes in `folder`, until the result is dropped.
#[must_use]
pub fn part_of(command: &str, folder: &Path) -> CommandScope {
    let whole = Some((command.to_owned(), folder.to_owned()));
    CommandScope(std::mem::replace(&mut *WHOLE.lock().unwrap_or_else(PoisonError::into_inner), whole))
}

impl Drop for CommandScope {
    fn drop(&mut self) {
        *WHOLE.lock().unwrap_or_else(PoisonError::into_inner) = self.0.take();
    }
}

fn whole() -> Option<(String, PathBuf)> {
    WHOLE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The command that goes on with the run in the folder `run`.
pub fn again(run: &str) -> String {
    whole().map_or_else(|| format!("`glasses train --resume {run}`"), |(command, _)| command)
}

/// Where the lines of runs that died are kept, if a run goes on here: its folder, or the one of all its like.
fn failures() -> Option<PathBuf> {
    let folder = whole().map(|(_, folder)| folder).or_else(|| run().map(|(own, _)| own.into()));
    Some(folder?.join(FAILURES))
}

/// As [`in_folder`] said, if it has.
fn run() -> Option<(String, bool)> {
    RUN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A panic ends all ranks (`comm`); before that, the thread tells the others, who then need not find it out.
fn tell_of_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let end = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            DYING.store(true, Ordering::Release);
            let start = Instant::now();
            while !TOLD.load(Ordering::Acquire) && start.elapsed() < LAST_WORDS {
                std::thread::sleep(Duration::from_millis(5));
            }
            end(info);
        }));
    });
}
