//! MPI. The only file that names the crate `mpi`.

// What the crate lacks is called by hand: shared windows, and messages whose buffers outlive a call.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mpi::collective::{CommunicatorCollectives, Root, SystemOperation};
use mpi::datatype::{Equivalence, PartitionMut};
use mpi::environment::{Universe, initialize_with_threading};
use mpi::ffi;
use mpi::raw::{AsRaw, FromRaw};
use mpi::topology::{Communicator as _, SimpleCommunicator};
use mpi::{Count, Threading};

use super::{CHANNELS, Communicator, Nodes, Wire};
use crate::kernels::{self, Buffer, zeros};

/// Elements in one call: MPI counts in `i32`.
const LIMIT: usize = 1 << 30;

/// Something that has an address.
static NOTHING: [u8; 1] = [0];

/// Limits the ranks that share memory: for tests, and for machines whose sockets are better kept apart.
const NODE_RANKS: &str = "GLASSES_NODE_RANKS";

/// Where MPI keeps the memory that ranks share.
const SHARED_MEMORY: &str = "/dev/shm";

/// Looks at a neighbour's counter before we let somebody else have the processor.
const SPINS: usize = 2000;

/// Floats in front of each rank's part of shared memory: its counter, on a cache line of its own.
const COUNTER: usize = 64;

/// All ranks, those of a machine next to one another: not always in the order of `MPI_COMM_WORLD`.
pub struct Mpi {
    world: SimpleCommunicator,
    node: SimpleCommunicator,
    nodes: Nodes,
    bytes: Cell<u64>,
    /// What is under way, a channel each.
    channels: RefCell<Vec<Channel>>,
    /// Memory for numbers of half the width.
    spare: RefCell<Vec<Buffer>>,
    /// Where the ranks of this machine count how often they came to meet the others.
    counters: RefCell<Vec<Counter>>,
    windows: RefCell<Vec<ffi::MPI_Win>>,
    // Finalizes MPI when dropped, so it stands last.
    _universe: Universe,
}

/// Messages under way, and the memory that they come from or go to.
#[derive(Default)]
struct Channel {
    requests: Vec<ffi::MPI_Request>,
    held: Vec<Buffer>,
    /// Numbers of half the width, and where those that come go at the end.
    narrow: Vec<(Buffer, Option<Buffer>)>,
}

/// A counter in shared memory.
struct Counter(NonNull<AtomicU64>);

impl Counter {
    fn get(&self) -> &AtomicU64 {
        // SAFETY: it lies in a window that is only freed when the communicator is.
        unsafe { self.0.as_ref() }
    }
}

/// Says of memory that the communicator keeps it.
struct Window;

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
        let (world, node, nodes) = by_machine(&world);
        Mpi {
            world,
            node,
            nodes,
            bytes: Cell::new(0),
            channels: RefCell::new((0..CHANNELS).map(|_| Channel::default()).collect()),
            spare: RefCell::default(),
            counters: RefCell::default(),
            windows: RefCell::default(),
            _universe: universe,
        }
    }

    fn count(&self, bytes: usize) {
        if self.world.size() > 1 {
            self.bytes.set(self.bytes.get() + bytes as u64);
        }
    }

    /// A number of each rank of this machine.
    fn gather_on_node(&self, number: usize) -> Vec<usize> {
        let mut all = vec![0u64; self.nodes.neighbours().len()];
        self.node.all_gather_into(&(number as u64), &mut all[..]);
        all.into_iter().map(|number| number as usize).collect()
    }

    /// Memory for `values` values at half the width.
    fn narrow(&self, values: usize) -> Buffer {
        let (mut spare, len) = (self.spare.borrow_mut(), Wire::Bf16.floats(values));
        let found = spare.iter().position(|buffer| buffer.len() >= len);
        found.map_or_else(|| zeros(len), |index| spare.swap_remove(index))
    }

    /// Starts what `call` starts (address, length, tag, request), in parts that MPI can count.
    fn start(
        &self,
        channel: usize,
        buffer: &Buffer,
        place: Range<usize>,
        call: impl Fn(*mut f32, i32, i32, *mut ffi::MPI_Request),
    ) {
        assert!(place.start <= place.end && place.end <= buffer.len(), "{place:?} of {}", buffer.len());
        let under_way = &mut self.channels.borrow_mut()[channel];
        for start in place.clone().step_by(LIMIT) {
            // SAFETY: a value that MPI overwrites.
            let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
            let count = LIMIT.min(place.end - start) as i32;
            call(buffer.address().wrapping_add(start), count, channel as i32, &raw mut request);
            under_way.requests.push(request);
            under_way.held.push(buffer.alias());
        }
    }

    fn sum_in_place<T: Equivalence + Copy + Default>(&self, values: &mut [T]) {
        self.count(size_of_val(values));
        let mut total = vec![T::default(); values.len()];
        self.world.all_reduce_into(&*values, &mut total[..], SystemOperation::sum());
        values.copy_from_slice(&total);
    }
}

