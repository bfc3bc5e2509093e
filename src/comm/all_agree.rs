//! Collective errors: an error on any rank becomes the same error on all of them.

use super::Communicator;
use crate::error::{Error, Exit, Result};

/// Collective. If every rank brings `Ok`, each gets its own value back; else all of them get the error of the lowest
/// rank that failed. Call it before the first collective that follows work which can fail.
pub fn all_agree<T>(comm: &dyn Communicator, mine: Result<T>) -> Result<T> {
    if comm.size() == 1 {
        return mine;
    }
    let encoded = mine.as_ref().err().map(encode).unwrap_or_default();
    let all = comm.allgather(&encoded);
    match all.iter().position(|encoded| !encoded.is_empty()) {
        None => mine,
        Some(rank) => Err(error_of(rank, comm, &all[rank])),
    }
}

/// The exit code, then the message.
fn encode(error: &Error) -> Vec<u8> {
    [&[error.exit() as u8], error.to_string().as_bytes()].concat()
}

fn error_of(rank: usize, comm: &dyn Communicator, encoded: &[u8]) -> Error {
    let message = String::from_utf8_lossy(&encoded[1..]).into_owned();
    Error::OnRank { rank, size: comm.size(), message, exit: Exit::of_code(encoded[0]) }
}

/// Collective. The root does `work` and broadcasts its result: every rank returns the root's value, or fails with the root's
/// message.
pub fn on_root(comm: &dyn Communicator, work: impl FnOnce() -> Result<String>) -> Result<String> {
    if comm.size() == 1 {
        return work();
    }
    let mine = if comm.is_root() { work() } else { Ok(String::new()) };
    // No exit code is 0.
    let encoded = match &mine {
        Ok(value) => [&[0], value.as_bytes()].concat(),
        Err(error) => encode(error),
    };
    let encoded = comm.broadcast(encoded);
    match (mine, encoded[0]) {
        (Err(own), _) => Err(own),
        (Ok(_), 0) => Ok(String::from_utf8_lossy(&encoded[1..]).into_owned()),
        (Ok(_), _) => Err(error_of(0, comm, &encoded)),
    }
}
