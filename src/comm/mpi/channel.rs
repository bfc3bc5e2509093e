//! What is under way on a channel.

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