/// The ranks of a machine next to one another, in the order of their first ones; and those of this machine.
fn by_machine(world: &SimpleCommunicator) -> (SimpleCommunicator, SimpleCommunicator, Nodes) {
    let all = split(world, None, world.rank());
    let most = std::env::var(NODE_RANKS).ok().and_then(|text| text.parse().ok()).filter(|&most| most > 0);
    let mut first = all.rank() / most.unwrap_or(i32::MAX);
    let node = split(&all, Some(first), all.rank());
    // The rank in the world of the first one of this machine says where the machine stands.
    first = world.rank();
    node.process_at_rank(0).broadcast_into(&mut first);
    let ordered = split(world, Some(0), first);
    let mut firsts = vec![0; ordered.size() as usize];
    ordered.all_gather_into(&first, &mut firsts[..]);
    let sizes = firsts.chunk_by(|a, b| a == b).map(<[i32]>::len);
    let nodes = Nodes::new(sizes, ordered.rank() as usize);
    (ordered, node, nodes)
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
            // SAFETY: all ranks of the machine end together, and nobody reaches for the memory any more.
            unsafe { ffi::MPI_Win_free(&raw mut window) };
        }
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

/// Why no file of so many bytes can be made where MPI keeps shared memory, if so. It takes no memory.
fn refuses_file_of(bytes: usize) -> Option<std::io::Error> {
    let path = std::path::Path::new(SHARED_MEMORY).join(format!("glasses-{}", std::process::id()));
    let file = std::fs::File::create_new(&path).ok()?;
    let refused = file.set_len(bytes as u64).err();
    let _ = std::fs::remove_file(path);
    refused
}

