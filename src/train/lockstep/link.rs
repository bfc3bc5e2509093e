//! The network between two machines, measured at the start of a run.

use std::fmt;
use std::time::Instant;

use super::cost::Link;
use crate::comm::{CHANNELS, Communicator, Wire};
use crate::kernels::{Buffer, zeros};

/// Rounds of a size of message.
const ROUNDS: usize = 5;

/// How much longer the next size is.
const STEP: usize = 4;

/// What was measured between two machines.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// What the cost model reckons with.
    pub link: Link,
    /// What speaks for something else having taken the link or the cores meanwhile.
    doubt: Option<&'static str>,
}

impl Default for Measured {
    /// As a rank has it that has measured nothing.
    fn default() -> Measured {
        Measured { link: Link { latency: 0.0, bandwidth: 1.0 }, doubt: None }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "measured: {:.0} us, {:.0} MB/s", self.link.latency * 1e6, self.link.bandwidth / 1e6)?;
        self.doubt.map_or(Ok(()), |doubt| write!(f, "; looks disturbed: {doubt}"))
    }
}

impl Measured {
    /// Collective: between the root and the first rank of the last machine. Messages grow until one takes long enough: what switches
    /// and sockets let through at once says nothing about a stream. Each size is sent in several rounds, of which the fastest counts:
    /// other traffic only makes a message slower.
    pub fn between_machines(comm: &dyn Communicator) -> Measured {
        const MOST: usize = 1 << 19;
        const LONG: f64 = 0.02;
        let other = comm.nodes().ranks(comm.nodes().count() - 1).start;
        let mut sizes = Vec::new();
        if comm.rank() == 0 || comm.rank() == other {
            let mut buffer = zeros(MOST);
            let mut time = |floats: usize| {
                let seconds = [(); ROUNDS].map(|()| half_round_trip(comm, other, &buffer, floats));
                let timed = Timed { bytes: 4.0 * floats as f64, seconds };
                // The root's clock decides.
                buffer[0] = if timed.fastest() < LONG && STEP * floats <= MOST { 1.0 } else { 0.0 };
                sizes.push(timed);
                one_way(comm, (0, other), &buffer, 1);
                buffer[0] == 1.0
            };
            time(1);
            let mut floats = 1 << 15;
            while time(floats) {
                floats *= STEP;
            }
        }
        comm.barrier();
        Measured::of(&sizes)
    }

    /// From the sizes of messages, the first of which has no length to speak of.
    fn of(sizes: &[Timed]) -> Measured {
        let [first, .., last] = sizes else { return Measured::default() };
        // The line through the two largest.
        let before = &sizes[sizes.len().saturating_sub(2)];
        let bandwidth = (last.bytes - before.bytes) / (last.fastest() - before.fastest()).max(1e-9);
        // The whole message, latency and all, cannot be much slower than its last part, nor much faster.
        let whole = last.bytes / last.fastest();
        let (least, most) = (0.5 * whole, 4.0 * whole);
        let doubt = if !(least..=most).contains(&bandwidth) {
            Some("messages of two sizes contradict each other")
        } else if last.median() > 1.5 * last.fastest() {
            Some("one message took very different times")
        } else {
            None
        };
        Measured { link: Link { latency: first.fastest(), bandwidth: bandwidth.clamp(least, most) }, doubt }
    }
}

/// A message of so many bytes, and the seconds that it took in each round.
struct Timed {
    bytes: f64,
    seconds: [f64; ROUNDS],
}

impl Timed {
    fn fastest(&self) -> f64 {
        self.seconds.iter().copied().fold(f64::MAX, f64::min)
    }

    fn median(&self) -> f64 {
        let mut seconds = self.seconds;
        seconds.sort_by(f64::total_cmp);
        seconds[ROUNDS / 2]
    }
}

/// Half the round trip of a message to `other`.
fn half_round_trip(comm: &dyn Communicator, other: usize, buffer: &Buffer, floats: usize) -> f64 {
    let start = Instant::now();
    one_way(comm, (0, other), buffer, floats);
    one_way(comm, (other, 0), buffer, floats);
    start.elapsed().as_secs_f64() / 2.0
}

/// A message of one of the two ranks to the other.
fn one_way(comm: &dyn Communicator, (from, to): (usize, usize), buffer: &Buffer, floats: usize) {
    const CHANNEL: usize = CHANNELS - 1;
    if comm.rank() == from {
        comm.send(CHANNEL, to, buffer, 0..floats, Wire::F32);
    } else {
        comm.receive(CHANNEL, from, buffer, 0..floats, Wire::F32);
    }
    comm.finish(CHANNEL);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of growing sizes through a link of 1 GB/s and 10 us, each round made longer by what `also` says of (size, round).
    fn through(also: impl Fn(usize, usize) -> f64) -> Measured {
        let timed = |size: usize| {
            let bytes = if size == 0 { 4.0 } else { f64::from(1 << 15) * f64::from(1 << (2 * size)) };
            let seconds = std::array::from_fn(|round| 1e-5 + 1e-9 * bytes + also(size, round));
            Timed { bytes, seconds }
        };
        Measured::of(&(0..5).map(timed).collect::<Vec<_>>())
    }

    #[test]
    fn rounds_that_something_else_disturbs_do_not_change_the_link_and_a_disturbed_measurement_shows() {
        let said = |measured: &Measured| measured.to_string();
        let quiet = through(|_, _| 0.0);
        assert_eq!(said(&quiet), "measured: 10 us, 1000 MB/s");
        // Every other message of every size waits: the same figures, without a word as long as most rounds are alike.
        let busy = through(|size, round| if (size + round) % 3 == 0 { 0.1 } else { 0.0 });
        assert_eq!(said(&busy), said(&quiet));
        let busier = through(|_, round| if round > 0 { 0.1 } else { 0.0 });
        assert_eq!(said(&busier), format!("{}; looks disturbed: one message took very different times", said(&quiet)));
        // One size waits in every round: no figure can be right, but none is absurd.
        let mut odd = through(|size, _| if size == 3 { 0.0083 } else { 0.0 });
        assert!(said(&odd).ends_with("messages of two sizes contradict each other"), "{odd}");
        assert!(odd.link.bandwidth <= 4e9, "{odd}");
        odd = through(|size, _| if size == 4 { 1.0 } else { 0.0 });
        assert!(odd.link.bandwidth > 6e6, "{odd}");
    }
}
