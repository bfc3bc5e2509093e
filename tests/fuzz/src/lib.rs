//! What the fuzz targets share: an allocator that refuses what a file may not cause, and the readers they call.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

pub mod foreign;
pub mod readers;

static HELD: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Counts the bytes that Rust code holds; a crash where they are more than [`within`] allows.
struct Counting;

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
    let limit = LIMIT.load(Ordering::Relaxed);
    if held > limit {
        // What prints the message allocates too.
        LIMIT.store(usize::MAX, Ordering::Relaxed);
        panic!("{held} bytes held, {bytes} of them asked for at once; {limit} are allowed");
    }
}

/// Does `work`, which may hold `room` bytes.
pub fn within<T>(room: usize, work: impl FnOnce() -> T) -> T {
    LIMIT.store(HELD.load(Ordering::Relaxed).saturating_add(room), Ordering::Relaxed);
    let result = work();
    LIMIT.store(usize::MAX, Ordering::Relaxed);
    result
}

/// Gives `bytes` to the reader called `name`, in a folder of its own in memory.
pub fn fuzz(name: &str, bytes: &[u8]) {
    let reader = readers::READERS.iter().find(|reader| reader.name == name).expect("a reader of that name");
    let folder = tempfile::tempdir_in("/dev/shm").expect("room in memory");
    within(reader.base + reader.multiple * bytes.len(), || (reader.read)(bytes, folder.path()));
}
