//! Every rank's pulse: a thread a rank tells the others that it lives and where it is, so that nobody waits for a rank that is
//! dead or stuck.
//!
//! Ranks are a tree: those of a machine are linked to its first one, the first ones to the root (`links.rs`), by TCP, beside
//! MPI. A link that ends without a goodbye is a death, known within a tenth of a second; a rank without a word, or one
//! that computes without getting further, is stuck after `--stall-timeout` (`monitor.rs`). Whoever finds it out says so in one line,
//! and every rank ends by itself: nobody needs MPI, the launcher or the root for it.

mod links;
mod monitor;
mod state;

pub use state::{again, give_up_after, in_folder, part_of};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::comm::{self, Communicator};
use crate::report::Console;
use links::Links;
use monitor::Monitor;
use state::{DYING, TOLD};

/// A panicking rank gives its thread so long to tell the others.
const LAST_WORDS: Duration = Duration::from_millis(500);

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
