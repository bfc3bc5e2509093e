//! MPI. The only folder that names the crate `mpi`.

// What the crate lacks is called by hand: shared windows, and messages whose buffers outlive a call.
#![allow(unsafe_code)]

mod messages;
mod state;
mod window;

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::ops::Range;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use mpi::collective::{CommunicatorCollectives, Root, SystemOperation};
use mpi::datatype::{Equivalence, PartitionMut};
use mpi::environment::{Universe, initialize_with_threading};
use mpi::ffi;
use mpi::raw::{AsRaw, FromRaw};
use mpi::topology::{Communicator as _, SimpleCommunicator};
use mpi::{Count, Threading};

use super::{CHANNELS, Communicator, Nodes, Wire};
use crate::error::Exit;
use crate::kernels::Buffer;
use crate::launch::{Launch, Library};
use crate::position;
use state::{Channel, Counter};

/// Elements in one call: MPI counts in `i32`.
const LIMIT: usize = 1 << 30;

/// Bytes that are broadcast at once: the rank has got further.
const PIECE: usize = 1 << 26;

/// MPI starts within this time, also on a thousand nodes.
const STARTING: Duration = Duration::from_secs(120);
/// The first collective calls return within this time after MPI has started.
const CONNECTING: Duration = Duration::from_secs(20);
/// The launcher ends all ranks of which one has ended within this time.
const LAUNCHER: Duration = Duration::from_secs(10);
/// Time between two looks at whether the others have come.
const PAUSE: Duration = Duration::from_millis(10);

/// Something that has an address.
static NOTHING: [u8; 1] = [0];

/// Limits the ranks that share memory: for tests, and for machines whose sockets are better kept apart.
const NODE_RANKS: &str = "GLASSES_NODE_RANKS";

/// All ranks, those of a machine next to one another: not always in the order of `MPI_COMM_WORLD`.
pub struct Mpi {
    world: SimpleCommunicator,
    /// Ranks that could share memory, and those that do.
    machine: SimpleCommunicator,
    node: SimpleCommunicator,
    nodes: Nodes,
    bytes: Cell<u64>,
    /// What is under way, a channel each.
    channels: RefCell<Vec<Channel>>,
    /// Memory for numbers of half the width.
    spare: RefCell<Vec<Buffer>>,
    /// How many node barriers each rank of this node has entered, in shared memory.
    counters: RefCell<Vec<Counter>>,
    windows: RefCell<Vec<ffi::MPI_Win>>,
    /// How many communicators like this one take memory of this machine.
    peers: usize,
    // Finalizes MPI when dropped, so it stands last. Parts of the world have none.
    _universe: Option<Universe>,
}

impl Mpi {
    /// Starts MPI and makes a panic on this rank end all ranks. Who is not `patient` ends where others do not come.
    ///
    /// # Panics
    /// When called twice in a process.
    pub fn initialize(launch: &Launch, patient: bool) -> Self {
        let place = |rank, size| format!("rank {rank} of {size} on {}", crate::comm::host());
        let own = place(launch.rank.unwrap_or(0), launch.ranks.map_or("?".to_owned(), |ranks| ranks.to_string()));
        // Where another rank never starts MPI, this one waits for it in there.
        let soon = end_unless_dropped((STARTING, patient), launch.speaks(), move |seconds| {
            format!(
                "{own}: MPI has not started within {seconds} s: the launcher or another rank does not answer\n  fix: see what they say; start \
                 all ranks with one launcher and one build, and let the machines reach one another"
            )
        });
        let (universe, _) = initialize_with_threading(Threading::Funneled).expect("MPI is started once");
        drop(soon);
        let world = universe.world();
        if world.size() > 1 {
            abort_when_a_thread_panics(world.rank(), world.size());
        }
        // Where a rank had no memory left for MPI's own, the first collective call never returns, on any rank (Open MPI 4.1).
        let own = place(world.rank() as usize, world.size().to_string());
        let soon = end_unless_dropped((CONNECTING, patient), world.rank() == 0, move |seconds| {
            format!(
                "{own}: MPI has started, but for {seconds} s its ranks have not reached one another\n  fix: see what MPI says above; give \
                 every rank more memory (ulimit -v, the batch system's limit), let the machines reach one another"
            )
        });
        let ranks = by_machine(&world);
        drop(soon);
        Mpi::of(ranks, 1, Some(universe))
    }

