//! Seconds of phases that follow one another.

use std::time::Instant;

/// A stopwatch that adds to each phase the time since the last one ended.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts the first phase.
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Ends a phase, whose seconds are added to `phase`, and starts the next one.
    #[inline]
    pub fn lap(&mut self, phase: &mut f64) {
        let now = Instant::now();
        *phase += (now - self.0).as_secs_f64();
        self.0 = now;
    }
}
