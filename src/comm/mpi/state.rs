//! What a communicator holds besides MPI's own: messages under way, and the counters of node barriers.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use mpi::ffi;

use crate::kernels::Buffer;

/// Messages under way, and the memory that they come from or go to.
#[derive(Default)]
pub(super) struct Channel {
    pub(super) requests: Vec<ffi::MPI_Request>,
    pub(super) held: Vec<Buffer>,
    /// Numbers of half the width, and where those that come go at the end.
    pub(super) narrow: Vec<(Buffer, Option<Buffer>)>,
}

/// A counter in shared memory.
pub(super) struct Counter(NonNull<AtomicU64>);

impl Counter {
    /// The one that lies at this address, in a window that lives as long as the communicator.
    pub(super) fn at(address: NonNull<AtomicU64>) -> Counter {
        Counter(address)
    }

    /// The number.
    pub(super) fn get(&self) -> &AtomicU64 {
        // SAFETY: it lies in a window that is only freed when the communicator is.
        unsafe { self.0.as_ref() }
    }
}
