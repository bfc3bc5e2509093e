//! Failing together: an error on any rank becomes the same error on all of them.

use super::Communicator;
use crate::error::{Error, Result};

/// Collective. If every rank brings `Ok`, each gets its own value back; else all of them get the error of the lowest
/// rank that failed. Call it before the first collective that follows work which can fail.
pub fn agree<T>(comm: &dyn Communicator, mine: Result<T>) -> Result<T> {
    if comm.size() == 1 {
        return mine;
    }
    let message = match &mine {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    };
    let all = comm.gather(message.as_bytes());
    match all.iter().position(|m| !m.is_empty()) {
        None => mine,
        Some(rank) => {
            Err(Error::OnRank { rank, size: comm.size(), message: String::from_utf8_lossy(&all[rank]).into_owned() })
        }
    }
}

/// Collective. The root does `work`; the others wait for it. What the root brings back, all get; when it fails, all
/// fail with its message.
pub fn agree_root(comm: &dyn Communicator, work: impl FnOnce() -> Result<String>) -> Result<String> {
    if comm.size() == 1 {
        return work();
    }
    let mine = if comm.is_root() { work() } else { Ok(String::new()) };
    let mut tagged = Vec::new();
    match &mine {
        Ok(value) => {
            tagged.push(1);
            tagged.extend_from_slice(value.as_bytes());
        }
        Err(e) => {
            tagged.push(0);
            tagged.extend_from_slice(e.to_string().as_bytes());
        }
    }
    let tagged = comm.broadcast(tagged);
    let text = String::from_utf8_lossy(&tagged[1..]).into_owned();
    match (mine, tagged[0]) {
        (Err(own), _) => Err(own),
        (Ok(_), 1) => Ok(text),
        (Ok(_), _) => Err(Error::OnRank { rank: 0, size: comm.size(), message: text }),
    }
}
