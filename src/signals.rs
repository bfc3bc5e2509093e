//! Signals that this process is sent: which of them ask it to end, and what it inherited of them.

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::SIGXFSZ;

use crate::error::{Error, Result};

/// What batch systems and terminals send to who is to end: it is heeded however this process was started.
const ALWAYS: [Signal; 3] = [Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGINT];
/// A terminal that went away, a limit of computing time, what else batch systems send: who started this process may want it deaf to
/// them (`nohup`).
const UNLESS_IGNORED: [Signal; 3] = [Signal::SIGHUP, Signal::SIGUSR2, Signal::SIGXCPU];

/// The numbers of the signals that ask this process to end. Asked before anything listens to one.
pub fn requests() -> Vec<i32> {
    let ignored = inherited_ignores();
    // Where the system does not tell, what may be ignored is left as it is.
    let heeded = |signal: &Signal| ignored.is_some_and(|ignored| ignored >> (*signal as i32 - 1) & 1 == 0);
    ALWAYS.into_iter().chain(UNLESS_IGNORED.into_iter().filter(heeded)).map(|signal| signal as i32).collect()
}

/// Those that this process ignores since its start, a bit each from signal 1 on; `None` where there is no Linux to say it.
fn inherited_ignores() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    u64::from_str_radix(status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?.trim(), 16).ok()
}

/// They arrive also where this process was started with them blocked: a job's script keeps some from the launcher.
///
/// # Errors
/// When the system refuses.
pub fn unblock(signals: &[i32]) -> std::io::Result<()> {
    let signals = signals.iter().filter_map(|signal| Signal::try_from(*signal).ok());
    SigSet::from_iter(signals).thread_unblock().map_err(std::io::Error::from)
}

/// From now on a file that grows beyond the limit (`ulimit -f`) is a write that fails, as on a full disk, and not the end of this process.
///
/// # Errors
/// When the system refuses.
pub fn survive_file_limit() -> Result<()> {
    // Whoever handles the signal gets the error; nothing else has to be done.
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default())
        .map(drop)
        .map_err(Error::io("listen to signals in", "this process"))
}

/// What a signal is called.
pub fn name(signal: u8) -> String {
    Signal::try_from(i32::from(signal)).map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}
