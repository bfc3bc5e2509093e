//! Counters that ranks of a machine meet by.

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

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
