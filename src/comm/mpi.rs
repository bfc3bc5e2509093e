//! MPI. The only file that names the crate `mpi`.

use std::cell::{Cell, RefCell};

use mpi::collective::{CommunicatorCollectives, Root, SystemOperation};
use mpi::datatype::{Equivalence, Partition, PartitionMut};
use mpi::environment::{Universe, initialize_with_threading};
use mpi::topology::{Communicator as _, SimpleCommunicator};
use mpi::{Count, Threading};

use super::{Communicator, slice_of};
use crate::kernels::{Buffer, Subtrees, zeros};

/// Elements in one call: MPI counts in `i32`.
const LIMIT: usize = 1 << 30;

/// Something that has an address.
static NOTHING: [u8; 1] = [0];

/// All ranks of `MPI_COMM_WORLD`.
pub struct Mpi {
    world: SimpleCommunicator,
    bytes: Cell<u64>,
    exchange: RefCell<Exchange>,
    // Finalizes MPI when dropped, so it stands last.
    _universe: Universe,
}

/// Memory of the exchanges of sums, kept from step to step.
struct Exchange {
    /// What each rank sends us, or we send.
    counts: [Vec<Count>; 2],
    starts: [Vec<Count>; 2],
    /// All ranks' sums of our slice.
    received: Buffer,
    /// Where the sum of each place in the tree lies in `received`.
    places: Vec<usize>,
}

fn count_of(floats: usize) -> Count {
    Count::try_from(floats).expect("under 2^31 weights from all ranks together")
}

impl Exchange {
    fn new() -> Exchange {
        Exchange { counts: Default::default(), starts: Default::default(), received: zeros(0), places: Vec::new() }
    }

    /// Which part of a vector of `len` floats goes to, or comes from, each rank.
    fn slices(&mut self, len: usize, size: usize) {
        let slices = (0..size).map(|rank| slice_of(len, rank, size));
        self.counts[0].clear();
        self.starts[0].clear();
        self.counts[0].extend(slices.clone().map(|slice| count_of(slice.len())));
        self.starts[0].extend(slices.map(|slice| count_of(slice.start)));
    }

    /// Where the `turn`-th sums of the ranks that have so many go, behind `start`: behind the last of them.
    fn receive(&mut self, tree: &Subtrees, turn: usize, slice: usize, mut start: usize) -> usize {
        let ([_, counts], [_, starts]) = (&mut self.counts, &mut self.starts);
        counts.clear();
        starts.clear();
        let mut before = 0;
        for &sums in &tree.sums_of {
            let comes = turn < sums;
            counts.push(if comes { count_of(slice) } else { 0 });
            starts.push(if comes { count_of(start) } else { 0 });
            if comes {
                self.places[before + turn] = start;
                start += slice;
            }
            before += sums;
        }
        start
    }
}

impl Mpi {
    /// Starts MPI and makes a panic on this rank end all ranks.
    ///
    /// # Panics
    /// When called twice in a process.
    pub fn initialize() -> Self {
        let (universe, _) = initialize_with_threading(Threading::Funneled).expect("MPI is started once");
        let world = universe.world();
        if world.size() > 1 {
            abort_when_a_thread_panics(world.rank());
        }
        Mpi { world, bytes: Cell::new(0), exchange: RefCell::new(Exchange::new()), _universe: universe }
    }

    fn count(&self, bytes: usize) {
        if self.world.size() > 1 {
            self.bytes.set(self.bytes.get() + bytes as u64);
        }
    }

    fn sum_in_place<T: Equivalence + Copy + Default>(&self, values: &mut [T]) {
        self.count(size_of_val(values));
        let mut total = vec![T::default(); values.len()];
        self.world.all_reduce_into(&*values, &mut total[..], SystemOperation::sum());
        values.copy_from_slice(&total);
    }
}

/// `Universe` finalizes on unwinding, and finalizing waits for ranks that wait for us: abort first.
fn abort_when_a_thread_panics(rank: i32) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        eprintln!("glasses: rank {rank} on {} panicked (a bug in glasses): ending all ranks", host());
        SimpleCommunicator::world().abort(101);
    }));
}

