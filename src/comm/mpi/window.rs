//! Memory that the ranks of a machine share, and their node barrier.

use std::any::Any;
use std::ptr::{NonNull, null_mut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mpi::collective::CommunicatorCollectives;
use mpi::ffi;
use mpi::raw::AsRaw;
use mpi::topology::{Communicator as _, SimpleCommunicator};

use super::Mpi;
use super::state::Counter;
use crate::comm::SHARED_MEMORY;
use crate::kernels::{Buffer, zeros};

/// Looks at a neighbour's counter before we let somebody else have the processor.
const SPINS: usize = 2000;

/// Floats in front of each rank's part of shared memory: its counter, on a cache line of its own.
const COUNTER: usize = 64;

/// Says of memory that the communicator keeps it.
struct WindowMemory;

impl Mpi {
    /// A number of each rank of this group, in rank order.
    fn allgather_on_node(&self, number: usize) -> Vec<usize> {
        allgather(&self.node, number)
    }

    pub(super) fn share_memory(&self, floats: usize) -> Result<Vec<Buffer>, String> {
        let lengths = self.allgather_on_node(floats);
        // All groups of a machine take theirs at the same time, from the same place; so may other parts of the world.
        let all = self.peers * allgather(&self.machine, 4 * floats + 8192).into_iter().sum::<usize>();
        self.check_space(all)?;
        if self.nodes.neighbours().len() == 1 {
            // Open MPI would take it from its heap, where what a former window held may still stand.
            self.counters.borrow_mut().clear();
            return Ok(vec![zeros(floats)]);
        }
        self.check_file(all)?;
        // Sixteen more, to begin at a cache line.
        let window = self.allocate(((COUNTER + floats + 16) * size_of::<f32>()).next_multiple_of(4096))?;
        self.windows.borrow_mut().push(window);
        let parts = self.find_parts(window, lengths);
        // MPI does not promise zeros. No rank enters a node barrier before all counters are zero.
        self.counters.borrow()[self.nodes.place()].get().store(0, Ordering::Release);
        self.node.barrier();
        parts
    }

    /// Collective over a machine: pages of a window are only taken when they are touched: a system without them would end us with a
    /// signal, later.
    fn check_space(&self, bytes: usize) -> Result<(), String> {
        let free = fs4::available_space(SHARED_MEMORY).map_or(usize::MAX, |free| free as usize);
        let free = allgather(&self.machine, free).into_iter().min().unwrap_or(0);
        if free < bytes {
            let (free, all) = (free >> 20, bytes.div_ceil(1 << 20));
            return Err(format!("{free} MB free in {SHARED_MEMORY}, where the ranks of this machine want {all}"));
        }
        Ok(())
    }

    /// Collective over a group: where the first rank cannot make the file (a limit of file sizes), Open MPI's others would wait for it for
    /// ever.
    fn check_file(&self, bytes: usize) -> Result<(), String> {
        let refused = if self.nodes.place() == 0 { refuses_file_of(bytes) } else { None };
        if self.allgather_on_node(usize::from(refused.is_some())).contains(&1) {
            let why =
                refused.map_or_else(|| "refused to the first rank of this machine".to_owned(), |why| why.to_string());
            return Err(format!("a file of {} MB in {SHARED_MEMORY}: {why}", bytes.div_ceil(1 << 20)));
        }
        Ok(())
    }

    /// Collective over a group: a window with so many bytes of each rank.
    fn allocate(&self, bytes: usize) -> Result<ffi::MPI_Win, String> {
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
        if self.allgather_on_node(code as usize).iter().any(|&code| code != ffi::MPI_SUCCESS as usize) {
            return Err(format!("MPI_Win_allocate_shared refused {} MB: {}", bytes >> 20, describe_error(code)));
        }
        // SAFETY: the call before succeeded.
        Ok(unsafe { window.assume_init() })
    }

    /// Where each rank's counter, and its floats behind that, lie in a window.
    fn find_parts(&self, window: ffi::MPI_Win, lengths: Vec<usize>) -> Result<Vec<Buffer>, String> {
        let mut counters = self.counters.borrow_mut();
        counters.clear();
        let memory: Arc<dyn Any + Send + Sync> = Arc::new(WindowMemory);
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
                counters.push(Counter::at(base.cast()));
                Ok(Buffer::shared(base.add(COUNTER), length, memory.clone()))
            }
        };
        lengths.into_iter().enumerate().map(part).collect::<Result<Vec<_>, &str>>().map_err(str::to_owned)
    }

    pub(super) fn wait_for_neighbours(&self) {
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
                    self.go_on();
                }
            }
        }
    }
}

/// A number of each rank of `ranks`, in rank order.
fn allgather(ranks: &SimpleCommunicator, number: usize) -> Vec<usize> {
    let mut all = vec![0u64; ranks.size() as usize];
    ranks.all_gather_into(&(number as u64), &mut all[..]);
    all.into_iter().map(|number| number as usize).collect()
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
