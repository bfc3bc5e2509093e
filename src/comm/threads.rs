//! R ranks as threads of one process: the twin that lets a test run many ranks without a launcher.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::{Communicator, Nodes, Wire};
use crate::kernels::{self, Buffer, zeros};

/// One rank of a group of threads.
pub struct Threads {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
    bytes: Cell<u64>,
    nodes: Nodes,
    /// What is to be received: channel, sender, place.
    expected: RefCell<Vec<Expected>>,
}

type Expected = (usize, usize, Buffer, Range<usize>);

type Messages = VecDeque<Vec<f32>>;

struct Shared {
    rendezvous: Mutex<Rendezvous>,
    changed: Condvar,
    /// How many node barriers each rank has entered.
    arrivals: Vec<AtomicU64>,
    dead: AtomicBool,
    /// Memory that ranks share, until everyone has taken it.
    memory: Mutex<Vec<Option<Buffer>>>,
    /// Messages that nobody has received yet, by channel, sender and receiver.
    messages: Mutex<HashMap<(usize, usize, usize), Messages>>,
    /// What ranks that split off will have in common, by colour, until everyone has taken it.
    parts: Mutex<HashMap<usize, Arc<Shared>>>,
}

impl Shared {
    fn new(size: usize) -> Arc<Shared> {
        Arc::new(Shared {
            rendezvous: Mutex::new(Rendezvous { slots: vec![Arc::default(); size], arrived: 0, round: 0, dead: false }),
            changed: Condvar::new(),
            arrivals: (0..size).map(|_| AtomicU64::new(0)).collect(),
            dead: AtomicBool::new(false),
            memory: Mutex::new((0..size).map(|_| None).collect()),
            messages: Mutex::default(),
            parts: Mutex::default(),
        })
    }
}

