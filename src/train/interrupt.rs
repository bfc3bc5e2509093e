//! Signals that ask a run to end: at the next step it saves where it stands.
//!
//! USR1, USR2, TERM and XCPU are what batch systems send before a time limit and to make room for others, INT is Ctrl-C, HUP a terminal
//! that went away. One rank that gets one is enough: with the sums of a step the ranks exchange [`StepFlags`](super::lockstep::StepFlags).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::SIGINT;
use signal_hook::flag;

use super::keeping::Kind;
use super::pulse;
use super::saver::Saver;
use super::trainer::Trainer;
use crate::comm::on_root;
use crate::config::Every;
use crate::error::{Error, Exit, Result};
use crate::report::Console;
use crate::signals;

/// In place of a signal: the disk has refused too often.
pub const FAILED_WRITES: u8 = 200;

/// What a shell says of a process that Ctrl-C ended.
const ENDED_BY_INT: i32 = 130;

/// The last one that this process got; 0 is none.
static CAUGHT: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// From now on signals that ask to end are noted; a second Ctrl-C ends the process at once.
///
/// # Errors
/// When the system refuses.
pub fn listen() -> Result<()> {
    if CAUGHT.get().is_some() {
        return Ok(());
    }
    let requests = signals::requests();
    let (caught, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let listen = || {
        // In this order: the first one arms what ends the process at the second.
        flag::register_conditional_shutdown(SIGINT, ENDED_BY_INT, again.clone())?;
        flag::register(SIGINT, again)?;
        requests
            .iter()
            .try_for_each(|signal| flag::register_usize(*signal, caught.clone(), *signal as usize).map(|_| ()))?;
        signals::unblock(&requests)
    };
    listen().map_err(Error::io("listen to signals in", "this process"))?;
    let _ = CAUGHT.set(caught);
    Ok(())
}

/// The signal that this process got, if any.
pub fn caught() -> Option<u8> {
    let signal = CAUGHT.get()?.load(Ordering::Relaxed);
    (signal > 0).then_some(signal as u8)
}

/// As if this process had got the signal: another has, and its job ends with it.
pub fn raise(signal: u8) {
    if let Some(caught) = CAUGHT.get() {
        caught.store(usize::from(signal), Ordering::Relaxed);
    }
}

/// What a signal is called.
pub fn name(signal: u8) -> String {
    if signal == FAILED_WRITES {
        return "a disk that refuses everything".to_owned();
    }
    signals::name(signal)
}

impl Trainer<'_> {
    /// Collective: the run ends here because a rank got a signal; what it has come to is saved.
    pub(super) fn interrupted(&mut self, signal: u8, console: &Console) -> Result<()> {
        let (step, comm) = (self.progress.step, self.comm);
        let again = pulse::again(&self.folder.path().display().to_string());
        on_root(comm, || {
            let end = |what: String, exit: Exit| {
                let message = format!("interrupted by {} after step {step}: {what}", name(signal));
                Err(Error::Ended { message, exit })
            };
            if self.config.checkpoint_every == Every::Never {
                return end("nothing is saved, as --checkpoint-every never says".to_owned(), Exit::Unsaved);
            }
            let saved = self.insist(Kind::Checkpoint, "a checkpoint", console, Trainer::write_checkpoint);
            let newest = self.saver.as_mut().and_then(Saver::newest);
            match (saved, newest) {
                (Ok(()), Some(newest)) if newest == step => {
                    end(format!("saved; {again} goes on from there"), Exit::Interrupted)
                }
                (saved, newest) => {
                    let why = saved
                        .err()
                        .map_or_else(|| "its numbers are not finite".to_owned(), |failure| failure.to_string());
                    let older = match newest {
                        Some(newest) => format!("{again} goes on from step {newest}"),
                        None => "there is no older one".to_owned(),
                    };
                    end(format!("this step could not be saved; {older}: {why}"), Exit::Unsaved)
                }
            }
        })?;
        Ok(())
    }
}
