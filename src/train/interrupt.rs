//! Signals that ask a run to end: behind the next step it saves where it stands. The epoch loop reads them, once before each step.
//!
//! USR1, USR2, TERM and XCPU are what batch systems send before a time limit and to make room for others, INT is Ctrl-C, HUP a terminal
//! that went away. One rank that gets one is enough: with the sums of a step the ranks exchange [`StepFlags`](super::lockstep::StepFlags).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::SIGINT;
use signal_hook::flag;

use crate::error::{Error, Result};
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
