//! Failing together: an error on any rank becomes the same error on all of them.

use super::Communicator;
use crate::error::{Error, Exit, Result};

/// Collective. If every rank brings `Ok`, each gets its own value back; else all of them get the error of the lowest
/// rank that failed. Call it before the first collective that follows work which can fail.
pub fn agree<T>(comm: &dyn Communicator, mine: Result<T>) -> Result<T> {
    if comm.size() == 1 {
        return mine;
    }
    let said = mine.as_ref().err().map(said_of).unwrap_or_default();
    let all = comm.gather(&said);
    match all.iter().position(|said| !said.is_empty()) {
        None => mine,
        Some(rank) => Err(on_rank(rank, comm, &all[rank])),
    }
}

/// The exit code, and the words.
fn said_of(error: &Error) -> Vec<u8> {
    [&[error.exit() as u8], error.to_string().as_bytes()].concat()
}

fn on_rank(rank: usize, comm: &dyn Communicator, said: &[u8]) -> Error {
    let message = String::from_utf8_lossy(&said[1..]).into_owned();
    Error::OnRank { rank, size: comm.size(), message, exit: Exit::of_code(said[0]) }
}

/// Collective. The root does `work`; the others wait for it. What the root brings back, all get; when it fails, all
/// fail with its message.
pub fn agree_root(comm: &dyn Communicator, work: impl FnOnce() -> Result<String>) -> Result<String> {
    if comm.size() == 1 {
        return work();
    }
    let mine = if comm.is_root() { work() } else { Ok(String::new()) };
    // No exit code is 0.
    let said = match &mine {
        Ok(value) => [&[0], value.as_bytes()].concat(),
        Err(error) => said_of(error),
    };
    let said = comm.broadcast(said);
    match (mine, said[0]) {
        (Err(own), _) => Err(own),
        (Ok(_), 0) => Ok(String::from_utf8_lossy(&said[1..]).into_owned()),
        (Ok(_), _) => Err(on_rank(0, comm, &said)),
    }
}
