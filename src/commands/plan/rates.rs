//! What the kernels of this machine take: measured by whole training steps on one rank, at two sizes.

use std::hint::black_box;
use std::time::Instant;

use super::super::bench::measure::median;
use super::super::bench::work::{TrainingSteps, random_data};
use crate::comm::Solo;
use crate::data::RowShape;
use crate::error::Result;
use crate::kernels::{merge_sums, sgd_update, zeros};
use crate::model::{LayerTimes, Model};
use crate::optim::OptimizerKind;
use crate::train::TrainData;
use crate::train::cost::{Linear, Rates};

/// Rows of the two sizes.
const ROWS: [usize; 2] = [4, 32];

/// Rounds, and seconds of each.
const ROUNDS: usize = 7;
const SECONDS: f64 = 0.05;

/// What the processor takes to hand over a byte through TCP, both ends together, halved: found by `benches/plan_check.sh`.
const BYTE: f64 = 0.25e-9;

/// Waiting for the other ranks of a machine, and how unequal they are: found there, too.
const NODE_BARRIER: f64 = 5e-6;

/// Rows and update of the steps that are measured.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub input: RowShape,
    pub classes: usize,
    pub optimizer: OptimizerKind,
}

/// Times of one round, a step of each.
struct Round {
    /// Below the first dense layer: forward with the preparation of rows, backward.
    images: [f64; 2],
    /// A weight of the dense layers: forward, gradients of inputs, gradients of weights and update.
    dense: [f64; 3],
}

/// Measures.
///
/// # Errors
/// When the system would not give the memory.
pub fn measure(model: &Model, what: Measured) -> Result<Rates> {
    let data = random_data(what.input, what.classes, 256);
    let mut times = Vec::new();
    for rows in ROWS {
        let rounds = rounds(model, &data, rows, what.optimizer)?;
        let of = |part: &dyn Fn(&Round) -> f64| median(rounds.iter().map(part));
        times.push(Round {
            images: [0, 1].map(|part| of(&|round| round.images[part])),
            dense: [0, 1, 2].map(|part| of(&|round| round.dense[part])),
        });
    }
    let line = |part: &dyn Fn(&Round) -> f64| {
        Linear::through([0, 1].map(|size: usize| (ROWS[size] as f64, part(&times[size]))))
    };
    let (merge, update) = sums();
    Ok(Rates {
        images: [0, 1].map(|part| line(&|round| round.images[part])),
        dense: [0, 1, 2].map(|part| line(&|round| round.dense[part])),
        merge,
        update,
        node_barrier: NODE_BARRIER,
        byte: BYTE,
    })
}

fn rounds(model: &Model, data: &TrainData, rows: usize, optimizer: OptimizerKind) -> Result<Vec<Round>> {
    let solo = Solo::default();
    let mut step = TrainingSteps::new(model, data, rows, optimizer, &solo)?;
    step.run();
    let weights: usize = model.dense_steps().iter().map(|step| step.dense.weight.len()).sum();
    let round = |_| {
        step.seconds = Default::default();
        model.start_profile(&mut step.lockstep.workspace);
        let (start, mut steps) = (Instant::now(), 0.0);
        while start.elapsed().as_secs_f64() < SECONDS {
            step.run();
            steps += 1.0;
        }
        let seconds = start.elapsed().as_secs_f64();
        let layers = model.profile(&step.lockstep.workspace);
        let (below, above): (Vec<LayerTimes>, Vec<LayerTimes>) =
            layers.into_iter().partition(|layer| !model.takes_all_rows(layer.step));
        let sum = |layers: &[LayerTimes], part: fn(&LayerTimes) -> f64| layers.iter().map(part).sum::<f64>();
        let forward = sum(&below, |layer| layer.times.forward) + step.seconds.load;
        let dense = [
            sum(&above, |layer| layer.times.forward),
            sum(&above, |layer| layer.times.backward_data),
            sum(&above, |layer| layer.times.backward_weights) + step.seconds.update,
        ];
        // Time outside the profile of layers counts as backward.
        let backward = seconds - forward - dense.iter().sum::<f64>();
        Round {
            images: [forward, backward].map(|part| part / steps),
            dense: dense.map(|part| part / steps / weights.max(1) as f64),
        }
    };
    Ok((0..ROUNDS).map(round).collect())
}

/// A float of a sum that is added, and one of a parameter that is updated by a sum.
fn sums() -> (f64, f64) {
    const FLOATS: usize = 1 << 22;
    let (a, mut b, mut params) = (zeros(FLOATS), zeros(FLOATS), zeros(FLOATS));
    b.fill(1.0);
    params.fill(1.0);
    let mut pass = |merges: &[usize]| {
        let start = Instant::now();
        merge_sums(
            merges,
            FLOATS,
            |sum| if sum == 0 { &a } else { &b },
            |_, place, sum| {
                black_box(sgd_update(&mut params[place], sum, 1.0, 1e-5, 0.0));
            },
        );
        start.elapsed().as_secs_f64() / FLOATS as f64
    };
    let mut times = || {
        let one = pass(&[0]);
        (one, pass(&[0, 1]))
    };
    times();
    let times: Vec<(f64, f64)> = (0..5).map(|_| times()).collect();
    let (one, two) = (median(times.iter().map(|time| time.0)), median(times.iter().map(|time| time.1)));
    let merge = (two - one).max(0.1 * one);
    (merge, (one - merge).max(0.1 * one))
}
