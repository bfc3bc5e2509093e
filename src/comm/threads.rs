//! R ranks as threads of one process: the twin that lets a test run many ranks without a launcher.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::{Communicator, slice_of};
use crate::kernels::{Buffer, Subtrees};

/// One rank of a group of threads.
pub struct Threads {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
    bytes: Cell<u64>,
}

struct Shared {
    meeting: Mutex<Meeting>,
    changed: Condvar,
}

/// A rendezvous: everyone leaves something, then everyone reads all of it.
struct Meeting {
    slots: Vec<Arc<Vec<u8>>>,
    arrived: usize,
    round: u64,
    dead: bool,
}

impl Threads {
    /// Runs `work` on `size` ranks, each in a thread of its own; returns what they bring back, in rank order.
    ///
    /// # Panics
    /// When a rank panics: the others are woken and end too.
    pub fn run<T: Send>(size: usize, work: impl Fn(&Threads) -> T + Sync) -> Vec<T> {
        let shared = Arc::new(Shared {
            meeting: Mutex::new(Meeting { slots: vec![Arc::default(); size], arrived: 0, round: 0, dead: false }),
            changed: Condvar::new(),
        });
        std::thread::scope(|scope| {
            let ranks: Vec<_> = (0..size)
                .map(|rank| {
                    let (shared, work) = (shared.clone(), &work);
                    scope.spawn(move || work(&Threads { rank, size, shared, bytes: Cell::new(0) }))
                })
                .collect();
            ranks
                .into_iter()
                .map(|rank| match rank.join() {
                    Ok(value) => value,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect()
        })
    }

    fn lock(&self) -> MutexGuard<'_, Meeting> {
        self.shared.meeting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Leaves `mine`, waits for all, returns what everyone left.
    fn exchange(&self, mine: Vec<u8>) -> Vec<Arc<Vec<u8>>> {
        self.bytes.set(self.bytes.get() + mine.len() as u64);
        let mine = Arc::new(mine);
        self.meet(|meeting| meeting.slots[self.rank] = mine);
        let all = self.lock().slots.clone();
        // Nobody may leave something new before everyone has read.
        self.meet(|_| ());
        all
    }

    fn meet(&self, leave: impl FnOnce(&mut Meeting)) {
        let mut meeting = self.lock();
        leave(&mut meeting);
        meeting.arrived += 1;
        let round = meeting.round;
        if meeting.arrived == self.size {
            meeting.arrived = 0;
            meeting.round += 1;
            self.shared.changed.notify_all();
        }
        while meeting.round == round && !meeting.dead {
            meeting = self.shared.changed.wait(meeting).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        assert!(!meeting.dead, "another rank panicked");
    }

    fn sum<T: Copy + std::ops::AddAssign>(&self, values: &mut [T], to: fn(&T) -> [u8; 8], from: fn([u8; 8]) -> T) {
        let all = self.exchange(values.iter().flat_map(to).collect());
        for (rank, bytes) in all.iter().enumerate() {
            for (value, eight) in values.iter_mut().zip(bytes.as_chunks::<8>().0) {
                if rank == 0 {
                    *value = from(*eight);
                } else {
                    *value += from(*eight);
                }
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lock().dead = true;
            self.shared.changed.notify_all();
        }
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }
    fn size(&self) -> usize {
        self.size
    }
    fn sum_f32(&self, mine: &mut Buffer, total: &mut Buffer) {
        let all = self.exchange(mine.iter().flat_map(|v| v.to_le_bytes()).collect());
        total.fill(0.0);
        for bytes in &all {
            for (sum, four) in total.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *sum += f32::from_le_bytes(*four);
            }
        }
    }
    fn scatter_sums<'a>(&self, tree: &Subtrees, sum: &dyn Fn(usize) -> &'a [f32], slice: &mut [f32]) {
        let mine = (0..tree.sums_of[self.rank]).flat_map(|i| sum(i).iter().flat_map(|v| v.to_le_bytes())).collect();
        let all: Vec<f32> =
            self.exchange(mine).iter().flat_map(|b| b.as_chunks::<4>().0.to_vec()).map(f32::from_le_bytes).collect();
        let len = all.len() / tree.joins.len().max(1);
        let place = slice_of(len, self.rank, self.size);
        tree.join_slices(|i| &all[i * len..][place.clone()], slice);
    }
    fn gather_slices(&self, slice: &[f32], whole: &mut [f32]) {
        let all = self.exchange(slice.iter().flat_map(|v| v.to_le_bytes()).collect());
        let values = all.iter().flat_map(|bytes| bytes.as_chunks::<4>().0).map(|four| f32::from_le_bytes(*four));
        whole.iter_mut().zip(values).for_each(|(value, new)| *value = new);
    }
    fn gather_f64(&self, mine: &[f64], all: &mut [f64]) {
        let everyone = self.exchange(mine.iter().flat_map(|v| v.to_le_bytes()).collect());
        let values = everyone.iter().flat_map(|bytes| bytes.as_chunks::<8>().0).map(|eight| f64::from_le_bytes(*eight));
        all.iter_mut().zip(values).for_each(|(value, new)| *value = new);
    }
    fn sum_f64(&self, values: &mut [f64]) {
        self.sum(values, |v| v.to_le_bytes(), f64::from_le_bytes);
    }
    fn sum_u64(&self, values: &mut [u64]) {
        self.sum(values, |v| v.to_le_bytes(), u64::from_le_bytes);
    }
    fn gather(&self, mine: &[u8]) -> Vec<Vec<u8>> {
        self.exchange(mine.to_vec()).iter().map(|bytes| bytes.to_vec()).collect()
    }
    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
        let mine = if self.rank == 0 { bytes } else { Vec::new() };
        self.exchange(mine)[0].to_vec()
    }
    fn barrier(&self) {
        self.meet(|_| ());
    }
    fn bytes_communicated(&self) -> u64 {
        self.bytes.get()
    }
    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
    fn describe(&self) -> String {
        format!("{} threads of one process", self.size)
    }
}
