//! Writes that the disk refused, and when they are tried again.

use std::time::{Duration, Instant};

use crate::model::Params;

/// Between two attempts at most; the first pause is a second, and each is twice the one before.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Attempts that failed, on the root.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    pub in_a_row: u64,
    /// No attempt before.
    next: Option<Instant>,
}

impl Patience {
    /// Whether another attempt is due, after one that failed.
    pub fn is_due(&self) -> bool {
        self.next.is_some_and(|next| Instant::now() >= next)
    }

    /// An attempt did well.
    pub fn reset(&mut self) {
        *self = Patience::default();
    }

    /// An attempt failed at this moment: the pause before the next one. What fails in a pause (an epoch's line, say) is not one more
    /// in a row: short epochs would use up a run's patience in seconds.
    pub fn fail(&mut self, now: Instant) -> Duration {
        if let Some(next) = self.next.filter(|next| now < *next) {
            return next - now;
        }
        let pause = Duration::from_secs(1 << self.in_a_row.min(6)).min(LONGEST_PAUSE);
        self.in_a_row += 1;
        self.next = Some(now + pause);
        pause
    }
}

/// Writes that the disk refused, on the root.
#[derive(Debug, Default)]
pub struct Refused {
    pub checkpoints: Patience,
    pub others: Patience,
    /// Parameters of the best epoch, for `best.h5`.
    pub best: Option<Params>,
}

/// Kinds of files: each may fail so often in a row.
#[derive(Clone, Copy)]
pub enum Kind {
    /// The run's state.
    Checkpoint,
    /// Lines and models.
    Other,
}

impl Refused {
    /// From here on all attempts count anew.
    pub fn forget_failures(&mut self) {
        (self.checkpoints, self.others) = Default::default();
    }

    /// Attempts of that kind.
    pub fn of(&mut self, kind: Kind) -> &mut Patience {
        match kind {
            Kind::Checkpoint => &mut self.checkpoints,
            Kind::Other => &mut self.others,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_success() {
        let mut patience = Patience::default();
        assert!(!patience.is_due());
        let mut now = Instant::now();
        let mut fail_when_due = || {
            let pause = patience.fail(now);
            // Too early to count.
            let half = patience.fail(now + pause / 2);
            now += pause;
            (pause.as_secs(), half == pause / 2)
        };
        let pauses = [1, 2, 4, 8, 16, 32, 60, 60].map(|seconds| (seconds, true));
        assert_eq!(std::array::from_fn(|_| fail_when_due()), pauses);
        assert!(!patience.is_due());
        patience.reset();
        assert_eq!(patience.fail(now).as_secs(), 1);
    }
}
