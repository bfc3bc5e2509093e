//! Which strategy each layer takes.

use super::far::MOST_LAYERS;
use super::team::Team;
use crate::comm::{Comm, Reduce, Strategy, Wire};
use crate::error::Result;
use crate::kernels::DENSE_BLOCK;
use crate::model::{DenseStep, Model};
use crate::train::MICRO_BATCH;

/// How gradients become one, as it was asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// In whose order sums are formed.
    pub reduce: Reduce,
    /// Which strategy dense layers take.
    pub comm: Comm,
    /// Whether ranks of a machine share memory.
    pub window: crate::comm::Window,
    /// The width of numbers that travel between machines.
    pub wire: Wire,
}

/// Rows of the step that the rank with the most of them has.
pub fn most_rows(batch: usize, shards: usize, ranks: usize) -> usize {
    batch.min(shards.div_ceil(ranks) * batch.div_ceil(shards))
}

/// Collective: the dense layers that are shared out, and how, for steps of `batch` rows of which a rank has `most` at most.
///
/// # Errors
/// When what was asked for cannot be.
pub fn choose(model: &Model, (_batch, most): (usize, usize), how: How, team: &Team<'_>) -> Result<Vec<(DenseStep, Strategy)>> {
    let steps = model.dense_steps();
    let can = most <= MICRO_BATCH && !steps.is_empty() && steps.len() <= MOST_LAYERS && how.reduce == Reduce::Tree;
    let splittable = |step: &DenseStep| step.dense.shape.inputs.div_ceil(DENSE_BLOCK) >= team.size();
    if !can || how.comm == Comm::Reduce {
        return Ok(Vec::new());
    }
    let strategy = |step: &DenseStep| match how.comm {
        _ if team.size() == 1 => Strategy::Split,
        Comm::Split if splittable(step) => Strategy::Split,
        Comm::Auto if splittable(step) && !team.is_spread() => Strategy::Split,
        _ => Strategy::Factors,
    };
    Ok(steps.into_iter().map(|step| (step.clone(), strategy(&step))).collect())
}
