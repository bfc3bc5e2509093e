//! Allgather of any value that serde can write.

use serde::{Serialize, de::DeserializeOwned};

use super::Communicator;

/// Collective: every rank's value, in rank order; the default stands for one that cannot be read, as where another build sent it.
pub fn allgather<T: Serialize + DeserializeOwned + Default>(comm: &dyn Communicator, own: &T) -> Vec<T> {
    let all = comm.allgather(&serde_json::to_vec(own).unwrap_or_default());
    all.iter().map(|bytes| serde_json::from_slice(bytes).unwrap_or_default()).collect()
}

/// The machine of this process.
pub fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Collective: the machine of each rank.
pub fn hosts(comm: &dyn Communicator) -> Vec<String> {
    allgather(comm, &host())
}