/// A rendezvous: everyone leaves something, then everyone reads all of it.
struct Rendezvous {
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
        Threads::run_on(&[size], work)
    }

    /// As [`Threads::run`], on machines of so many ranks each.
    ///
    /// # Panics
    /// As [`Threads::run`].
    pub fn run_on<T: Send>(nodes: &[usize], work: impl Fn(&Threads) -> T + Sync) -> Vec<T> {
        let size = nodes.iter().sum();
        let shared = Shared::new(size);
        std::thread::scope(|scope| {
            let ranks: Vec<_> = (0..size)
                .map(|rank| {
                    let (shared, work) = (shared.clone(), &work);
                    let nodes = Nodes::new(nodes.iter().copied(), rank);
                    let (bytes, expected) = (Cell::new(0), RefCell::default());
                    scope.spawn(move || work(&Threads { rank, size, shared, bytes, nodes, expected }))
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

    fn lock(&self) -> MutexGuard<'_, Rendezvous> {
        self.shared.rendezvous.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Leaves `mine`, waits for all, returns what everyone left.
    fn exchange(&self, mine: Vec<u8>) -> Vec<Arc<Vec<u8>>> {
        self.bytes.set(self.bytes.get() + mine.len() as u64);
        let mine = Arc::new(mine);
        self.wait_for_all(|rendezvous| rendezvous.slots[self.rank] = mine);
        let all = self.lock().slots.clone();
        // Nobody may leave something new before everyone has read.
        self.wait_for_all(|_| ());
        all
    }

    fn wait_for_all(&self, leave: impl FnOnce(&mut Rendezvous)) {
        let mut rendezvous = self.lock();
        leave(&mut rendezvous);
        rendezvous.arrived += 1;
        let round = rendezvous.round;
        if rendezvous.arrived == self.size {
            rendezvous.arrived = 0;
            rendezvous.round += 1;
            self.shared.changed.notify_all();
        }
        while rendezvous.round == round && !rendezvous.dead {
            rendezvous = self.shared.changed.wait(rendezvous).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        assert!(!rendezvous.dead, "another rank panicked");
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
            self.shared.dead.store(true, Ordering::Relaxed);
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
    fn allreduce_f32(&self, mine: &mut Buffer, total: &mut Buffer) {
        let all = self.exchange(mine.iter().flat_map(|v| v.to_le_bytes()).collect());
        total.fill(0.0);
        for bytes in &all {
            for (sum, four) in total.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *sum += f32::from_le_bytes(*four);
            }
        }
    }
    fn has_processes(&self) -> bool {
        false
    }
    fn nodes(&self) -> &Nodes {
        &self.nodes
    }
    fn allocate_shared(&self, floats: usize) -> Result<Vec<Buffer>, String> {
        let lock = || self.shared.memory.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        lock()[self.rank] = Some(zeros(floats));
        self.node_barrier();
        let parts = lock()[self.nodes.neighbours()].iter().flatten().map(Buffer::alias).collect();
        self.node_barrier();
        Ok(parts)
    }
    fn node_barrier(&self) {
        let round = self.shared.arrivals[self.rank].fetch_add(1, Ordering::AcqRel) + 1;
        for other in self.nodes.neighbours() {
            while self.shared.arrivals[other].load(Ordering::Acquire) < round {
                assert!(!self.shared.dead.load(Ordering::Relaxed), "another rank panicked");
                std::thread::yield_now();
            }
        }
    }
    fn send(&self, channel: usize, to: usize, from: &Buffer, place: Range<usize>, wire: Wire) {
        self.bytes.set(self.bytes.get() + 4 * wire.floats(place.len()) as u64);
        let mut messages = self.shared.messages.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut message = from[place].to_vec();
        if wire == Wire::Bf16 {
            kernels::round_to_bf16(&mut message);
        }
        messages.entry((channel, self.rank, to)).or_default().push_back(message);
    }
    fn receive(&self, channel: usize, from: usize, into: &Buffer, place: Range<usize>, _wire: Wire) {
        self.expected.borrow_mut().push((channel, from, into.alias(), place));
    }
    fn progress(&self) {}
    fn finish(&self, channel: usize) {
        let mut expected = self.expected.borrow_mut();
        let mut index = 0;
        while index < expected.len() {
            let (on, from, into, place) = &mut expected[index];
            if *on != channel {
                index += 1;
                continue;
            }
            let mut messages = self.shared.messages.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let message = messages.get_mut(&(channel, *from, self.rank)).and_then(VecDeque::pop_front);
            drop(messages);
            match message {
                Some(message) => {
                    into[place.clone()].copy_from_slice(&message);
                    expected.remove(index);
                }
                None => {
                    assert!(!self.shared.dead.load(Ordering::Relaxed), "another rank panicked");
                    std::thread::yield_now();
                }
            }
        }
    }
    fn allgather_f64(&self, mine: &[f64], all: &mut [f64]) {
        let everyone = self.exchange(mine.iter().flat_map(|v| v.to_le_bytes()).collect());
        let values = everyone.iter().flat_map(|bytes| bytes.as_chunks::<8>().0).map(|eight| f64::from_le_bytes(*eight));
        all.iter_mut().zip(values).for_each(|(value, new)| *value = new);
    }
    fn allreduce_f64(&self, values: &mut [f64]) {
        self.sum(values, |v| v.to_le_bytes(), f64::from_le_bytes);
    }
    fn allreduce_u64(&self, values: &mut [u64]) {
        self.sum(values, |v| v.to_le_bytes(), u64::from_le_bytes);
    }
    fn allgather(&self, mine: &[u8]) -> Vec<Vec<u8>> {
        self.exchange(mine.to_vec()).iter().map(|bytes| bytes.to_vec()).collect()
    }
    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
        let mine = if self.rank == 0 { bytes } else { Vec::new() };
        self.exchange(mine)[0].to_vec()
    }
    fn barrier(&self) {
        self.wait_for_all(|_| ());
    }
    fn sleeping_barrier(&self) {
        self.wait_for_all(|_| ());
    }
    fn split(&self, colour: usize) -> Box<dyn Communicator + '_> {
        let colours = self.exchange(colour.to_le_bytes().to_vec());
        let ranks: Vec<usize> = (0..self.size).filter(|&rank| colours[rank][..] == colour.to_le_bytes()).collect();
        let lock = || self.shared.parts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let shared = lock().entry(colour).or_insert_with(|| Shared::new(ranks.len())).clone();
        self.wait_for_all(|_| ());
        lock().remove(&colour);
        // Nobody may split again before everyone has taken what is theirs.
        self.wait_for_all(|_| ());
        let rank = ranks.iter().position(|&rank| rank == self.rank).unwrap_or(0);
        let sizes = ranks.chunk_by(|&a, &b| self.nodes.of(a) == self.nodes.of(b)).map(<[usize]>::len);
        let nodes = Nodes::new(sizes, rank);
        let (size, bytes, expected) = (ranks.len(), Cell::new(0), RefCell::default());
        Box::new(Threads { rank, size, shared, bytes, nodes, expected })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::{Solo, Traced};
    use crate::trace::Trace;

    /// Odd and even ranks each sum their numbers, and share memory where the whole does.
    fn parts(comm: &dyn Communicator) {
        let parity = comm.rank() % 2;
        for round in 0..10 {
            let part = comm.split(parity);
            let mut sum = [comm.rank() as u64];
            (0..=round * parity).for_each(|_| part.barrier());
            part.allreduce_u64(&mut sum);
            assert_eq!(sum[0], (0..comm.size() as u64).filter(|rank| *rank as usize % 2 == parity).sum::<u64>());
            assert_eq!((part.rank(), part.size()), (comm.rank() / 2, (comm.size() + 1 - parity) / 2));
            let mut memory = part.allocate_shared(3).unwrap();
            memory[part.nodes().place()].fill(comm.rank() as f32);
            part.node_barrier();
            let neighbours = part.nodes().neighbours();
            assert!(
                memory.iter().zip(neighbours.clone()).all(|(theirs, rank)| theirs[2] == (2 * rank + parity) as f32)
            );
            assert!(neighbours.clone().all(|rank| comm.nodes().of(2 * rank + parity) == comm.nodes().mine()));
            part.node_barrier();
            let alone = part.split(part.rank());
            assert_eq!((alone.size(), alone.allgather(b"x").len()), (1, 1));
        }
        comm.sleeping_barrier();
        let mut all = [1];
        comm.allreduce_u64(&mut all);
        assert_eq!(all[0], comm.size() as u64);
    }

    #[test]
    fn every_twin_splits_into_parts_that_talk_among_themselves() {
        parts(&Solo::default());
        Threads::run(5, |comm| parts(comm));
        Threads::run_on(&[3, 2, 3], |comm| parts(&Traced::new(comm, Trace::with_room(1 << 12))));
    }
}
