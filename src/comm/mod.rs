//! How ranks talk: one small, complete trait and its three twins.
//!
//! - [`Solo`]: one rank, no MPI;
//! - [`Threads`]: R ranks as threads of one process, for tests;
//! - `mpi.rs`: MPI, the only file that names the crate `mpi` (feature `mpi`).
//!
//! This module knows numbers and bytes. It does not know what a gradient is. Every rank makes the same calls in the
//! same order: loop bounds come from global numbers.

mod agree;
#[cfg(feature = "mpi")]
mod mpi;
mod solo;
mod threads;

pub use agree::{agree, agree_root};
pub use solo::Solo;
pub use threads::Threads;

/// The collective operations that training needs. A missing one is a compile error, never a silent no-op.
pub trait Communicator {
    /// This process, `0 .. size`.
    fn rank(&self) -> usize;
    /// How many ranks take part.
    fn size(&self) -> usize;
    /// Sums `mine` over the ranks, element by element, into `total` on every rank. Both have the same length on every
    /// rank; what `mine` holds afterwards is unspecified (one rank just swaps the two).
    fn sum_f32(&self, mine: &mut Vec<f32>, total: &mut Vec<f32>);
    /// Sums `values` over the ranks in place, on every rank.
    fn sum_f64(&self, values: &mut [f64]);
    /// Sums `values` over the ranks in place, on every rank.
    fn sum_u64(&self, values: &mut [u64]);
    /// Every rank's bytes, in rank order, on every rank. Lengths may differ.
    fn gather(&self, mine: &[u8]) -> Vec<Vec<u8>>;
    /// The root's bytes, on every rank; what the others pass is ignored.
    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8>;
    /// Returns when every rank has called it.
    fn barrier(&self);
    /// Payload bytes that this rank has handed to the collectives above so far.
    fn bytes_communicated(&self) -> u64;
    /// Ends every rank at once with this exit code, without waiting for anyone.
    fn abort(&self, code: i32) -> !;
    /// Whether this is the rank that prints and writes.
    fn is_root(&self) -> bool {
        self.rank() == 0
    }
    /// What carries the messages, with its version: for `--version`, logs and reports.
    fn describe(&self) -> String;
}

/// The ranks this process was started with: MPI's where the program was built with it, else one.
///
/// Call it once, first thing: with MPI it also makes a panic on any rank end all of them (the alternative is a hang,
/// because the others would wait for this rank for ever).
pub fn world() -> Box<dyn Communicator> {
    #[cfg(feature = "mpi")]
    return Box::new(mpi::Mpi::initialize());
    #[cfg(not(feature = "mpi"))]
    return Box::new(Solo::default());
}