fn host() -> String {
    mpi::environment::processor_name().unwrap_or_else(|_| "an unnamed host".to_owned())
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn sum_f32(&self, mine: &mut Buffer, total: &mut Buffer) {
        if self.world.size() == 1 {
            std::mem::swap(mine, total);
            return;
        }
        self.count(size_of_val(&mine[..]));
        for (mine, total) in mine.chunks(LIMIT).zip(total.chunks_mut(LIMIT)) {
            self.world.all_reduce_into(mine, total, SystemOperation::sum());
        }
    }

    fn scatter_sums<'a>(&self, tree: &Subtrees, sum: &dyn Fn(usize) -> &'a [f32], slice: &mut [f32]) {
        let (rank, size) = (self.rank(), self.size());
        let exchange = &mut *self.exchange.borrow_mut();
        let most = tree.joins.len() * slice.len();
        if exchange.received.len() < most {
            exchange.received = zeros(most);
        }
        exchange.places.resize(tree.joins.len(), 0);
        let mut start = 0;
        for turn in 0..tree.sums_of.iter().copied().max().unwrap_or(0) {
            let mine = if turn < tree.sums_of[rank] { sum(turn) } else { &[] };
            exchange.slices(mine.len(), size);
            start = exchange.receive(tree, turn, slice.len(), start);
            self.count(size_of_val(mine) - if mine.is_empty() { 0 } else { size_of_val(slice) });
            let send = Partition::new(mine, &exchange.counts[0][..], &exchange.starts[0][..]);
            let received = &mut exchange.received[..];
            let mut receive = PartitionMut::new(received, &exchange.counts[1][..], &exchange.starts[1][..]);
            self.world.all_to_all_varcount_into(&send, &mut receive);
        }
        let Exchange { received, places, .. } = exchange;
        let len = slice.len();
        tree.join_slices(|sum| &received[places[sum]..places[sum] + len], slice);
    }

    fn gather_slices(&self, slice: &[f32], whole: &mut [f32]) {
        let exchange = &mut *self.exchange.borrow_mut();
        exchange.slices(whole.len(), self.size());
        self.count(size_of_val(slice));
        let mut parts = PartitionMut::new(whole, &exchange.counts[0][..], &exchange.starts[0][..]);
        self.world.all_gather_varcount_into(slice, &mut parts);
    }

    fn gather_f64(&self, mine: &[f64], all: &mut [f64]) {
        self.count(size_of_val(mine));
        self.world.all_gather_into(mine, all);
    }

    fn sum_f64(&self, values: &mut [f64]) {
        self.sum_in_place(values);
    }

    fn sum_u64(&self, values: &mut [u64]) {
        self.sum_in_place(values);
    }

    fn gather(&self, mine: &[u8]) -> Vec<Vec<u8>> {
        let mut lengths = vec![0u64; self.size()];
        self.world.all_gather_into(&(mine.len() as u64), &mut lengths[..]);
        let counts: Vec<Count> = lengths.iter().map(|&n| Count::try_from(n).expect("under 2 GiB a rank")).collect();
        let after = |sum: &mut Count, &n: &Count| {
            let end = sum.checked_add(n).expect("under 2 GiB from all ranks together");
            Some(std::mem::replace(sum, end))
        };
        let starts: Vec<Count> = counts.iter().scan(0, after).collect();
        let mut all = vec![0u8; lengths.iter().sum::<u64>() as usize];
        if all.is_empty() {
            return vec![Vec::new(); lengths.len()];
        }
        // Open MPI's MPI_IN_PLACE is the address 1, and so is that of an empty slice of bytes.
        let mine = if mine.is_empty() { &NOTHING[..0] } else { mine };
        self.count(mine.len());
        let mut parts = PartitionMut::new(&mut all[..], &counts[..], &starts[..]);
        self.world.all_gather_varcount_into(mine, &mut parts);
        let mut rest = &all[..];
        lengths
            .iter()
            .map(|&n| {
                let (head, tail) = rest.split_at(n as usize);
                rest = tail;
                head.to_vec()
            })
            .collect()
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
        let root = self.world.process_at_rank(0);
        let mut length = bytes.len() as u64;
        root.broadcast_into(&mut length);
        let mut bytes = if self.is_root() { bytes } else { vec![0; length as usize] };
        if self.is_root() {
            self.count(bytes.len());
        }
        for part in bytes.chunks_mut(LIMIT) {
            root.broadcast_into(part);
        }
        bytes
    }

    fn barrier(&self) {
        self.world.barrier();
    }

    fn bytes_communicated(&self) -> u64 {
        self.bytes.get()
    }

    fn abort(&self, code: i32) -> ! {
        self.world.abort(code)
    }

    fn describe(&self) -> String {
        library()
    }
}

/// The library's name and version.
pub fn library() -> String {
    let version = mpi::environment::library_version().unwrap_or_default();
    version.split([',', '\n']).next().unwrap_or_default().trim().replace('\t', " ")
}
