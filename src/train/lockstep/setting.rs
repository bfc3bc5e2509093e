//! Who computes a step: the setting of the cost model and of the plan.

use crate::comm::Wire;
use crate::row_count::RowCount;

/// Who computes.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Rows of a step over all ranks.
    pub batch: usize,
    /// The shards that they come from.
    pub shards: usize,
    /// Ranks.
    pub ranks: usize,
    /// Ranks of a machine.
    pub on_machine: usize,
    /// Cores of a machine for them.
    pub cores: f64,
    /// Whether they share memory.
    pub window: bool,
    /// The width of numbers between machines.
    pub wire: Wire,
    /// Rows of batch norms' groups.
    pub norm_rows: RowCount,
    /// Parts of the parameters that the norm of the gradient is summed over, where it is limited.
    pub norm: usize,
}

/// Rows of the step that the rank with the most of them has.
pub fn most_rows(batch: usize, shards: usize, ranks: usize) -> usize {
    batch.min(shards.div_ceil(ranks) * batch.div_ceil(shards))
}