fn describe_error(code: i32) -> String {
    let (mut text, mut length) = ([0u8; ffi::MPI_MAX_ERROR_STRING as usize], 0);
    // SAFETY: room for the longest text.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast(), &raw mut length) };
    String::from_utf8_lossy(&text[..length as usize]).into_owned()
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

    fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    fn share(&self, floats: usize) -> Result<Vec<Buffer>, String> {
        let lengths = self.gather_on_node(floats);
        // Sixteen more, to begin at a cache line.
        let bytes = ((COUNTER + floats + 16) * size_of::<f32>()).next_multiple_of(4096);
        let all: usize = lengths.iter().map(|floats| 4 * floats + 8192).sum();
        // Pages of a window are only taken when they are touched: a system without them would end us with a signal, later.
        if let Ok(free) = fs4::available_space(SHARED_MEMORY)
            && self.gather_on_node(free as usize).into_iter().min().unwrap_or(0) < all
        {
            let (free, all) = (free >> 20, all.div_ceil(1 << 20));
            return Err(format!("{free} MB free in {SHARED_MEMORY}, where the ranks of this machine want {all}"));
        }
        // Where the first rank cannot make the file (a limit of file sizes), Open MPI's others would wait for it for ever.
        let refused = if self.nodes.place() == 0 { refuses_file_of(all) } else { None };
        if self.gather_on_node(usize::from(refused.is_some())).contains(&1) {
            let why =
                refused.map_or_else(|| "refused to the first rank of this machine".to_owned(), |why| why.to_string());
            return Err(format!("a file of {} MB in {SHARED_MEMORY}: {why}", all.div_ceil(1 << 20)));
        }
        let node = self.node.as_raw();
        let (mut base, mut window) = (null_mut::<u8>(), std::mem::MaybeUninit::uninit());
        // SAFETY: collective over the node's ranks; errors come back instead of ending everything.
        let code = unsafe {
            ffi::MPI_Comm_set_errhandler(node, ffi::RSMPI_ERRORS_RETURN);
            let base = (&raw mut base).cast();
            ffi::MPI_Win_allocate_shared(
                bytes as ffi::MPI_Aint,
                1,
                ffi::RSMPI_INFO_NULL,
                node,
                base,
                window.as_mut_ptr(),
            )
        };
        if self.gather_on_node(code as usize).iter().any(|&code| code != ffi::MPI_SUCCESS as usize) {
            return Err(format!("MPI_Win_allocate_shared refused {} MB: {}", bytes >> 20, describe_error(code)));
        }
        // SAFETY: the call before succeeded.
        let window = unsafe { window.assume_init() };
        self.windows.borrow_mut().push(window);
        let mut counters = self.counters.borrow_mut();
        counters.clear();
        let memory: Arc<dyn Any + Send + Sync> = Arc::new(Window);
        let part = |(rank, length): (usize, usize)| {
            let (mut size, mut unit, mut base) = (0, 0, null_mut::<u8>());
            // SAFETY: `window` is one of this machine's, `rank` one of its ranks; the part is as long as that rank said, and
            // longer by the counter. It lives as long as this communicator, which outlives what it is lent to.
            unsafe {
                let code = ffi::MPI_Win_shared_query(
                    window,
                    rank as i32,
                    &raw mut size,
                    &raw mut unit,
                    (&raw mut base).cast(),
                );
                let base = NonNull::new(base).filter(|_| code == ffi::MPI_SUCCESS as i32).ok_or("no such part")?;
                let base = base.add(base.align_offset(64)).cast::<f32>();
                counters.push(Counter(base.cast()));
                Ok(Buffer::shared(base.add(COUNTER), length, memory.clone()))
            }
        };
        let parts = lengths.into_iter().enumerate().map(part).collect::<Result<Vec<_>, &str>>();
        drop(counters);
        self.node.barrier();
        parts.map_err(str::to_owned)
    }

    fn meet(&self) {
        let counters = self.counters.borrow();
        let Some(own) = counters.get(self.nodes.place()) else { return };
        let round = own.get().fetch_add(1, Ordering::AcqRel) + 1;
        for other in counters.iter() {
            let mut spins = 0;
            while other.get().load(Ordering::Acquire) < round {
                spins += 1;
                if spins < SPINS {
                    std::hint::spin_loop();
                } else {
                    std::thread::yield_now();
                }
                if spins % 64 == 0 && self.nodes.count() > 1 {
                    self.progress();
                }
            }
        }
    }

    fn send(&self, channel: usize, to: usize, from: &Buffer, place: Range<usize>, wire: Wire) {
        self.count(4 * wire.floats(place.len()));
        let call = |buffer: &Buffer, place| {
            self.start(channel, buffer, place, |start, count, tag, request| {
                // SAFETY: `start` is kept in place until the request is done.
                unsafe {
                    let world = self.world.as_raw();
                    ffi::MPI_Isend(start.cast(), count, ffi::RSMPI_FLOAT, to as i32, tag, world, request);
                }
            });
        };
        match wire {
            Wire::F32 => call(from, place),
            Wire::Bf16 => {
                let mut packed = self.narrow(place.len());
                let len = wire.floats(place.len());
                kernels::pack_bf16(&from[place], &mut packed[..len]);
                call(&packed, 0..len);
                self.channels.borrow_mut()[channel].narrow.push((packed, None));
            }
        }
    }

    fn receive(&self, channel: usize, from: usize, into: &Buffer, place: Range<usize>, wire: Wire) {
        let call = |buffer: &Buffer, place| {
            self.start(channel, buffer, place, |start, count, tag, request| {
                // SAFETY: as above; nobody else touches the place meanwhile.
                unsafe {
                    let world = self.world.as_raw();
                    ffi::MPI_Irecv(start.cast(), count, ffi::RSMPI_FLOAT, from as i32, tag, world, request);
                }
            });
        };
        match wire {
            Wire::F32 => call(into, place),
            Wire::Bf16 => {
                let packed = self.narrow(place.len());
                call(&packed, 0..wire.floats(place.len()));
                self.channels.borrow_mut()[channel].narrow.push((packed, Some(into.part(place))));
            }
        }
    }

    fn progress(&self) {
        for channel in self.channels.borrow_mut().iter_mut().filter(|channel| !channel.requests.is_empty()) {
            let (requests, mut done) = (&mut channel.requests, 0);
            // SAFETY: live requests; where all are done MPI has freed them.
            unsafe {
                let count = requests.len() as i32;
                ffi::MPI_Testall(count, requests.as_mut_ptr(), &raw mut done, ffi::RSMPI_STATUSES_IGNORE);
            }
            if done != 0 {
                channel.requests.clear();
                channel.held.clear();
            }
        }
    }

    fn finish(&self, channel: usize) {
        let Channel { requests, held, narrow } = &mut self.channels.borrow_mut()[channel];
        // SAFETY: live requests.
        unsafe { ffi::MPI_Waitall(requests.len() as i32, requests.as_mut_ptr(), ffi::RSMPI_STATUSES_IGNORE) };
        requests.clear();
        held.clear();
        for (packed, into) in narrow.drain(..) {
            if let Some(mut into) = into {
                let len = Wire::Bf16.floats(into.len());
                kernels::unpack_bf16(&packed[..len], &mut into);
            }
            self.spare.borrow_mut().push(packed);
        }
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
