//! Communication between ranks: one small, complete trait and its three twins.
//!
//! - [`Solo`]: one rank, no MPI;
//! - [`Threads`]: R ranks as threads of one process, for tests;
//! - `mpi/`: MPI, the only folder that names the crate `mpi` (feature `mpi`);
//! - [`Traced`]: any of them, with a record of its calls (`--trace`).
//!
//! This module knows numbers and bytes. It does not know what a gradient is. Every rank makes the same calls in the
//! same order: loop bounds come from global numbers.

mod all_agree;
#[cfg(feature = "mpi")]
mod mpi;
mod nodes;
mod solo;
mod threads;
mod traced;
mod values;
mod world;

pub use all_agree::{all_agree, on_root};
pub use nodes::{Nodes, RemoteSlot};
pub use solo::Solo;
pub use threads::Threads;
pub use traced::Traced;
pub use values::{allgather, host, hosts};
pub use world::{launch, library, world};

use std::ops::Range;

use crate::kernels::{self, Buffer};

/// The collective operations that training needs. A missing one is a compile error, never a silent no-op.
pub trait Communicator {
    /// This process, `0 .. size`.
    fn rank(&self) -> usize;
    /// How many ranks take part.
    fn size(&self) -> usize;
    /// MPI_Allreduce with MPI_SUM: `mine` of all ranks, element by element, into `total` on every rank. Both have the same length
    /// on every rank; what `mine` holds afterwards is unspecified (one rank just swaps the two).
    fn allreduce_f32(&self, mine: &mut Buffer, total: &mut Buffer);
    /// Whether every rank is a process of its own, which can end alone.
    fn has_processes(&self) -> bool;
    /// Which ranks share a machine.
    fn nodes(&self) -> &Nodes;
    /// MPI_Win_allocate_shared, collective over the ranks of a machine, all its node groups: the zeroed segments of this rank's node
    /// group, in rank order, of which this rank's has `floats` floats. They live as long as the communicator.
    ///
    /// # Errors
    /// What the system said, where it refuses; the same for all ranks of the machine.
    fn allocate_shared(&self, floats: usize) -> Result<Vec<Buffer>, String>;
    /// A barrier of this rank's node group: what its ranks wrote before into memory of [`Communicator::allocate_shared`], all of them
    /// read afterwards. Messages go on meanwhile.
    fn node_barrier(&self);
    /// Starts to send a part of `from` to rank `to`, at that width. It must not change before [`Communicator::finish`] of the
    /// same channel.
    /// Messages on a channel from one rank to another arrive in the order in which they were sent.
    fn send(&self, channel: usize, to: usize, from: &Buffer, place: Range<usize>, wire: Wire);
    /// Starts to receive from rank `from` what it sends on this channel, into a part of `into`, which nobody may touch before
    /// [`Communicator::finish`].
    fn receive(&self, channel: usize, from: usize, into: &Buffer, place: Range<usize>, wire: Wire);
    /// Lets messages under way go on: to be called now and then during long work.
    fn progress(&self);
    /// Waits until what was started on this channel is done.
    fn finish(&self, channel: usize);
    /// MPI_Allgather: every rank's numbers, in rank order, on every rank. `all` is `size` times as long as `mine`. Allocates nothing.
    fn allgather_f64(&self, mine: &[f64], all: &mut [f64]);
    /// MPI_Allreduce with MPI_SUM, in place.
    fn allreduce_f64(&self, values: &mut [f64]);
    /// MPI_Allreduce with MPI_SUM, in place.
    fn allreduce_u64(&self, values: &mut [u64]);
    /// MPI_Allgatherv: every rank's bytes, in rank order, on every rank. Lengths may differ.
    fn allgather(&self, mine: &[u8]) -> Vec<Vec<u8>>;
    /// MPI_Bcast: the root's bytes, on every rank; what the others pass is ignored.
    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8>;
    /// MPI_Barrier.
    fn barrier(&self);
    /// Payload bytes that this rank has handed to the collectives above so far.
    fn bytes_communicated(&self) -> u64;
    /// A barrier of all ranks, as [`Communicator::barrier`] is, in which a waiting rank sleeps: for waits of minutes.
    fn sleeping_barrier(&self);
    /// MPI_Comm_split: the ranks with the same colour as a communicator of their own, in the same order, with the node groups as
    /// they are. Its calls concern its ranks only; what it took it gives back when it is dropped, which all of
    /// them do together.
    fn split(&self, colour: usize) -> Box<dyn Communicator + '_>;
    /// Ends every rank at once with this exit code, those of other groups too, without waiting for anyone.
    fn abort(&self, code: i32) -> !;
    /// Whether this is the rank that prints and writes.
    fn is_root(&self) -> bool {
        self.rank() == 0
    }
    /// What carries the messages, with its version: for `--version`, logs and reports.
    fn describe(&self) -> String;
}

/// Where MPI keeps the memory that ranks share.
pub const SHARED_MEMORY: &str = "/dev/shm";

/// Channels that messages can take.
pub const CHANNELS: usize = 256;

/// How the ranks' gradients become one sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduce {
    /// In the one fixed tree over shards: the same bits on any number of ranks
    #[default]
    Tree,
    /// MPI_Allreduce, in its own order: the same bits for the same number of ranks only
    Mpi,
}

/// How the gradients of a layer reach every rank. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Each rank's sums are added up.
    Reduce,
    /// Dense layers: the rows travel, and every group of ranks forms the gradient from them.
    Factors,
    /// Dense layers: every rank has the weights of some inputs, and the rows' stretches travel.
    Split,
}

impl Strategy {
    /// All of them; a strategy's number, as ranks send it to one another, is its place.
    pub const ALL: [Strategy; 3] = [Strategy::Reduce, Strategy::Factors, Strategy::Split];
}

/// Which strategy dense layers take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Comm {
    /// What `glasses plan` predicts to be fastest, layer by layer
    #[default]
    Auto,
    /// Sums of gradients, for every layer
    Reduce,
    /// Dense layers: rows (input, gradient of the output) instead of gradients
    Factors,
    /// Dense layers: every rank keeps the weights of some inputs; stretches of rows travel
    Split,
}

/// Whether the ranks of a machine work in shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SharedWindow {
    /// Where the system gives enough of it
    #[default]
    Auto,
    /// Yes, or stop
    On,
    /// No: messages only
    Off,
}

/// The width of numbers that travel between machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// As they are
    #[default]
    F32,
    /// Rounded to bfloat16, to the nearest, halves to even: other weights, and only the same on the same ranks
    Bf16,
}

impl Wire {
    /// Floats that `values` values take in a message.
    pub fn floats(self, values: usize) -> usize {
        match self {
            Wire::F32 => values,
            Wire::Bf16 => kernels::packed_len(values),
        }
    }
}