    fn of((world, machine, node): Ranks, peers: usize, universe: Option<Universe>) -> Mpi {
        let nodes = nodes(&world, &node);
        Mpi {
            world,
            machine,
            node,
            nodes,
            bytes: Cell::new(0),
            channels: RefCell::new((0..CHANNELS).map(|_| Channel::default()).collect()),
            spare: RefCell::default(),
            counters: RefCell::default(),
            windows: RefCell::default(),
            peers,
            _universe: universe,
        }
    }

    fn count(&self, bytes: usize) {
        if self.world.size() > 1 {
            self.bytes.set(self.bytes.get() + bytes as u64);
        }
    }

    fn sum_in_place<T: Equivalence + Copy + Default>(&self, values: &mut [T]) {
        self.count(size_of_val(values));
        let _wait = position::wait();
        let mut total = vec![T::default(); values.len()];
        self.world.all_reduce_into(&*values, &mut total[..], SystemOperation::sum());
        values.copy_from_slice(&total);
    }
}

/// All ranks, those that could share memory, those that do.
type Ranks = (SimpleCommunicator, SimpleCommunicator, SimpleCommunicator);

/// The ranks of a group next to one another, in the order of their first ones; those of this machine; those of this group.
fn by_machine(world: &SimpleCommunicator) -> Ranks {
    let machine = split(world, None, world.rank());
    let most = std::env::var(NODE_RANKS).ok().and_then(|text| text.parse().ok()).filter(|&most| most > 0);
    let mut first = machine.rank() / most.unwrap_or(i32::MAX);
    let node = split(&machine, Some(first), machine.rank());
    // The rank in the world of the first one of this machine says where the machine stands.
    first = world.rank();
    node.process_at_rank(0).broadcast_into(&mut first);
    (split(world, Some(0), first), machine, node)
}

/// Which of the ranks of `world` share memory: those of a group are next to one another.
fn nodes(world: &SimpleCommunicator, node: &SimpleCommunicator) -> Nodes {
    let mut first = world.rank();
    node.process_at_rank(0).broadcast_into(&mut first);
    let mut firsts = vec![0; world.size() as usize];
    world.all_gather_into(&first, &mut firsts[..]);
    let sizes = firsts.chunk_by(|a, b| a == b).map(<[i32]>::len);
    Nodes::new(sizes, world.rank() as usize)
}

/// The ranks of `of` with the same `color` (without one: those that can share memory), ordered by `key`.
fn split(of: &SimpleCommunicator, color: Option<i32>, key: i32) -> SimpleCommunicator {
    // SAFETY: collective over `of`; the new communicator is ours.
    unsafe {
        let mut new = ffi::RSMPI_COMM_NULL;
        match color {
            Some(color) => ffi::MPI_Comm_split(of.as_raw(), color, key, &raw mut new),
            None => {
                let kind = ffi::RSMPI_COMM_TYPE_SHARED;
                ffi::MPI_Comm_split_type(of.as_raw(), kind, key, ffi::RSMPI_INFO_NULL, &raw mut new)
            }
        };
        SimpleCommunicator::from_raw(new)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        for mut window in self.windows.borrow_mut().drain(..) {
            // SAFETY: all ranks of the group end together, and nobody reaches for the memory any more.
            unsafe { ffi::MPI_Win_free(&raw mut window) };
        }
    }
}

