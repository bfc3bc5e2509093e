//! One stopwatch for all phases.

use std::time::Instant;

/// A stopwatch that hands each phase the time since the last one ended.
pub struct Lap(Instant);

impl Lap {
    /// Starts it.
    pub fn start() -> Lap {
        Lap(Instant::now())
    }

    /// A phase is over.
    pub fn end(&mut self, phase: &mut f64) {
        let now = Instant::now();
        *phase += (now - self.0).as_secs_f64();
        self.0 = now;
    }
}
