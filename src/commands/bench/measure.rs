//! Measuring on a machine that others use too: rounds in which all figures take turns with the peak, and their medians.

use std::hint::black_box;
use std::time::Instant;

use crate::kernels::fma_chains;

/// Rounds that a figure is the median of.
const ROUNDS: usize = 5;

/// The same for what takes longer at once than a figure should.
const SLOW_ROUNDS: usize = 3;

/// Seconds of one run at the peak.
const PEAK_SECONDS: f64 = 2e-3;

/// What the processor could do.
pub struct Peak {
    /// Rounds of multiply-adds that take about [`PEAK_SECONDS`].
    rounds: usize,
}

impl Peak {
    /// Finds out how long a run must be.
    pub fn new() -> Peak {
        let mut peak = Peak { rounds: 1 << 10 };
        while peak.run().1 < PEAK_SECONDS / 2.0 && peak.rounds < 1 << 30 {
            peak.rounds *= 2;
        }
        peak
    }

    /// FLOP/s right now: the best of a few runs.
    pub fn measure(&self) -> f64 {
        (0..3).map(|_| self.run()).map(|(flops, seconds)| flops / seconds).fold(0.0, f64::max)
    }

    fn run(&self) -> (f64, f64) {
        let start = Instant::now();
        let (flops, sum) = fma_chains(black_box(self.rounds), black_box(1.0));
        black_box(sum);
        (flops as f64, start.elapsed().as_secs_f64())
    }
}

/// What was found in one round.
pub struct Round {
    /// FLOP/s at the peak.
    pub peak: f64,
    /// Each work's runs a second.
    pub rates: Vec<f64>,
}

/// Runs `work` until `seconds` have passed, but once at least: how often, and the time it took.
pub fn repeat(seconds: f64, work: &mut impl FnMut()) -> (f64, f64) {
    let (start, mut calls) = (Instant::now(), 0.0);
    loop {
        work();
        calls += 1.0;
        let passed = start.elapsed().as_secs_f64();
        if passed >= seconds {
            return (calls, passed);
        }
    }
}

/// Each work for about `seconds`, in rounds. What takes longer at once runs once a round, in fewer of them.
pub fn rounds(seconds: f64, peak: &Peak, works: &mut [impl FnMut()]) -> Vec<Round> {
    let mut round = |seconds: f64| {
        let peak = peak.measure();
        let rates = works.iter_mut().map(|work| {
            let (calls, passed) = repeat(seconds, work);
            calls / passed
        });
        Round { peak, rates: rates.collect() }
    };
    // This warms up what is short, and counts for what is long.
    let first = round(0.0);
    if first.rates.iter().any(|rate| rate * seconds < 1.0) {
        return std::iter::once(first).chain((1..SLOW_ROUNDS).map(|_| round(0.0))).collect();
    }
    (0..ROUNDS).map(|_| round(seconds / ROUNDS as f64)).collect()
}

/// The middle one of some numbers: of two, the mean.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    (low + high) / 2.0
}

/// The processor's name, where Linux says it.
pub fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