/// Ends this process with a line after so long, unless the result is dropped before, or it is `patient`: nobody watches the ranks
/// yet. Time in which this process itself is held does not count. Who is not `first` waits a little longer: one line is enough, the
/// launcher ends the others.
fn end_unless_dropped(
    (limit, patient): (Duration, bool),
    first: bool,
    line: impl FnOnce(u64) -> String + Send + 'static,
) -> Sender<()> {
    let (dropped, waits) = channel::<()>();
    let limit = limit + if first { Duration::ZERO } else { LAUNCHER };
    let watch = move || {
        for _ in 0..limit.as_secs() {
            if waits.recv_timeout(Duration::from_secs(1)) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
        eprintln!("error: {}", line(limit.as_secs()));
        signal_hook::low_level::exit(Exit::Lost as i32);
    };
    if patient {
        return dropped;
    }
    // Where there is no room for a thread, there is none for a watch.
    let _ = std::thread::Builder::new().spawn(watch);
    dropped
}

/// `Universe` finalizes on unwinding, and finalizing waits for ranks that wait for us: abort first.
fn abort_when_a_thread_panics(rank: i32, size: i32) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        let (host, now) = (host(), position::now());
        let line =
            format!("error: rank {rank} of {size} on {host} panicked in {now} (a bug in glasses); all ranks end\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
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

    fn allreduce_f32(&self, mine: &mut Buffer, total: &mut Buffer) {
        if self.world.size() == 1 {
            std::mem::swap(mine, total);
            return;
        }
        self.count(size_of_val(&mine[..]));
        let _wait = position::wait();
        for (mine, total) in mine.chunks(LIMIT).zip(total.chunks_mut(LIMIT)) {
            self.world.all_reduce_into(mine, total, SystemOperation::sum());
        }
    }

    fn has_processes(&self) -> bool {
        true
    }

    fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    fn allocate_shared(&self, floats: usize) -> Result<Vec<Buffer>, String> {
        let _wait = position::wait();
        self.share_memory(floats)
    }

    fn node_barrier(&self) {
        let _wait = position::wait();
        self.wait_for_neighbours();
    }

    fn send(&self, channel: usize, to: usize, from: &Buffer, place: Range<usize>, wire: Wire) {
        self.start_send(channel, to, from, place, wire);
    }

    fn receive(&self, channel: usize, from: usize, into: &Buffer, place: Range<usize>, wire: Wire) {
        self.start_receive(channel, from, into, place, wire);
    }

    fn progress(&self) {
        self.go_on();
    }

    fn finish(&self, channel: usize) {
        let _wait = position::wait();
        self.wait_for(channel);
    }

    fn allgather_f64(&self, mine: &[f64], all: &mut [f64]) {
        self.count(size_of_val(mine));
        let _wait = position::wait();
        self.world.all_gather_into(mine, all);
    }

    fn allreduce_f64(&self, values: &mut [f64]) {
        self.sum_in_place(values);
    }

    fn allreduce_u64(&self, values: &mut [u64]) {
        self.sum_in_place(values);
    }

    fn allgather(&self, mine: &[u8]) -> Vec<Vec<u8>> {
        let _wait = position::wait();
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
        let _wait = position::wait();
        let root = self.world.process_at_rank(0);
        let mut length = bytes.len() as u64;
        root.broadcast_into(&mut length);
        let mut bytes = if self.is_root() { bytes } else { vec![0; length as usize] };
        if self.is_root() {
            self.count(bytes.len());
        }
        for part in bytes.chunks_mut(PIECE) {
            root.broadcast_into(part);
            position::tick();
        }
        bytes
    }

    fn barrier(&self) {
        let _wait = position::wait();
        self.world.barrier();
    }

    fn sleeping_barrier(&self) {
        let _wait = position::wait();
        let mut barrier = self.world.immediate_barrier();
        while let Err(under_way) = barrier.test() {
            barrier = under_way;
            std::thread::sleep(PAUSE);
        }
    }

    fn split(&self, colour: usize) -> Box<dyn Communicator + '_> {
        let _wait = position::wait();
        let colour = i32::try_from(colour).expect("a colour below 2^31");
        let of = |ranks| split(ranks, Some(colour), self.world.rank());
        let ranks = (of(&self.world), of(&self.machine), of(&self.node));
        let mut colours = vec![0; self.machine.size() as usize];
        self.machine.all_gather_into(&colour, &mut colours[..]);
        colours.sort_unstable();
        colours.dedup();
        Box::new(Mpi::of(ranks, self.peers * colours.len(), None))
    }

    fn bytes_communicated(&self) -> u64 {
        self.bytes.get()
    }

    fn abort(&self, code: i32) -> ! {
        SimpleCommunicator::world().abort(code)
    }

    fn describe(&self) -> String {
        version()
    }
}

/// The library's name and version.
pub fn version() -> String {
    Library::new(&mpi::environment::library_version().unwrap_or_default(), None).name
}

/// The library, and what it finds ranks by, as closely as its files tell where that is `wanted`: to look takes a millisecond.
pub fn library(wanted: bool) -> Library {
    let folder = if wanted { Library::loaded_from("libmpi") } else { None };
    Library::new(&mpi::environment::library_version().unwrap_or_default(), folder)
}
