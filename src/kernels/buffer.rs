//! Memory of floats: this process's own, or a part of what the ranks of a node share.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// Bytes of a cache line: a line of lanes never straddles two.
const LINE: usize = 64;

/// A vector of floats that begins at a cache line.
///
/// A part of a node's shared memory ([`Buffer::shared`]) is seen by several processes, each through a `Buffer` of its own: who
/// writes which places, and when the others may read them, is what `Communicator::node_barrier` is for.
pub struct Buffer {
    start: NonNull<f32>,
    len: usize,
    /// Keeps the memory in place.
    memory: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the memory is kept by an `Arc` that may be sent and shared, and is reached as a slice is.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

/// A block of this process's own memory.
struct Allocation {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a plain block of memory.
unsafe impl Send for Allocation {}
// SAFETY: as above; it is only reached through the `Buffer`s that keep it.
unsafe impl Sync for Allocation {}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `zeros`.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// A buffer of zeros. Pages that nobody writes take no memory.
pub fn zeros(len: usize) -> Buffer {
    // A layout that asks for a cache line would be filled with zeros by hand, page after page.
    let layout = Layout::array::<f32>(len + LINE / size_of::<f32>()).expect("a length that memory can have");
    // SAFETY: the layout is not empty.
    let block = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
    let before = block.align_offset(LINE);
    // SAFETY: less than a line, by which the block is longer than the floats.
    let start = unsafe { block.add(before) };
    Buffer { start: start.cast(), len, memory: Arc::new(Allocation { start: block, layout }) }
}

impl Buffer {
    /// `len` floats from `start` on, in memory that stays where it is as long as `memory` lives.
    ///
    /// # Safety
    /// They must lie there, aligned, holding floats; and those who share them must agree on who writes which, and when.
    pub unsafe fn shared(start: NonNull<f32>, len: usize, memory: Arc<dyn Any + Send + Sync>) -> Buffer {
        Buffer { start, len, memory }
    }

    /// The same memory once more: for what travels while its owner goes on to use the rest of it. Who holds it promises what those
    /// who share memory promise.
    #[inline]
    pub fn alias(&self) -> Buffer {
        self.part(0..self.len)
    }

    /// A part of it, as [`Buffer::alias`].
    ///
    /// # Panics
    /// When it has no such part.
    #[inline]
    pub fn part(&self, place: std::ops::Range<usize>) -> Buffer {
        let start = NonNull::from(&self[place.clone()]).cast();
        Buffer { start, len: place.len(), memory: self.memory.clone() }
    }

    /// Where it begins.
    #[inline]
    pub fn address(&self) -> *mut f32 {
        self.start.as_ptr()
    }
}

impl Deref for Buffer {
    type Target = [f32];
    #[inline]
    fn deref(&self) -> &[f32] {
        // SAFETY: the promise of whoever made it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// A copy in memory of its own.
impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        let mut copy = zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} floats)", self.len)
    }
}
